"""The durable backend: one SQLite file."""
