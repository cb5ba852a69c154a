"""One namespace, below its public `Namespace`: the members in it, their sessions, and what is called for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from waypost.server.cluster.seam import Question, Reply
from waypost.server.cluster.server_side import ServerSide
from waypost.server.emitting.acks import PendingAcks
from waypost.server.emitting.feed import Feed
from waypost.server.emitting.flags import Flags
from waypost.server.emitting.members import Member
from waypost.server.emitting.rooms import RoomIndex
from waypost.server.events.handling import Handling
from waypost.server.events.registry import NAMESPACE_MOMENTS, Registry
from waypost.server.events.repeats import Repeats
from waypost.server.namespaces.parents import ParentCore
from waypost.server.namespaces.settings import NamespaceSettings
from waypost.server.queues.deliveries import Deliveries
from waypost.server.recovery.keepers import Keepers
from waypost.server.recovery.live_session import EndedSession
from waypost.server.recovery.ownership import Owner, Ownership
from waypost.server.recovery.snapshot import Snapshot
from waypost.server.services import Services
from waypost.storage.base import ExpiredSession
from waypost.typed.handlers import Handler

__all__ = ["NamespaceCore", "Parts"]

_ACK_ID_SPAN = 1 << 30


@dataclass(frozen=True, slots=True)
class Parts:
    """What all namespaces of a server, and the clients in them, are made from.

    Attributes:
        services: What the server's parts share.
        settings: The options that they are run by.
        keepers: Opens the sessions of a namespace.
        repeats: The events that clients send again until they are answered.
        deliveries: Takes the messages of queues to sockets.
    """

    services: Services
    settings: NamespaceSettings
    keepers: Keepers
    repeats: Repeats
    deliveries: Deliveries


class NamespaceCore:
    """One namespace.

    Args:
        name: Its name, with the leading slash.
        parts: What it is made from.
        parent: The parent that it is a child of, if it is.

    Attributes:
        public: The `Namespace` that the application holds.
        handlers: The handlers that the application has registered for it.
        handling: How the application's code is called.
        index: The members in it, and their rooms.
        codec: Writes and reads its packets.
        feed: Its outgoing events.
        flags: How events go unless the application says otherwise.
        server_side: Events between the servers of a cluster.
        ownership: Which member owns which session.
    """

    def __init__(self, name: str, parts: Parts, parent: ParentCore | None = None) -> None:
        services, settings = parts.services, parts.settings
        self.public: Any = None
        self.name = name
        self.parts = parts
        self.parent = parent
        self.handlers = Registry(1, NAMESPACE_MOMENTS)
        self.middlewares: list[Handler] = []
        self.codec = services.codec
        self.index: RoomIndex[Member] = RoomIndex()
        self.handling = Handling(
            name,
            (self.handlers,) if parent is None else (self.handlers, parent.handlers),
            services,
            parts.repeats,
            max_pending_events=settings.max_pending_events,
            concurrent_handlers=settings.concurrent_handlers,
        )
        self.feed = Feed(name, services, self.index, self.ready, self.handling.is_listened_to)
        self.flags = Flags(timeout_s=settings.ack_timeout_s)
        self.server_side = ServerSide(self)
        self.ownership = Ownership(self.index, services)
        self._visitors = 0

    @property
    def all_middlewares(self) -> list[Handler]:
        """The middleware that a client has to pass, in order: the parent's first."""
        return self.middlewares if self.parent is None else [*self.parent.middlewares, *self.middlewares]

    # -- its journal ----------------------------------------------------------------------------------------

    @property
    def generation(self) -> str:
        """The generation of its journal, ``""`` with recovery off."""
        return "" if self.feed.journal is None else self.feed.journal.generation

    async def ready(self) -> None:
        """Open its journal, unless that was done before or recovery is off.

        Raises:
            StorageError: The store is not open.
        """
        if self.ownership.keeper is None:
            keeper = await self.parts.keepers.open(self.name)
            if keeper is not None and self.ownership.keeper is None:
                self.ownership.keeper = keeper
                self.feed.journal = keeper.journal

    def forget_store(self) -> None:
        """Let go of a store that could not be opened whole."""
        self.ownership.keeper = None
        self.feed.journal = None

    async def tell_expired(self, expired: ExpiredSession) -> None:
        """Tell the application that a client did not come back in time."""
        self.ownership.forget_expired(expired.sid)
        for handler in self.handling.handlers_of("session_expired"):
            ended = EndedSession(expired.sid, self.name, Snapshot.decode(expired.data).data)
            try:
                await handler.run_with((ended,), self.handling.threads)
            except Exception as error:  # noqa: BLE001  # reported; the application's own fault must not stop the server's upkeep
                self.handling.report_failure("session_expired", expired.sid, error)

    # -- who is here ----------------------------------------------------------------------------------------

    @contextmanager
    def visit(self) -> Iterator[None]:
        """While a client is on its way in, the namespace is not idle."""
        self._visitors += 1
        try:
            yield
        finally:
            self._visitors -= 1

    @property
    def is_idle(self) -> bool:
        """Whether nobody is in it or on the way, and nothing is left to be done."""
        return not (self._visitors or len(self.index)) and self.ownership.is_idle

    def new_acks(self) -> PendingAcks:
        """Make the pending acks of a new member."""
        return PendingAcks(1 + int(self.parts.services.environment.random() * _ACK_ID_SPAN))

    def drop(self, member: Owner, *, recoverable: bool) -> None:
        """Let go of a member that has ended."""
        self.index.remove(member)
        self.parts.deliveries.detach(member)
        self.ownership.let_go(member, recoverable=recoverable)

    # -- other servers --------------------------------------------------------------------------------------

    def ask_others(self, question: Question, timeout_s: float) -> AsyncIterator[Reply]:
        """Ask the other servers of a cluster about this namespace; see `Others.ask`."""
        return self.feed.ask_others(question, timeout_s)

    async def run_server_side(self, handler: Handler, name: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        """Run a handler of an event of another server; see `Handling.run_server_side`."""
        return await self.handling.run_server_side(handler, name, arguments)
