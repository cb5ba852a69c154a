"""A Socket.IO server and client in which no client misses an event."""
