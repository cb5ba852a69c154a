"""The semantics of Socket.IO: namespaces, sockets, rooms, acks, recovery, queues. It knows no HTTP and no ASGI."""
