"""The server of python-socketio's `latency` examples: a ping and its pong.

Run it with ``waypost serve examples.ported.latency:io``.
"""

from __future__ import annotations

import waypost

__all__ = ["io"]

io = waypost.Server(recovery=None)  # a pong that came late would be worth nothing


@io.event
async def ping_from_client(socket: waypost.Socket) -> None:
    """Answer at once."""
    await socket.emit("pong_from_server")
