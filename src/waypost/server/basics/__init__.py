"""Basics without dependencies on other parts of the server: targets, handshakes, random numbers, time."""
