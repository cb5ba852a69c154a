"""Queues on PostgreSQL; see `waypost.storage.queue_base`."""
