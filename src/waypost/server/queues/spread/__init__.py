"""Consumers over several nodes: one node owns each of them, and takers of other nodes attach there by messages."""
