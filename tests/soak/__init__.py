"""Honest clients beside attackers for an hour: their waits and losses, and the memory of the server."""
