"""Typed parameters of handlers, for the server and the client."""
