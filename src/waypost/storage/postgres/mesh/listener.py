"""Takes the connections of other nodes, and of strangers, who get no further than the handshake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from waypost.logs import by_client, get_logger
from waypost.storage.postgres.mesh.connection import MeshConnection
from waypost.storage.postgres.mesh.dialing import Person
from waypost.storage.postgres.mesh.handshake import (
    GREETING_BYTES,
    GREETINGS,
    PROTOCOL,
    Challenge,
    Hello,
    Refused,
    Strangers,
    check_hello,
    make_challenge,
    make_welcome,
)

__all__ = ["Listener", "Unwelcome"]

_logger = get_logger(__name__)

_GREETING_S: Final = 5.0
_MOST_STRANGERS: Final = 64


class Unwelcome(Exception):
    """A node that is proven is not taken at the moment."""


class Listener:
    """The place where other nodes reach this one.

    Args:
        me: This node.
        welcome: Called with the hello of a node that is proven, and its connection. It calls `MeshConnection.expect`,
            and returns the number of the last message that has come of the stream. May raise `Unwelcome`.
    """

    def __init__(self, me: Person, welcome: Callable[[Hello, MeshConnection], int]) -> None:
        self._me = me
        self._welcome = welcome
        self._server: asyncio.Server | None = None
        self._strangers: dict[MeshConnection, asyncio.TimerHandle] = {}
        self._known: set[MeshConnection] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port.

        Args:
            host: The address to listen on.
            port: The port; 0 takes a free one.

        Raises:
            OSError: There is no listening there.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: MeshConnection(self._came), host, port)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Take nothing more."""
        if self._server is not None:
            self._server.close()
        for connection in [*self._strangers, *self._known]:
            connection.abort("this node leaves")

    def _came(self, connection: MeshConnection) -> None:
        challenge = make_challenge()
        if len(self._strangers) >= _MOST_STRANGERS:
            oldest = next(iter(self._strangers))
            self._forget(oldest)
            oldest.abort("there are too many strangers")
        loop = asyncio.get_running_loop()
        timer = loop.call_later(_GREETING_S, connection.abort, "it has not said who it is")
        self._strangers[connection] = timer
        connection.lost.add_done_callback(lambda _: self._forget(connection))
        connection.expect(GREETINGS, GREETING_BYTES, lambda message: self._hello(connection, challenge, message))
        connection.tell(challenge)

    def _hello(self, connection: MeshConnection, challenge: Challenge, hello: Any) -> None:
        try:
            if not isinstance(hello, Hello):
                raise Strangers("it sent something else than a handshake")
            check_hello(hello, challenge, self._me.secret)
        except Strangers as problem:
            _logger.warning("refused a connection to this node's internal address: %s", problem, extra=by_client())
            connection.abort(str(problem))
            return
        self._forget(connection)
        self._known.add(connection)
        try:
            self._check(hello)
            received = self._welcome(hello, connection)
        except Unwelcome as problem:
            connection.tell(Refused(str(problem)))
            connection.close()
            return
        connection.tell(make_welcome(hello, challenge, self._me.secret, received))
        # Before anything else is said on it: it may be somebody else's from now on.
        connection.flush()
        if connection.transport.get_protocol() is not connection:
            self._known.discard(connection)

    def _check(self, hello: Hello) -> None:
        if hello.protocol != PROTOCOL:
            raise Unwelcome(f"this node speaks version {PROTOCOL} of the nodes' protocol, came {hello.protocol}")
        if hello.receiver != self._me.name:
            raise Unwelcome(f"this is node {self._me.name}, and not {hello.receiver}")

    def _forget(self, connection: MeshConnection) -> None:
        self._known.discard(connection)
        timer = self._strangers.pop(connection, None)
        if timer is not None:
            timer.cancel()
