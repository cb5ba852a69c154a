"""Recovery: the stored session of a client that may come back, and what it has missed."""
