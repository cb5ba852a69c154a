"""What an operator talks to: those among whom its target is looked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from typing import TYPE_CHECKING, Protocol

from waypost.protocol.codec import Codec, EncodedEvent
from waypost.server.basics.targets import Target

if TYPE_CHECKING:
    from waypost.server.cluster.seam import Question, Reply
    from waypost.server.namespaces.channel import Channel

__all__ = ["Audience"]


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

    async def publish(self, target: Target, event: EncodedEvent, *, compress: bool) -> None:
        """Emit an event; see `Feed.publish`."""
        ...

    async def publish_volatile(self, target: Target, event: EncodedEvent, *, compress: bool) -> None:
        """Emit an event to whoever can take it right now; see `Feed.publish_volatile`."""
        ...

    async def each(self, target: Target, action: Callable[[Channel], None]) -> None:
        """Do something with everyone here whom a target means; see `Feed.each`."""
        ...

    def ask_others(self, question: Question, timeout_s: float) -> AsyncIterator[Reply]:
        """Ask the other servers of a cluster; see `Others.ask`."""
        ...

    async def join(self, target: Target, rooms: Collection[str]) -> None:
        """Let all whom a target means join rooms; see `Feed.join`."""
        ...

    async def leave(self, target: Target, rooms: Collection[str]) -> None:
        """Let all whom a target means leave rooms; see `Feed.leave`."""
        ...
