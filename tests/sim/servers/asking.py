"""A handler that calls the very client whose event it handles, wherever that client is by then."""

from __future__ import annotations

from collections.abc import Callable

from tests.sim.operations import Operations
from waypost.application import Server
from waypost.server.namespaces.socket import Socket

__all__ = ["install_asking"]


def install_asking(server: Server, operations: Operations, asked: Callable[[str], None]) -> None:
    """Register the handler.

    Args:
        server: The server.
        operations: Takes down what it asks for.
        asked: Called with the sid of each client that it calls.
    """

    async def ask(socket: Socket, timeout_s: float) -> None:
        asked(socket.id)
        await operations.call(socket, timeout_s)
        # The socket's client may have gone on to another server; the socket reaches it all the same.
        await operations.socket_emit(socket)

    for name in ("/", "/n"):
        server.of(name).on("ask", ask)
