"""Stores copied from one kind to another, offline."""
