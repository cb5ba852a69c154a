"""Namespaces and the sockets in them: how a client gets in, and what handlers see of it."""
