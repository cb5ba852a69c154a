"""Responses to requests that were handed over and not taken; they are written past uvicorn, on the bare socket."""

from __future__ import annotations

import socket
from contextlib import suppress

from waypost.protocol.handshake import Refuse, refusal_body

__all__ = ["SESSION_UNKNOWN", "UNAVAILABLE", "answer"]


def _response(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"connection: close\r\n\r\n" + body


SESSION_UNKNOWN = _response("400 Bad Request", refusal_body(Refuse(400, 1, "Session ID unknown", "UNKNOWN_SID")))
"""The worker is gone, and the session with it: the client connects anew, and recovers."""
UNAVAILABLE = _response("503 Service Unavailable", b'{"message":"Worker unavailable"}')


def answer(descriptor: int, response: bytes) -> None:
    """Answer a request, and close its connection. A client that still sends a body may see a reset instead.

    Args:
        descriptor: The connection, to which nothing else is being written; it is closed.
        response: The whole response.
    """
    with socket.socket(fileno=descriptor) as sock, suppress(OSError):  # The client may be gone.
        sock.send(response)
        # Another process that still has the connection sees by this that it is answered.
        sock.shutdown(socket.SHUT_RDWR)
