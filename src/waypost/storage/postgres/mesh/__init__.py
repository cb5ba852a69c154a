"""Direct links between the nodes of a PostgreSQL store: messages, and connections of clients that are forwarded."""
