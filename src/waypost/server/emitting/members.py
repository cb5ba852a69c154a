"""Who an event can be for: one client in a namespace, and those among whom a target is looked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from typing import Any, Protocol

from waypost.protocol.codec import Codec, EncodedEvent
from waypost.server.basics.handshake import Handshake
from waypost.server.basics.targets import Target
from waypost.server.cluster.seam import Question, Reply
from waypost.server.emitting.outflow import Outflow

__all__ = ["Member", "Members"]


class Member(Protocol):
    """One client in one namespace: what emits, queues and recovery need to know of it.

    Hashable, by identity. A `Channel` is one.
    """

    @property
    def sid(self) -> str:
        """The id of its socket."""
        ...

    @property
    def namespace(self) -> str:
        """The name of its namespace."""
        ...

    @property
    def codec(self) -> Codec:
        """Writes its packets."""
        ...

    @property
    def out(self) -> Outflow:
        """What goes out to it: deliveries, and events that expect an ack."""
        ...

    @property
    def handshake(self) -> Handshake:
        """What the client said of itself."""
        ...

    @property
    def client_revision(self) -> int:
        """The revision of `protocol.extension` that the client speaks; 0 for official clients."""
        ...

    @property
    def data(self) -> dict[str, Any]:
        """The application's data."""
        ...

    @property
    def rooms(self) -> frozenset[str]:
        """The rooms it is in, its own id among them."""
        ...

    @property
    def connected(self) -> bool:
        """Whether the client was told that it is connected, and has not left since."""
        ...

    @property
    def left_because(self) -> str | None:
        """Why it has ended; ``None`` while it has not."""
        ...

    @property
    def has_own_handlers(self) -> bool:
        """Whether the application has registered handlers for it alone; then `tell_outgoing` has to be called."""
        ...

    def tell_outgoing(self, event: EncodedEvent) -> None:
        """Tell the application's listeners of an event that goes out to it."""
        ...

    def disconnect(self) -> None:
        """Tell the client that it is disconnected from this namespace, and end."""
        ...

    def close_connection(self) -> None:
        """Disconnect the client from all its namespaces and close its connection, after what was sent."""
        ...


class Members(Protocol):
    """Those among whom a target is looked for: the `Feed` of a namespace, or the feeds of many as one."""

    @property
    def namespace(self) -> str:
        """The namespace that events are encoded for."""
        ...

    @property
    def codec(self) -> Codec:
        """What they are encoded with."""
        ...

    async def publish(self, target: Target, event: EncodedEvent, *, compress: bool) -> None:
        """Emit an event; see `Feed.publish`."""
        ...

    async def publish_volatile(self, target: Target, event: EncodedEvent, *, compress: bool) -> None:
        """Emit an event to the members that can take it right now; see `Feed.publish_volatile`."""
        ...

    async def each(self, target: Target, action: Callable[[Member], None]) -> None:
        """Do something with each member here that a target means; see `Feed.each`."""
        ...

    def ask_others(self, question: Question, timeout_s: float) -> AsyncIterator[Reply]:
        """Ask the other servers of a cluster; see `Others.ask`."""
        ...

    async def join(self, target: Target, rooms: Collection[str]) -> None:
        """Let all members that a target means join rooms; see `Feed.join`."""
        ...

    async def leave(self, target: Target, rooms: Collection[str]) -> None:
        """Let all members that a target means leave rooms; see `Feed.leave`."""
        ...
