"""Observation of a running server: hooks, counters, debug logs."""
