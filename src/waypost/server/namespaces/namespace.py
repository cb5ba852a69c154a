"""A namespace: the application's handlers and middleware, the sockets in it, and emits to them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from waypost.errors import StoreClosed
from waypost.server.basics.targets import Target
from waypost.server.cluster.server_side import AmongServers, ServerSide
from waypost.server.emitting.acks import PendingAcks
from waypost.server.emitting.feed import Feed
from waypost.server.emitting.operator import Broadcasting, Flags
from waypost.server.emitting.rooms import RoomIndex
from waypost.server.events.listening import Listening
from waypost.server.events.registry import NAMESPACE_MOMENTS, Registry
from waypost.server.events.repeats import Repeats
from waypost.server.recovery.live_session import EndedSession
from waypost.server.recovery.snapshot import Snapshot
from waypost.typed.handlers import Handler

if TYPE_CHECKING:
    from waypost.server.calling.runners import Runners
    from waypost.server.emitting.audience import Audience
    from waypost.server.hub import Hub
    from waypost.server.namespaces.channel import Channel
    from waypost.server.namespaces.parents import ParentNamespace
    from waypost.server.queues.deliveries import Deliveries
    from waypost.server.recovery.live_session import LiveSession
    from waypost.server.recovery.recovery import Keeper
    from waypost.storage.base import ExpiredSession

__all__ = ["Namespace"]

_ACK_ID_SPAN = 1 << 30
_RETRY_PAUSES_S = (1.0, 5.0, 25.0, 125.0, 625.0)
"""How long a store that takes nothing (a full disk) is given; what it then has not taken, its next opening mends."""


class Namespace(Broadcasting, Listening, AmongServers):
    """A namespace. Made by `waypost.Server.of`; everything about ``"/"`` is on the server itself too.

    Attributes:
        name: Its name, with the leading slash.
        parent: The parent it is a child of, if it is.
        handlers: What the application has registered for it.
        registries: That, and what it has registered for the parent, in the order in which a handler is looked for.
        middlewares: The application's gates, in order.
        index: The sockets in it and their rooms.
        codec: What its packets are written in.
        feed: Its outgoing events.
        flags: How events go unless it is said otherwise.
        server_side: Events between the servers of a cluster.
        hooks: Who is told of what happens in the server.
        repeats: What clients send again until it is answered.
        keeper: Its sessions; ``None`` with recovery off.
        runners: What runs its handlers.
        threads: Where handlers run that are no coroutines.
        max_buffered_bytes: How much may be held for one socket.
        max_pending_events: How many events of one socket may wait for their handlers.
        concurrent_handlers: How many concurrent handlers of one socket may run at the same time.
    """

    def __init__(self, name: str, hub: Hub, parent: ParentNamespace | None = None) -> None:
        self.name = name
        self.parent = parent
        self.handlers = handlers = Registry(1, NAMESPACE_MOMENTS)
        self._registry = handlers
        self.registries: tuple[Registry, ...] = (handlers,) if parent is None else (handlers, parent.handlers)
        self.middlewares: list[Handler] = []
        self._middlewares = self.middlewares
        self.index: RoomIndex[Channel] = RoomIndex()
        self.codec = hub.codec
        self.feed: Feed = Feed(name, self.codec, self.index, self.ready, hub.ask_others)
        self.flags: Flags = Flags(timeout_s=hub.options.ack_timeout_s)
        self.server_side = ServerSide(self)
        self._server_side = self.server_side
        self._audience: Audience = self.feed
        self._target = Target()
        self._flags = self.flags
        self.keeper: Keeper | None = None
        self.hooks = hub.hooks
        self.repeats: Repeats = hub.repeats
        self.runners: Runners = hub.runners
        self.threads = hub.threads
        self.max_buffered_bytes = hub.options.max_buffered_bytes
        self.max_pending_events = hub.options.max_pending_events
        self.concurrent_handlers = hub.options.concurrent_handlers
        self._hub = hub
        self._attached: dict[bytes, Channel] = {}
        self._parked_acks: dict[bytes, tuple[str, PendingAcks]] = {}
        self._entering: dict[bytes, int] = {}
        self._visitors = 0

    # -- for the rest of the server -------------------------------------------------------------------------

    @property
    def generation(self) -> str:
        """The generation of its journal, ``""`` with recovery off."""
        return "" if self.feed.journal is None else self.feed.journal.generation

    def count_unexpected_ack(self) -> None:
        """Count an ack that nobody waits for."""
        self._hub.counters.unexpected_acks += 1

    def new_acks(self) -> PendingAcks:
        """Make the pending acks of a new socket."""
        return PendingAcks(1 + int(self._hub.environment.random() * _ACK_ID_SPAN))

    def keep_task(self, task: asyncio.Task[Any]) -> None:
        """Hold on to a task until it is done, and let the server wait for it when it stops."""
        self._hub.keep_task(task)

    async def ready(self) -> None:
        """Open its journal, unless that was done before or recovery is off.

        Raises:
            StorageError: The store is not open.
        """
        if self.keeper is None:
            opening = self._hub.openings
            keeper = await self._hub.open_keeper(self.name)
            if opening != self._hub.openings:
                raise StoreClosed(str(self._hub.options.store))
            if keeper is not None and self.keeper is None:
                self.keeper = keeper
                self.feed.journal = keeper.journal

    def forget_store(self) -> None:
        """Let go of a store that could not be opened whole."""
        self.keeper = None
        self.feed.journal = None

    @property
    def deliveries(self) -> Deliveries:
        """What takes queues' messages to sockets."""
        return self._hub.deliveries

    def gate_opened(self, channel: Channel) -> None:
        """Note that a channel's gate is open: queues may deliver to it."""
        self._hub.deliveries.gate_opened(channel)

    async def tell_expired(self, expired: ExpiredSession) -> None:
        """Tell the application that a client did not come back in time."""
        for key, (sid, parked) in list(self._parked_acks.items()):
            if sid == expired.sid:
                del self._parked_acks[key]
                parked.close()
        for handler in self.handlers_of("session_expired"):
            ended = EndedSession(expired.sid, self.name, Snapshot.decode(expired.data).data)
            try:
                await handler.run_with((ended,), self.threads)
            except Exception as error:  # noqa: BLE001  # reported; the application's own fault must not stop the server's upkeep
                self.report_failure("session_expired", expired.sid, error)

    @property
    def is_listened_to(self) -> bool:
        """Whether listeners of the namespace are told of every event that goes out."""
        return any(registry.catch_alls.outgoing for registry in self.registries)

    def handlers_of(self, moment: str) -> list[Handler]:
        """Return the handlers of something that the server itself calls: the parent's comes first."""
        handlers = (registry.get(moment) for registry in reversed(self.registries))
        return [handler for handler in handlers if handler is not None]

    async def run(
        self, handler: Handler, name: str, channel: Channel, *arguments: Any
    ) -> tuple[Any, Exception | None]:
        """Run a handler of the application; what it raises is logged and goes no further.

        Returns:
            What it returned, and what it raised.
        """
        try:
            if handler.leading:
                arguments = (channel.socket, *arguments)
            return await handler.run_with(arguments, self.threads), None
        except Exception as error:  # noqa: BLE001  # reported; the application's own fault must not end its client's connection
            self.report_failure(name, channel.sid, error)
            return None, error

    async def run_server_side(self, handler: Handler, name: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        """Run a handler of an event of another server; what it raises is reported and goes no further.

        Returns:
            Whether it returned, and what.
        """
        try:
            return True, await handler.run_with(handler.convert(arguments), self.threads)
        except Exception as error:  # noqa: BLE001  # reported; the application's own fault must not end the cluster's work
            self.report_failure(name, "", error)
            return False, None

    def report_failure(self, event: str, sid: str, error: BaseException) -> None:
        """Log what the application's code raised, and tell the observers of errors."""
        self.hooks.report_failure(event, sid, self.name, error)

    async def call_handler(self, handler: Handler, channel: Channel, *arguments: Any) -> Any:
        """Run a handler that may refuse; raises what it raises."""
        leading = (channel.socket,) if handler.leading else ()
        return await handler.run_with((*leading, *arguments), self.threads)

    @property
    def gates(self) -> list[Handler]:
        """The middleware that a client has to pass, in order: the parent's first."""
        return self.middlewares if self.parent is None else [*self.parent.middlewares, *self.middlewares]

    # -- who is here ----------------------------------------------------------------------------------------

    @contextmanager
    def visit(self) -> Iterator[None]:
        """While a client is on its way in, or something else is still to be done in it, it is not idle."""
        self._visitors += 1
        try:
            yield
        finally:
            self._visitors -= 1

    @property
    def is_idle(self) -> bool:
        """Whether nobody is in it or on the way, and nothing is left to be done."""
        return not (self._visitors or len(self.index) or self._entering)

    def own(self, channel: Channel, session: LiveSession, rooms: Iterable[str]) -> None:
        """Make a channel the owner of a session, and let it enter the index: from here on events are meant for it."""
        channel.session = session
        self._attached[session.key] = channel
        parked = self._parked_acks.pop(session.key, None)
        if parked is not None:
            _, channel.acks = parked
            for frames in channel.acks.to_resend():
                channel.send(frames)
        channel.register(rooms)

    def owner(self, key: bytes) -> Channel | None:
        """Return the channel that owns a session."""
        return self._attached.get(key)

    def add_to_rooms(self, key: bytes, rooms: Collection[str]) -> None:
        """Let whoever owns a session now be in rooms."""
        owner = self._attached.get(key)
        if owner is not None:
            self.index.add(owner, rooms)

    def take_from_rooms(self, key: bytes, rooms: Collection[str]) -> None:
        """Let whoever owns a session now be no longer in rooms."""
        owner = self._attached.get(key)
        if owner is not None:
            self.index.leave(owner, rooms)

    def drop(self, channel: Channel, *, recoverable: bool) -> None:
        """Let go of a channel that has ended."""
        self.index.remove(channel)
        self._hub.deliveries.detach(channel)
        session = channel.session
        if session is None or self._attached.get(session.key) is not channel:
            return
        del self._attached[session.key]
        if recoverable:
            self._park_acks(session.key, channel)
            self._let_go(session.key)
        else:
            self.end_session(session.key)

    @contextmanager
    def entering(self, key: bytes) -> Iterator[None]:
        """While a session is being taken over: whoever owned it before does not let go of it.

        If nobody owns it in the end, it is let go of then.
        """
        self._entering[key] = self._entering.get(key, 0) + 1
        try:
            yield
        finally:
            self._entering[key] -= 1
            if not self._entering[key]:
                del self._entering[key]
                self._let_go(key)

    def _let_go(self, key: bytes) -> None:
        self._hub.keep_task(asyncio.get_running_loop().create_task(self._detach(key)))

    async def _detach(self, key: bytes) -> None:
        with self.visit():
            await self._detach_in_the_end(key)

    async def _detach_in_the_end(self, key: bytes) -> None:
        for pause_s in _RETRY_PAUSES_S:
            # Looked at just before it is asked for: a client that is coming back may have asked for it by now.
            if self.keeper is None or key in self._attached or key in self._entering or await self.keeper.detach(key):
                return
            await asyncio.sleep(pause_s)

    def end_session(self, key: bytes) -> None:
        """Have a session forgotten; a store that can't do it now is asked again."""
        self._hub.keep_task(asyncio.get_running_loop().create_task(self._end(key)))

    async def _end(self, key: bytes) -> None:
        with self.visit():
            await self._end_in_the_end(key)

    async def _end_in_the_end(self, key: bytes) -> None:
        for pause_s in _RETRY_PAUSES_S:
            if self.keeper is None or await self.keeper.end(key):
                return
            await asyncio.sleep(pause_s)

    def _park_acks(self, key: bytes, channel: Channel) -> None:
        # Calls end by their own timeouts; what they leave behind is swept out here.
        for old in [old for old, (_, parked) in self._parked_acks.items() if not len(parked)]:
            del self._parked_acks[old]
        if len(channel.acks):
            self._parked_acks[key] = (channel.sid, channel.acks)
