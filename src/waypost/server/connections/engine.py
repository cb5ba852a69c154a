"""The table of a server's connections."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from waypost.protocol.handshake import SessionView
from waypost.protocol.revision import Revision
from waypost.protocol.session import EngineSession
from waypost.protocol.session_settings import SessionSettings
from waypost.protocol.worker_sid import name_worker
from waypost.server.basics.handshake import Handshake
from waypost.server.basics.slices import Slices
from waypost.server.basics.traffic import Traffic
from waypost.server.connections.connection import Connection
from waypost.server.connections.deadlines import Deadlines
from waypost.server.connections.ends import Receiver
from waypost.server.watching.hooks import ConnectionOpened, Hooks

__all__ = ["Engine"]

_LATE_S = 5.0
"""For so long the acks of a client count that sent them before it noticed the end of its connection."""


class Engine:
    """The connections of a server, by session id.

    Args:
        settings: The settings that all sessions share.
        new_id: Makes session ids.
        accept: Called with each new connection; returns its receiver.
        hooks: The observers of connections and packets.

    Attributes:
        accept: The function of that name. A test may put another layer above Engine.IO with it.
        slices: The time slices that the input of all connections shares.
        traffic: Counts the bytes of all connections.
        worker: The number of this worker, which session ids name; ``""`` without workers.
        when_forgotten: Called with the number of each connection of which nothing is left.
    """

    def __init__(
        self,
        settings: SessionSettings,
        new_id: Callable[[], str],
        accept: Callable[[Connection], Receiver],
        hooks: Hooks,
    ) -> None:
        self.hooks = hooks
        self.accept = accept
        self._settings = settings
        self._new_id = new_id
        self._connections: dict[str, Connection] = {}
        self._opened = 0
        self._deadlines: Deadlines | None = None
        self.slices = Slices()
        self.traffic = Traffic()
        self.worker = ""
        self.when_forgotten: Callable[[int], None] | None = None
        self._empty = asyncio.Event()
        self._heard = asyncio.Event()
        # Connections that have ended, and whose clients may not have noticed yet.
        self._late: dict[str, Connection] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def renew(self) -> None:
        """Forget the event loop of the connections, which are all closed."""
        self._deadlines = None
        self._empty = asyncio.Event()
        self._heard = asyncio.Event()
        self._late.clear()
        self.slices.renew()

    def open(self, transport: str, handshake: Handshake, revision: Revision) -> Connection:
        """Open a session on a transport. Its open packet is the first frame to send.

        Args:
            transport: ``"polling"`` or ``"websocket"``.
            handshake: The client's request.
            revision: The revision of Engine.IO that the client speaks.

        Returns:
            The connection.
        """
        loop = asyncio.get_running_loop()
        if self._deadlines is None:
            self._deadlines = Deadlines(loop)
        now = loop.time()
        sid = name_worker(self._new_id(), self.worker)
        session = EngineSession(sid, transport, self._settings, now, revision)
        self._opened += 1
        connection = Connection(
            session, handshake, self._opened, self.hooks, self._deadlines, self.slices, self.traffic, self._forget
        )
        self._connections[session.sid] = connection
        if self.hooks.connection_opened.observers:
            self.hooks.connection_opened.tell(ConnectionOpened(connection.number, transport, handshake))
        connection.receiver = self.accept(connection)
        connection.send(())
        return connection

    def get(self, sid: str) -> Connection | None:
        """Return a connection by its session id, one that is closing or hears late acks included; or ``None``."""
        return self._connections.get(sid) or self._late.get(sid)

    def view(self, sid: str) -> SessionView | None:
        """Return the facts about a session that a handshake needs; a session past its deadline is closed first."""
        connection = self._connections.get(sid)
        if connection is not None:
            connection.catch_up()
        connection = self.get(sid)
        return None if connection is None else SessionView(connection.transport, connection.revision)

    def by_transport(self) -> dict[str, int]:
        """Return the number of connections, by transport."""
        return dict(Counter(connection.transport for connection in self._connections.values()))

    def connections(self) -> list[Connection]:
        """Return all connections."""
        return list(self._connections.values())

    def _forget(self, connection: Connection) -> None:
        is_news = self._connections.pop(connection.sid, None) is not None
        if is_news and self.when_forgotten is not None:
            self.when_forgotten(connection.number)
        if connection.late is not None:
            self._late[connection.sid] = connection
            connection.late.when_heard = self._heard.set
            asyncio.get_running_loop().call_later(_LATE_S, self._stop_hearing, connection)
        if not self._connections:
            self._empty.set()

    def _stop_hearing(self, connection: Connection) -> None:
        connection.late = None
        self._late.pop(connection.sid, None)
        self._heard.set()

    async def hear_late(self) -> None:
        """Wait until no ended connection may bring an ack any more. May be cancelled."""
        while any(one.late is not None and one.late.is_expected for one in self._late.values()):
            self._heard.clear()
            await self._heard.wait()

    async def wait_until_empty(self) -> None:
        """Wait until the last connection is closed. May be cancelled."""
        while self._connections:
            self._empty.clear()
            await self._empty.wait()
