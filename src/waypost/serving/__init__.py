"""The options of ``waypost serve`` with their places, and the application that it serves."""
