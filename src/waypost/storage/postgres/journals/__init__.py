"""The journals of the PostgreSQL store: the log, and the sessions that read it."""
