"""The nodes on a PostgreSQL store: who is alive, who writes, who owns which consumer, and who does the upkeep."""
