"""Loops over events: ``async for event in client.events("pickup")``."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from waypost.checking.arguments import EVENT, check
from waypost.client.messages import ReceivedMessage
from waypost.own_loop import OwnLoop
from waypost.protocol.answers import answer_value
from waypost.protocol.rejections import nack_values

__all__ = ["EventStream", "ReceivedEvent", "Streams"]


class Settle(Protocol):
    """Acknowledges an event."""

    async def __call__(self, values: Sequence[Any], *, accepted: bool) -> None: ...


class ReceivedEvent:
    """An event that a loop received.

    Attributes:
        name: The event's name.
        args: The event's arguments.
        message: The message's id, attempt and headers, if a queue delivers the event; else ``None``.
    """

    __slots__ = ("_settle", "args", "message", "name")

    def __init__(
        self,
        name: str,
        args: tuple[Any, ...],
        settle: Settle | None,
        message: ReceivedMessage | None = None,
    ) -> None:
        self.name = name
        self.args = args
        self.message = message
        self._settle = settle

    def __repr__(self) -> str:
        return f"<ReceivedEvent {self.name!r} {self.args!r}>"

    @property
    def arg(self) -> Any:
        """The event's only argument, a tuple of several, or ``None``."""
        return answer_value(self.args)

    async def ack(self, *values: Any) -> None:
        """Acknowledge the event. If the server asked for no acknowledgement or has it already, nothing happens.

        A loop acknowledges an event by itself when it asks for the next one.

        Args:
            *values: The acknowledgement's arguments.

        Raises:
            EncodingFailed: A value can't be encoded.
        """
        settle, self._settle = self._settle, None
        if settle is not None:
            await settle(values, accepted=True)

    async def reject(self, reason: str, retry_in_s: float | None = None, *, final: bool = False) -> None:
        """Reject the event; a queue then delivers it again later, or makes it a dead letter.

        Args:
            reason: The reason.
            retry_in_s: Seconds until the next delivery; ``None`` uses the queue's retry delay.
            final: True if the message is not to be delivered again: it is a dead letter at once.
        """
        settle, self._settle = self._settle, None
        if settle is not None:
            await settle(nack_values(reason, retry_in_s, final=final), accepted=False)


class EventStream:
    """A loop over events, in the order of arrival. Made by `waypost.Client.events`.

    It starts when it is made. It ends with `close`, with the ``async with`` block around it, or when the client has
    left. Events that the loop has not asked for wait; too many of them pause reading from the connection.

    An event is acknowledged when the loop asks for the next one. Call `ReceivedEvent.ack` before you leave the loop
    in between.
    """

    __slots__ = ("_line", "_streams")

    def __init__(self, streams: Streams, line: EventLine) -> None:
        self._streams = streams
        self._line = line

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReceivedEvent:
        self._streams.own_loop.enter_or_check("events")
        event = await self._line.next()
        if event is None:
            self._streams.remove(self._line)
            raise StopAsyncIteration
        return event

    async def close(self) -> None:
        """End the loop. Its unacknowledged events are rejected."""
        self._streams.remove(self._line)
        await self._line.reject_all()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class EventLine:
    """The events that wait for one loop.

    Args:
        names: The names of the loop's events; empty for all events.
        most: The most events that may wait.
        most_bytes: The most bytes that waiting events take in memory; a single event may exceed it.
    """

    __slots__ = ("_bytes", "_changed", "_current", "_ended", "_most", "_most_bytes", "_names", "_waiting")

    def __init__(self, names: frozenset[str], most: int, most_bytes: int) -> None:
        self._names = names
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._waiting: deque[tuple[ReceivedEvent, int]] = deque()
        self._current: ReceivedEvent | None = None
        self._changed = asyncio.Event()
        self._ended = False

    def wants(self, event: str) -> bool:
        """Return whether an event is for this loop."""
        return not self._names or event in self._names

    async def put(self, event: ReceivedEvent, size: int) -> None:
        """Append an event that takes so many bytes in memory; waits while too many wait."""
        while self._is_full(size) and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        if self._ended:
            await event.reject("nobody listens any more")
        else:
            self._waiting.append((event, size))
            self._bytes += size
            self._changed.set()

    def _is_full(self, size: int) -> bool:
        return len(self._waiting) >= self._most or (bool(self._waiting) and self._bytes + size > self._most_bytes)

    async def next(self) -> ReceivedEvent | None:
        """Acknowledge the last event and await the next one; ``None`` when the loop has ended. May be cancelled."""
        current, self._current = self._current, None
        if current is not None:
            await current.ack()
        while not self._waiting:
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        self._current, size = self._waiting.popleft()
        self._bytes -= size
        self._changed.set()
        return self._current

    def end(self) -> None:
        """End the loop after the waiting events."""
        self._ended = True
        self._changed.set()

    async def reject_all(self) -> None:
        """End the loop at once, and reject its unacknowledged events."""
        self.end()
        current, self._current = self._current, None
        for event in (current, *(event for event, _ in self._waiting)):
            if event is not None:
                await event.reject("nobody listens any more")
        self._waiting.clear()
        self._bytes = 0


class Streams:
    """The loops over one namespace's events.

    Args:
        own_loop: The event loop of the client.
    """

    __slots__ = ("_lines", "own_loop")

    def __init__(self, own_loop: OwnLoop) -> None:
        self.own_loop = own_loop
        self._lines: list[EventLine] = []

    def open(self, names: Sequence[str], most: int, most_bytes: int) -> EventStream:
        """Start a loop over events.

        Args:
            names: The events' names; empty for all events.
            most: The most events that may wait for the loop.
            most_bytes: The most bytes that waiting events take in memory; a single event may exceed it.

        Raises:
            ConfigurationError: A name is not valid.
        """
        for name in names:
            check("event", name, EVENT)
        line = EventLine(frozenset(names), most, most_bytes)
        self._lines.append(line)
        return EventStream(self, line)

    def remove(self, line: EventLine) -> None:
        """Remove a loop."""
        if line in self._lines:
            self._lines.remove(line)

    def of(self, event: str) -> list[EventLine]:
        """Return the loops over an event."""
        return [line for line in self._lines if line.wants(event)]

    def end(self) -> None:
        """End all loops after their waiting events."""
        for line in self._lines:
            line.end()
        self._lines.clear()
