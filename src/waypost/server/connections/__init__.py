"""Connections: who may open one, its session, its rate, and its end."""
