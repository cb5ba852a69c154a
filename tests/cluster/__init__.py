"""Tests of several servers on one store."""
