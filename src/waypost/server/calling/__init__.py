"""Calls of application code: the tasks that run handlers."""
