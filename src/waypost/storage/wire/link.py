"""A link between a host and a node: bytes in order in both directions, until one side closes it."""

from __future__ import annotations

import asyncio
from typing import Protocol

__all__ = ["Link", "MemoryLink", "Receiver", "memory_link"]


class Receiver(Protocol):
    """The side that uses a link, as the link calls it: in the loop's thread. Its methods must not raise."""

    def received(self, data: bytes) -> None:
        """Take bytes from the other side."""
        ...

    def closed(self) -> None:
        """Note that the other side is gone; nothing is received any more. Called at most once."""
        ...


class Link(Protocol):
    """One side of a link."""

    def start(self, receiver: Receiver) -> None:
        """Begin to receive; what came before is kept until then."""
        ...

    def send(self, data: bytes) -> None:
        """Send bytes. Returns at once; nothing happens if the link is closed."""
        ...

    def pause(self) -> None:
        """Receive nothing until `resume`, so that the other side has to wait."""
        ...

    def resume(self) -> None:
        """Receive again."""
        ...

    def close(self) -> None:
        """Close the link. The other side still receives what was sent; this side hears nothing any more."""
        ...


class MemoryLink:
    """One side of a link within one event loop, for tests and simulations; see `Link`.

    Made by `memory_link`.
    """

    __slots__ = ("_is_closed", "_is_paused", "_is_scheduled", "_other_closed", "_receiver", "_waiting", "other")

    def __init__(self) -> None:
        self.other: MemoryLink | None = None
        self._receiver: Receiver | None = None
        self._waiting: list[bytes] = []
        self._is_paused = False
        self._is_closed = False
        self._other_closed = False
        self._is_scheduled = False

    def start(self, receiver: Receiver) -> None:
        """Begin to receive."""
        self._receiver = receiver
        self._schedule()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        if not self._is_closed and self.other is not None:
            self.other.take(data)

    def pause(self) -> None:
        """Receive nothing for now."""
        self._is_paused = True

    def resume(self) -> None:
        """Receive again."""
        self._is_paused = False
        self._schedule()

    def close(self) -> None:
        """Close the link for both sides."""
        if self._is_closed:
            return
        self._is_closed = True
        self._waiting.clear()
        if self.other is not None:
            self.other.end()

    def sever(self) -> None:
        """Break the link: what this side has not received yet is lost, and both sides hear that the other is gone."""
        if self._is_closed:
            return
        receiver, self._receiver = self._receiver, None
        self.close()
        if receiver is not None:
            receiver.closed()

    def take(self, data: bytes) -> None:
        """Keep bytes of the other side for the next turn of the loop."""
        if not self._is_closed:
            self._waiting.append(data)
            self._schedule()

    def end(self) -> None:
        """Note that the other side has closed the link."""
        self._other_closed = True
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled and self._receiver is not None:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        self._is_scheduled = False
        receiver = self._receiver
        while self._waiting and receiver is not None and not self._is_paused and not self._is_closed:
            receiver.received(self._waiting.pop(0))
        if self._other_closed and not self._waiting and receiver is not None and not self._is_closed:
            self._is_closed = True
            receiver.closed()


def memory_link() -> tuple[MemoryLink, MemoryLink]:
    """Return the two sides of a link within the running event loop."""
    one, other = MemoryLink(), MemoryLink()
    one.other, other.other = other, one
    return one, other
