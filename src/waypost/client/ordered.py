"""Sends events again until they are acknowledged: one at a time, in order (`Options.retries`)."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from waypost.errors import AckTimeout, EventRefused, NotConnected, WaypostError
from waypost.logs import fields, get_logger
from waypost.protocol.codec import EncodedEvent
from waypost.retrying import Backoff, RetryPolicy

__all__ = ["MemoryOutbox", "OrderedSender", "Outbox", "Pending"]

logger = get_logger("waypost.client")

_RETRIES = RetryPolicy(first_s=0.5, longest_s=60.0, jitter=0.5)


@dataclass(frozen=True, slots=True)
class Pending:
    """An event in an outbox.

    Attributes:
        number: The event's number in the outbox; it rises, and is never used twice.
        event: The event.
    """

    number: int
    event: EncodedEvent


class Outbox(Protocol):
    """Keeps events until they are acknowledged, in order.

    An implementation on disk returns from `append` when the event is on disk, and after a restart returns the events
    that were not removed.
    """

    async def append(self, event: EncodedEvent) -> int:
        """Append an event; returns its number.

        Raises:
            NotConnected: The outbox is full.
        """
        ...

    async def head(self) -> Pending | None:
        """Return the oldest event; ``None`` if there is none."""
        ...

    async def remove(self, number: int) -> None:
        """Remove an event that was acknowledged or given up."""
        ...


class MemoryOutbox:
    """An `Outbox` in memory, for the client's lifetime.

    Args:
        namespace: The namespace, for the error.
        most_events: The most events.
        most_bytes: The most bytes of events; an event that is alone may be larger.
    """

    __slots__ = ("_bytes", "_events", "_most_bytes", "_most_events", "_namespace", "_next")

    def __init__(self, namespace: str, *, most_events: int, most_bytes: int) -> None:
        self._namespace = namespace
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._events: deque[Pending] = deque()
        self._bytes = 0
        self._next = 0

    async def append(self, event: EncodedEvent) -> int:
        """Append an event; returns its number.

        Raises:
            NotConnected: The outbox is full.
        """
        too_many = len(self._events) >= self._most_events or self._bytes + event.size > self._most_bytes
        if self._events and too_many:
            waiting = f"emit {event.event!r}, with {len(self._events)} events waiting to be acknowledged"
            raise NotConnected(None, self._namespace, waiting)
        self._events.append(Pending(self._next, event))
        self._bytes += event.size
        self._next += 1
        return self._next - 1

    async def head(self) -> Pending | None:
        """Return the oldest event."""
        return self._events[0] if self._events else None

    async def remove(self, number: int) -> None:
        """Remove an event."""
        for pending in self._events:
            if pending.number == number:
                self._events.remove(pending)
                self._bytes -= pending.event.size
                return


class OrderedSender:
    """Sends the oldest event of an outbox until it is acknowledged or given up, then the next one.

    An attempt counts if no acknowledgement arrived in time, or the server's handler failed. An attempt whose
    connection was lost does not count, and is repeated on the next connection. A final refusal ends the attempts.

    Args:
        outbox: The events.
        ask: Sends an event on the current connection and awaits its acknowledgement. Raises `AckTimeout`,
            `EventRefused` if the server does not handle it, or `NotConnected` without a connection.
        retries: The number of times that an event is sent again; ``None`` for no limit.
        on_given_up: Awaited with an event that was given up, and the error.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        ask: Callable[[EncodedEvent], Awaitable[list[Any]]],
        retries: int | None,
        on_given_up: Callable[[EncodedEvent, WaypostError], Awaitable[None]],
    ) -> None:
        self._outbox = outbox
        self._ask = ask
        self._retries = retries
        self._on_given_up = on_given_up
        self._calls: dict[int, asyncio.Future[list[Any]]] = {}
        self._worker: asyncio.Task[None] | None = None
        self._again = False

    async def emit(self, event: EncodedEvent) -> None:
        """Append an event. Returns when it is in the outbox."""
        await self._outbox.append(event)
        self.go_on()

    async def call(self, event: EncodedEvent) -> list[Any]:
        """Append an event and await its acknowledgement. If cancelled, the event is not sent again."""
        number = await self._outbox.append(event)
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._calls[number] = answer
        self.go_on()
        try:
            return await answer
        except asyncio.CancelledError:
            await self._outbox.remove(number)
            raise
        finally:
            del self._calls[number]

    def go_on(self) -> None:
        """Send the waiting events; called when there is a connection."""
        self._again = True
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._again:
                self._again = False
                await self._drain()
        finally:
            self._worker = None

    async def _drain(self) -> None:
        last: int | None = None
        while (head := await self._outbox.head()) is not None:
            if head.number != last:
                tries, last, backoff = 0, head.number, Backoff(_RETRIES)
            try:
                values = await self._ask(head.event)
            except NotConnected:
                return
            except (AckTimeout, EventRefused) as failure:
                tries += 1
                if self._is_given_up(tries, failure):
                    await self._outbox.remove(head.number)
                    await self._give_up(head, failure)
                    continue
                logger.debug(
                    "event %r is sent again: %s", head.event.event, failure, extra=fields(event=head.event.event)
                )
                if isinstance(failure, EventRefused):  # a refusal may arrive at once, a timeout can't
                    await asyncio.sleep(backoff.next_s(random.random()))
            else:
                await self._outbox.remove(head.number)
                answer = self._calls.get(head.number)
                if answer is not None and not answer.done():
                    answer.set_result(values)

    def _is_given_up(self, tries: int, failure: AckTimeout | EventRefused) -> bool:
        is_final = isinstance(failure, EventRefused) and failure.is_final
        return is_final or (self._retries is not None and tries > self._retries)

    async def _give_up(self, head: Pending, error: WaypostError) -> None:
        answer = self._calls.get(head.number)
        if answer is None:
            await self._on_given_up(head.event, error)
        elif not answer.done():
            answer.set_exception(error)
