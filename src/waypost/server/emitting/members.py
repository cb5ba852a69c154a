"""The recipients of events: one client in one namespace, and the set in which a target is resolved."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from typing import Any, Protocol

from waypost.own_loop import OwnLoop
from waypost.protocol.codec import Codec, EncodedEvent
from waypost.server.basics.handshake import Handshake
from waypost.server.basics.targets import Target
from waypost.server.cluster.seam import Question, Reply
from waypost.server.emitting.outflow import Outflow

__all__ = ["Member", "Members"]


class Member(Protocol):
    """One client in one namespace, as emits, queues and recovery see it. Hashable by identity. A `Channel` is one."""

    @property
    def sid(self) -> str:
        """The socket's id."""
        ...

    @property
    def namespace(self) -> str:
        """The namespace's name."""
        ...

    @property
    def codec(self) -> Codec:
        """The codec of its packets."""
        ...

    @property
    def out(self) -> Outflow:
        """Its outgoing events: deliveries, and events that expect an acknowledgement."""
        ...

    @property
    def handshake(self) -> Handshake:
        """The client's request for the connection."""
        ...

    @property
    def client_revision(self) -> int:
        """The revision of `protocol.extension` that the client speaks; 0 for official clients."""
        ...

    @property
    def data(self) -> dict[str, Any]:
        """The application's data for the socket."""
        ...

    @property
    def rooms(self) -> frozenset[str]:
        """Its rooms, its own id included."""
        ...

    @property
    def connected(self) -> bool:
        """Whether the server has answered the client's CONNECT, and the client has not left since."""
        ...

    @property
    def left_because(self) -> str | None:
        """The reason of its end; ``None`` before the end."""
        ...

    @property
    def is_gone(self) -> bool:
        """Whether it has ended, and its client can't come back to its session."""
        ...

    @property
    def was_cut(self) -> bool:
        """True if its connection broke: no side has ended it on purpose, as a client does that leaves its page."""
        ...

    @property
    def has_own_handlers(self) -> bool:
        """Whether this socket has handlers of its own; if so, call `tell_outgoing`."""
        ...

    def tell_outgoing(self, event: EncodedEvent) -> None:
        """Call the application's listeners for outgoing events."""
        ...

    @property
    def is_told(self) -> bool:
        """Whether the application has been told of it: its connect handlers were called."""
        ...

    def disconnect(self) -> None:
        """Send the client a DISCONNECT for this namespace, and end."""
        ...

    def close_connection(self) -> None:
        """Disconnect the client from all its namespaces and close its connection, after the frames already sent."""
        ...


class Members(Protocol):
    """The set in which a target is resolved: the `Feed` of a namespace, or the feeds of several namespaces."""

    @property
    def namespace(self) -> str:
        """The namespace for which events are encoded."""
        ...

    @property
    def codec(self) -> Codec:
        """The codec that encodes events."""
        ...

    @property
    def own_loop(self) -> OwnLoop:
        """The event loop that the server runs on."""
        ...

    async def publish(self, target: Target, event: EncodedEvent, *, compress: bool) -> None:
        """Emit an event; see `Feed.publish`."""
        ...

    async def publish_volatile(self, target: Target, event: EncodedEvent, *, compress: bool) -> None:
        """Emit an event to the members that can take it at once; see `Feed.publish_volatile`."""
        ...

    async def each(self, target: Target, action: Callable[[Member], None]) -> None:
        """Call a function with each member of a target on this server; see `Feed.each`."""
        ...

    async def disconnect(self, target: Target, *, close: bool) -> None:
        """Disconnect all members of a target, and end its sessions; see `Feed.disconnect`."""
        ...

    @property
    def has_others(self) -> bool:
        """Whether there are other servers in the cluster."""
        ...

    def ask_others(self, question: Question, timeout_s: float) -> AsyncIterator[Reply]:
        """Ask the other servers of a cluster; see `Others.ask`."""
        ...

    async def on_this_server(self, target: Target) -> Target:
        """Return a target of those sockets of a target that are on this server now; see `Feed.on_this_server`."""
        ...

    async def join(self, target: Target, rooms: Collection[str]) -> None:
        """Let all members of a target join rooms; see `Feed.join`."""
        ...

    async def leave(self, target: Target, rooms: Collection[str]) -> None:
        """Let all members of a target leave rooms; see `Feed.leave`."""
        ...
