"""Typed parameters of handlers, for server and client alike."""
