"""Waypost's server beside Node's socket.io and python-socketio on the same work: ``python -m bench.speed``."""
