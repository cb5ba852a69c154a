"""The broadcast operator: whom an emit is for, built up step by step and never changed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from waypost.protocol.codec import Codec, EncodedEvent
from waypost.server.feed import Target

__all__ = ["Audience", "Operator"]


class Audience(Protocol):
    """Those among whom a target is looked for: the `Feed` of a namespace, or those of many as one."""

    @property
    def namespace(self) -> str:
        """The namespace that events are encoded for."""
        ...

    @property
    def codec(self) -> Codec:
        """What they are encoded with."""
        ...

    async def publish(self, target: Target, event: EncodedEvent) -> None:
        """Emit an event; see `Feed.publish`."""
        ...

    def publish_volatile(self, target: Target, event: EncodedEvent) -> None:
        """Emit an event to whoever can take it right now; see `Feed.publish_volatile`."""
        ...

    async def join(self, target: Target, rooms: Collection[str]) -> None:
        """Let all whom a target means join rooms; see `Feed.join`."""
        ...

    async def leave(self, target: Target, rooms: Collection[str]) -> None:
        """Let all whom a target means leave rooms; see `Feed.leave`."""
        ...


class Operator:
    """Whom an emit is for. Every method that narrows it down returns a new one; keep and share them freely.

    Made by ``to``, ``in_``, ``except_``, ``broadcast`` and ``volatile`` of a server, namespace or socket.
    """

    __slots__ = ("_feed", "_is_volatile", "_target")

    def __init__(self, feed: Audience, target: Target, *, is_volatile: bool = False) -> None:
        self._feed = feed
        self._target = target
        self._is_volatile = is_volatile

    def to(self, *rooms: str) -> Operator:
        """Add rooms: members of any of them are meant, each once. No rooms at all mean nobody.

        Args:
            rooms: Names of rooms; a socket's id is one too.
        """
        return self._with(Target((self._target.rooms or frozenset()).union(rooms), self._target.except_))

    in_ = to

    def except_(self, *rooms: str) -> Operator:
        """Leave out the members of rooms.

        Args:
            rooms: Names of rooms; a socket's id is one too.
        """
        return self._with(Target(self._target.rooms, self._target.except_.union(rooms)))

    @property
    def volatile(self) -> Operator:
        """The same, but for events that are dropped for every client that can't take them right now."""
        return Operator(self._feed, self._target, is_volatile=True)

    async def emit(self, event: str, *args: Any) -> None:
        """Emit an event to them.

        Args:
            event: Its name; none of Socket.IO's reserved ones.
            args: Its arguments: whatever JSON can carry, and ``bytes`` anywhere in it.

        Raises:
            EncodingFailed: An argument can't be encoded.
            StorageError: The store did not take it; it is delivered to nobody.

        Delivery: in order, exactly once to those who are connected or come back in time. A volatile one at most
        once. Returns when it is in the store; if cancelled it may still be delivered.
        """
        encoded = self._feed.codec.encode_event(self._feed.namespace, event, args)
        if self._is_volatile:
            self._feed.publish_volatile(self._target, encoded)
        else:
            await self._feed.publish(self._target, encoded)

    async def sockets_join(self, *rooms: str) -> None:
        """Let all of them join rooms; those who are away, and may come back, too. Returns when it counts.

        Args:
            rooms: Names of rooms.

        Raises:
            StorageError: The store did not take it; nobody joined.
        """
        await self._feed.join(self._target, rooms)

    async def sockets_leave(self, *rooms: str) -> None:
        """Let all of them leave rooms; those who are away, and may come back, too. Returns when it counts.

        Args:
            rooms: Names of rooms.

        Raises:
            StorageError: The store did not take it; nobody left.
        """
        await self._feed.leave(self._target, rooms)

    def _with(self, target: Target) -> Operator:
        return Operator(self._feed, target, is_volatile=self._is_volatile)
