"""Queues, their consumers and their dead letters, in the store's file."""
