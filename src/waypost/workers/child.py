"""A worker process: it serves the application, and obeys its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping

from waypost import __version__
from waypost.application import Server, join_workers, readiness_of
from waypost.serving.loading import load_served
from waypost.serving.settings import ServeSettings
from waypost.serving.side_app import side_app
from waypost.serving.sides import Part, sides_of
from waypost.serving.wiring import wire_of
from waypost.storage.base import Store
from waypost.storage.choose import Clocks, StoreOptions, is_database, make_store
from waypost.storage.remote.store import RemoteStore
from waypost.storage.wire.link import Link
from waypost.storage.wire.socket_link import socket_link
from waypost.transports.handover.handover import Handover
from waypost.transports.side_listener import SideListener
from waypost.transports.uvicorn_runner import Steered, serve
from waypost.workers.channel import Channel
from waypost.workers.lifeline import end_now, hold_on
from waypost.workers.messages import (
    BEAT_EVERY_S,
    ORDERS,
    Abandon,
    Adopt,
    Beat,
    Drain,
    End,
    Hello,
    Listen,
    Listening,
    OpenLink,
    Order,
    Peer,
    PeerGone,
    PeerLeaving,
    Started,
    Visit,
)
from waypost.workers.peering import Peering
from waypost.workers.process import SIGNALS
from waypost.workers.settings import WorkerSettings

__all__ = ["run_worker"]


def run_worker(settings: WorkerSettings, given: ServeSettings) -> int:
    """Serve the application of a worker until its parent says otherwise. Blocks.

    Args:
        settings: What the parent has started it with.
        given: The options.

    Returns:
        The exit code.

    Raises:
        WaypostError: The application holds no server, or the server could not start.
        Exception: Any error that the application's own code raises while it is imported.
    """
    _obey_only_the_parent()
    for one in (settings.channel, settings.lifeline, *settings.listeners):
        os.set_inheritable(one, False)
    hold_on(settings.lifeline, settings.number)
    sys.argv[:] = settings.arguments
    app, io = load_served(settings.application, given)
    serve_options = given.serve.options
    # The parent has read the keys before its first worker. A later worker must serve clients whatever became of them.
    sides = {
        side.parts: SideListener(side_app(io, side.parts, serve_options, keys_may_come_later=True))
        for side in sides_of(serve_options)
    }
    parent = _Parent(settings, io, sides)
    handover = Handover(parent.peers)
    join_workers(io, handover, parent.make_store)
    listeners = [socket.socket(fileno=one) for one in settings.listeners]
    return serve(
        *(app, io, listeners),
        announce=parent.tell_listening,
        handover=handover,
        orders=parent,
        sides=[*sides.values()],
        wire=wire_of(serve_options),
    )


def _obey_only_the_parent() -> None:
    # Not SIG_IGN: the programs that the application starts would inherit that.
    for one in SIGNALS:
        signal.signal(one, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


class _Parent:
    """The parent, as a worker sees it; see `waypost.transports.uvicorn_runner.Orders`.

    Attributes:
        peers: The other workers.
    """

    def __init__(self, settings: WorkerSettings, io: Server, sides: Mapping[tuple[Part, ...], SideListener]) -> None:
        self._io = io
        self._sides = sides
        self.peers = Peering(settings.number)
        self._channel: Channel[Order] = Channel(socket.socket(fileno=settings.channel), ORDERS)
        self._channel.send(Hello(__version__))
        self._server: Steered | None = None
        self._allowed = asyncio.Event()
        self._has_started = self._is_stopping = False

    def make_store(self, options: StoreOptions, clocks: Clocks) -> Store:
        """Make this worker's store, which the parent has open; a database each worker opens by itself."""
        if is_database(options.spec):
            return make_store(options, clocks)
        return RemoteStore(self._connect, options, clocks)

    async def _connect(self) -> Link:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._channel.send(OpenLink(), theirs)
        return await socket_link(ours, self._lose_store)

    def _lose_store(self) -> None:
        """End at once when the store is gone: what is under way must not be answered any more, as nobody knows it."""
        if self._has_started and not self._is_stopping:
            end_now(self.peers.number, "its link to the store was cut")

    def tell_listening(self, address: str) -> None:
        """Tell that this worker accepts clients."""
        self._channel.send(Listening(address, self._io.describe()))
        self._tell_beat()

    def begin(self, server: Steered) -> None:
        """Begin to obey."""
        self._server = server
        # If the parent is gone, the lifeline ends this process.
        self._channel.start(self._obey, lambda: None)
        self._beat(asyncio.get_running_loop())

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._tell_beat()
        loop.call_later(BEAT_EVERY_S, self._beat, loop)

    def _tell_beat(self) -> None:
        self._channel.send(Beat(readiness_of(self._io).is_ready))

    async def allow(self) -> bool:
        """Wait until all other workers know this one."""
        self._has_started = True
        self._channel.send(Started())
        await self._allowed.wait()
        return not self._is_stopping

    def _obey(self, order: Order, passed: socket.socket | None) -> None:
        assert self._server is not None
        if isinstance(order, Peer):
            if passed is not None:
                self.peers.come(order.number, passed)
        elif isinstance(order, Adopt):
            if passed is not None:
                self._server.adopt(order.slot, passed)
        elif isinstance(order, Abandon):
            self._server.abandon(order.slot)
        elif isinstance(order, PeerGone):
            self.peers.go(order.number)
        elif isinstance(order, PeerLeaving):
            self.peers.leave(order.number)
        elif isinstance(order, Visit):
            if passed is not None:
                self._visit(order, passed)
        elif isinstance(order, Listen):
            self._allowed.set()
        elif isinstance(order, Drain):
            self._is_stopping = True
            self._allowed.set()
            self._server.stop()
        elif isinstance(order, End):
            self._is_stopping = True
            self._allowed.set()
            self._server.end(order.code)

    def _visit(self, order: Visit, connection: socket.socket) -> None:
        side = self._sides.get(order.parts)
        if side is None:  # the file of options has changed since the parent was started
            connection.close()
        else:
            side.take(connection, order.data)
