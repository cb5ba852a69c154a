"""The trace check: what stores send to PostgreSQL, played against a small pure engine."""
