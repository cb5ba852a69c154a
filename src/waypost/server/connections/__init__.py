"""Connections: who may open one, what it carries, how fast, and its end."""
