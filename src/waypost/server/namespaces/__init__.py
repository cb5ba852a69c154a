"""Namespaces and their sockets: the way a client gets in, and the view of handlers."""
