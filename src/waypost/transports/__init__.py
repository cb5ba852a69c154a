"""The transports of the server: HTTP long-polling and WebSockets, over ASGI or directly on uvicorn."""
