"""Checks of values from the application: options when they are made, arguments at the call."""
