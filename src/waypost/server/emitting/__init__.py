"""Emits: the target of an event, its place in the order, and its delivery to the target's members."""
