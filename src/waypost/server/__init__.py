"""Socket.IO's meaning: namespaces, sockets, rooms, acks, recovery and queue delivery. Knows no HTTP, no ASGI."""
