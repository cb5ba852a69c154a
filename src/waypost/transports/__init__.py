"""What carries connections: ASGI's HTTP and WebSocket."""
