"""The store in a PostgreSQL database, that any number of nodes share."""
