"""One namespace below its public `Namespace`: its members, their sessions, and the application's code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from waypost.errors import ConfigurationError, MalformedPacket
from waypost.logs import fields, get_logger
from waypost.server.calling.faults import fault
from waypost.server.cluster.seam import Question, Reply, ServerSideEvent
from waypost.server.cluster.server_side import ServerSide
from waypost.server.emitting.acks import PendingAcks
from waypost.server.emitting.feed import Feed
from waypost.server.emitting.flags import Flags
from waypost.server.emitting.followed import Followed
from waypost.server.emitting.members import Member
from waypost.server.emitting.rooms import RoomIndex
from waypost.server.events.handling import Handling
from waypost.server.events.registry import NAMESPACE_MOMENTS, Registry
from waypost.server.events.repeats import Repeats
from waypost.server.namespaces.parents import ParentCore
from waypost.server.namespaces.settings import NamespaceSettings
from waypost.server.queues.deliveries import Deliveries
from waypost.server.recovery.crossing import Crossing
from waypost.server.recovery.elsewhere import Elsewhere
from waypost.server.recovery.keepers import Keepers
from waypost.server.recovery.live_session import EndedSession
from waypost.server.recovery.ownership import Ownership
from waypost.server.recovery.snapshot import Snapshot
from waypost.server.recovery.stuck import Undeliverable
from waypost.server.recovery.taking import Owner
from waypost.server.services import Services
from waypost.server.watching.counters import table_of
from waypost.server.watching.hooks import EventUndeliverable
from waypost.storage.journal_records import ExpiredSession
from waypost.typed.handlers import Handler

__all__ = ["NamespaceCore", "Parts"]

logger = get_logger("waypost.namespace")

_ACK_ID_SPAN = 1 << 30
_ACK_IDS_PER_S = 250_000


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that all namespaces of a server share.

    Attributes:
        services: The services that the server's parts share.
        settings: The options of namespaces.
        keepers: Opens the sessions of a namespace.
        elsewhere: The messages between nodes about sessions.
        repeats: The events that clients repeat until they get an answer.
        deliveries: Delivers the messages of queues to sockets.
    """

    services: Services
    settings: NamespaceSettings
    keepers: Keepers
    elsewhere: Elsewhere
    repeats: Repeats
    deliveries: Deliveries


class NamespaceCore:
    """One namespace.

    Args:
        name: The name, with its leading slash.
        parts: The parts that all namespaces share.
        parent: The parent namespace, or ``None``.

    Attributes:
        public: The `Namespace` that the application uses.
        handlers: The handlers that the application has registered.
        handling: Calls the application's code.
        index: The members and their rooms.
        codec: The codec of the packets.
        own_loop: The event loop that the server runs on.
        feed: The outgoing events.
        flags: The default options of an emit.
        server_side: The events between servers of a cluster.
        ownership: The owner of each session.
        has_admitted: Whether a client has got in since the start.
        has_journal: Whether it has a journal and sessions, if the server has recovery.
        counted_as: The name under which its events are counted: that of the parent for a child.
        empty_since: The event loop's time at which the last member or connecting client left, in seconds.
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
        self.own_loop = services.own_loop
        self.index: RoomIndex[Member] = RoomIndex()
        self.counted_as = name if parent is None else parent.counted_as
        self.handling = Handling(
            name,
            self.counted_as,
            (self.handlers,) if parent is None else (self.handlers, parent.handlers),
            services,
            parts.repeats,
            max_pending_events=settings.max_pending_events,
            concurrent_handlers=settings.concurrent_handlers,
            handler_grace_s=settings.handler_grace_s,
        )
        self.feed = Feed(
            name,
            services,
            self.index,
            self.ready,
            self._note_ended,
            self.handling.is_listened_to,
            table_of(services.counters.emits, self.counted_as),
        )
        self.flags = Flags(timeout_s=settings.ack_timeout_s)
        self.server_side = ServerSide(self)
        crossing = Crossing(name, services, parts.elsewhere, settings.handler_grace_s)
        self.ownership = Ownership(self.index, services, crossing)
        parts.elsewhere.enroll(name, self.ownership)
        self.has_journal = parent is None or parent.has_journal
        self.has_admitted = False
        self.empty_since = 0.0
        self._visitors = 0

    @property
    def all_middlewares(self) -> list[Handler]:
        """The middleware that a client has to pass, in order: the parent's first."""
        return self.middlewares if self.parent is None else [*self.parent.middlewares, *self.middlewares]

    # -- its journal ----------------------------------------------------------------------------------------

    @property
    def generation(self) -> str:
        """The generation of the journal; ``""`` with recovery off."""
        return "" if self.feed.journal is None else self.feed.journal.generation

    async def ready(self) -> None:
        """Open the journal, unless it is open, or the namespace has none.

        Raises:
            StorageError: The store is not open.
        """
        if self.ownership.keeper is None and self.has_journal:
            keeper = await self.parts.keepers.open(self.name)
            if keeper is not None and self.ownership.keeper is None:
                keeper.journal.follow(Followed(self.feed, self.index, self.ownership.claimed))
                self.ownership.keeper = keeper
                self.feed.journal = keeper.journal

    def renounce_journal(self) -> None:
        """Have no journal and no sessions: nothing is replayed here.

        Raises:
            ConfigurationError: The journal is open.
        """
        if self.ownership.keeper is not None:
            raise ConfigurationError("recovery", None, f"to be given before {self.name} is used")
        self.has_journal = False

    def forget_store(self) -> None:
        """Drop the journal of a store that failed to open completely."""
        self.ownership.keeper = None
        self.feed.journal = None

    def renew(self) -> None:
        """Forget all that belongs to a closed store; what the application registered stays."""
        self.forget_store()
        self.ownership.forget_all()
        self._visitors = 0
        self.has_admitted = False

    async def tell_expired(self, expired: ExpiredSession) -> None:
        """Call the application's handlers for a client that did not come back in time."""
        await self.ownership.forget_expired(expired.sid)
        try:
            data = Snapshot.decode(expired.data).data
        except MalformedPacket:
            logger.error(
                "%s: socket %s has expired, and its data is damaged",
                self.name,
                expired.sid,
                extra=fields(sid=expired.sid, namespace=self.name),
            )
            data = {}
        await self.tell_ended(expired.sid, data)

    def _note_ended(self, ended: Collection[ExpiredSession]) -> None:
        """Tell of sessions that the application has ended while their clients are away."""

        async def tell() -> None:
            for session in ended:
                await self.tell_expired(session)

        if ended:
            self.parts.services.keep_task(asyncio.get_running_loop().create_task(tell()))

    async def give_up(self, undeliverable: Undeliverable) -> None:
        """End a session whose client can't get an event, and tell of it."""
        stored, hook = undeliverable.stored, self.parts.services.hooks.event_undeliverable
        # Of an event that no packet can carry, the log has a warning for all clients.
        logger.log(
            logging.WARNING if undeliverable.tries else logging.INFO,
            "the session of socket %s in %s ends, its client starts anew: %s",
            stored.sid,
            self.name,
            undeliverable.describe(),
            extra=fields(sid=stored.sid, namespace=self.name),
        )
        if hook.observers:
            hook.tell(
                EventUndeliverable(
                    stored.sid, self.name, undeliverable.event, undeliverable.offset, undeliverable.tries
                )
            )
        self.ownership.end_session(stored.key, stored.sid)
        await self.tell_expired(ExpiredSession(self.name, stored.sid, stored.data))

    async def tell_ended(self, sid: str, data: dict[str, Any]) -> None:
        """Call the application's handlers for a client that is gone and will not come back to its socket."""
        for handler in self.handling.handlers_of("session_expired"):
            try:
                await handler.run_with((EndedSession(sid, self.name, data),), self.handling.threads)
            except BaseException as error:  # noqa: BLE001  # reported; the application's own fault must not stop the server's upkeep
                self.handling.report_failure("session_expired", sid, fault(error))

    # -- who is here ----------------------------------------------------------------------------------------

    @contextmanager
    def visit(self) -> Iterator[None]:
        """Keep the namespace from being idle while a client connects."""
        self._visitors += 1
        try:
            yield
        finally:
            self._visitors -= 1
            self._note_empty()

    @property
    def is_idle(self) -> bool:
        """Whether the namespace has no members, no connecting clients, and no pending work."""
        return not (self._visitors or len(self.index)) and self.ownership.is_idle

    def new_acks(self) -> PendingAcks:
        """Make the pending acknowledgements of a new member.

        Ack ids begin where the store's clock is, which goes on over restarts, and faster than any client gets events.
        So an id of an earlier session, or of the time before a kill, does not come again for more than an hour.
        """
        now = self.parts.services.store.clock.now()
        return PendingAcks(1 + int(now * _ACK_IDS_PER_S) % _ACK_ID_SPAN)

    def drop(self, member: Owner, *, recoverable: bool) -> None:
        """Remove a member that has ended."""
        self.index.remove(member)
        self.parts.deliveries.detach(member, recoverable=recoverable and member.session is not None)
        self.ownership.let_go(member, recoverable=recoverable)
        self._note_empty()

    def _note_empty(self) -> None:
        if not (self._visitors or len(self.index)):
            self.empty_since = asyncio.get_running_loop().time()

    # -- other servers --------------------------------------------------------------------------------------

    def ask_others(self, question: Question, timeout_s: float) -> AsyncIterator[Reply]:
        """Ask the other servers of a cluster about this namespace; see `Others.ask`."""
        return self.feed.ask_others(question, timeout_s)

    def tell_others(self, event: ServerSideEvent) -> None:
        """Send the other servers of a cluster an event for this namespace; see `Others.tell`."""
        self.parts.services.others.tell(self.name, event)

    async def run_server_side(self, handler: Handler, name: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        """Run a handler of an event of another server; see `Handling.run_server_side`."""
        return await self.handling.run_server_side(handler, name, arguments)
