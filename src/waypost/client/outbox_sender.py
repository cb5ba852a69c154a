"""Sends the events of the durable outbox: several at a time, in order, until each is acknowledged or given up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from waypost.client.outbox import Outbox, StoredEvent
from waypost.errors import AckTimeout, EncodingFailed, EventRefused, MalformedPacket, NotConnected, WaypostError
from waypost.logs import get_logger
from waypost.protocol.codec import EncodedEvent
from waypost.protocol.rejections import Rejection
from waypost.retrying import Backoff, RetryPolicy

__all__ = ["OutboxSender"]

logger = get_logger("waypost.client")

_MAX_BYTES = 1 << 18
"""The most bytes of unacknowledged events; an event that is alone may be larger."""

_RETRIES = RetryPolicy(first_s=0.5, longest_s=60.0, jitter=0.5)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The result of sending an event.

    Attributes:
        is_settled: Whether the event need not be sent again.
        error: The reason why it was not handled; ``None`` if it was handled, or if that is unknown.
        is_lost: Whether the connection was lost, or there was none.
        retry_in_s: Seconds until the next attempt; ``None`` for the usual pause.
    """

    is_settled: bool = False
    error: WaypostError | None = None
    is_lost: bool = False
    retry_in_s: float | None = None


class OutboxSender:
    """Sends the events of an outbox while there is a connection.

    A failed event is sent again, with growing pauses, and a Waypost server handles no later event in the meantime. A
    lost connection is not a failure.

    Args:
        outbox: The events.
        send: Sends an event on the current connection, with the place up to which all events are settled; returns the
            rejection, or ``None`` if the server handled the event. Raises `NotConnected`, `AckTimeout`, and
            `EncodingFailed` or `MalformedPacket` if the event can't be sent at all.
        window: Returns the most unacknowledged events.
        retries: The number of times that a failed event is sent again; ``None`` for no limit.
        on_given_up: Awaited with an event that is given up, before it is removed, and the error.

    Attributes:
        outbox: The events.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        send: Callable[[StoredEvent, int], Awaitable[Rejection | None]],
        window: Callable[[], int],
        retries: int | None,
        on_given_up: Callable[[StoredEvent, WaypostError], Awaitable[None]],
    ) -> None:
        self.outbox = outbox
        self._send = send
        self._window = window
        self._retries = retries
        self._on_given_up = on_given_up
        self._failures: dict[int, int] = {}
        self._backoff = Backoff(_RETRIES)
        self._worker: asyncio.Task[None] | None = None
        self._again = False
        self._progress = asyncio.Event()

    async def emit(self, event: EncodedEvent) -> None:
        """Put an event at the end; returns when it is on disk."""
        await self.outbox.append(event)
        self.go_on()

    def failures(self, event: StoredEvent) -> int:
        """Return the number of an event's failures since the client was made."""
        return self._failures.get(event.number, 0)

    def go_on(self) -> None:
        """Send the waiting events; called when there is a connection."""
        self._again = True
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Stop sending."""
        worker = self._worker
        if worker is not None:
            worker.cancel()
            await asyncio.wait((worker,))

    async def drained(self) -> None:
        """Wait until the outbox is empty. May be cancelled."""
        while await self.outbox.count():
            self._progress.clear()
            await self._progress.wait()

    def note_change(self) -> None:
        """Note that an event was removed."""
        self._progress.set()

    async def _work(self) -> None:
        try:
            while self._again:
                self._again = False
                await self._drain()
        except WaypostError:
            logger.exception("the outbox can't be worked on; the next emit or connection tries it again")
        finally:
            self._worker = None

    async def _drain(self) -> None:
        while batch := await self.outbox.first(max_events=self._window(), max_bytes=_MAX_BYTES):
            settled = batch[0].number - 1
            # Tasks start in the order in which they are made, and each sends its event before its first wait.
            outcomes = await asyncio.gather(*(self._try(event, settled) for event in batch))
            pause_s = await self._settle(batch, outcomes)
            if any(outcome.is_lost for outcome in outcomes):
                return
            if pause_s is not None:
                await asyncio.sleep(pause_s)

    async def _try(self, event: StoredEvent, settled: int) -> _Outcome:
        try:
            rejection = await self._send(event, settled)
        except NotConnected:
            return _Outcome(is_lost=True)
        except AckTimeout as timeout:
            return _Outcome(error=timeout, retry_in_s=0)
        except (EncodingFailed, MalformedPacket) as problem:
            return _Outcome(is_settled=True, error=problem)
        if rejection is None:
            return _Outcome(is_settled=True)
        if not rejection.is_final and not rejection.reason:
            return _Outcome()  # the event only waits for an earlier one
        error = EventRefused(rejection.reason, rejection.data, is_final=rejection.is_final)
        return _Outcome(rejection.is_final, error, retry_in_s=rejection.retry_in_s)

    async def _settle(self, batch: list[StoredEvent], outcomes: list[_Outcome]) -> float | None:
        """Remove the settled events; returns the pause before the others are sent again, in seconds."""
        gone: list[int] = []
        failed: _Outcome | None = None
        for event, outcome in zip(batch, outcomes, strict=True):
            is_over = outcome.is_settled
            if outcome.error is not None and not is_over:
                self._failures[event.number] = failures = self.failures(event) + 1
                is_over = self._retries is not None and failures > self._retries
                failed = failed if is_over else failed or outcome
            if is_over:
                gone.append(event.number)
                self._failures.pop(event.number, None)
                if outcome.error is not None:
                    await self._on_given_up(event, outcome.error)
        await self.outbox.remove(gone)
        if gone:
            self.note_change()
            self._backoff = Backoff(_RETRIES)
        if failed is None:
            return None if gone else self._backoff.next_s(random.random())
        logger.info("an event of the outbox is sent again: %s", failed.error)
        return self._backoff.next_s(random.random()) if failed.retry_in_s is None else failed.retry_in_s
