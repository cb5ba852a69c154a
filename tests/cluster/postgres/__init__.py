"""Several servers on one PostgreSQL database, each with its own event loop or process."""
