"""Who has which message in hand, noted lazily, and counted against the messages after a crash, as in SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from tests.sim.disk import Disk
from waypost.storage.queue_records import Attempt

__all__ = ["WRITE_AFTER_S", "SimHolds", "blame_holders"]

WRITE_AFTER_S = 0.03
"""What is in hand for less than this is never noted."""

_Key = tuple[str, str, str]


class _Writer(Protocol):
    disk: Disk

    def submit(self, work: Callable[[], Any]) -> asyncio.Future[Any]: ...


class SimHolds:
    """Gathers notes and writes them a little later.

    Args:
        writer: The store.
    """

    def __init__(self, writer: _Writer) -> None:
        self._writer = writer
        self._noted: dict[_Key, int | None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def note(self, queue: str, consumer: str, holder: str, position: int | None) -> None:
        """Note the oldest message that a holder has in hand."""
        self._noted[queue, consumer, holder] = position
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WRITE_AFTER_S, self._write)

    def forget(self, queue: str, consumer: str) -> None:
        """Forget what a consumer's holders have in hand, as it was moved; part of that write."""
        holding = self._writer.disk.holding
        for key in [key for key in holding if key[:2] == (queue, consumer)]:
            del holding[key]

    def stop(self) -> None:
        """Write nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _write(self) -> None:
        self._timer = None
        noted, self._noted = self._noted, {}
        self._writer.submit(lambda: self._apply(noted)).add_done_callback(_heed)

    def _apply(self, noted: dict[_Key, int | None]) -> None:
        for key, position in noted.items():
            if position is None:
                self._writer.disk.holding.pop(key, None)
            else:
                self._writer.disk.holding[key] = position


def blame_holders(disk: Disk) -> None:
    """Count a lost delivery against whatever was in hand when a process was killed."""
    held = sorted({(queue, consumer, position) for (queue, consumer, _), position in disk.holding.items()})
    disk.holding.clear()
    for queue, consumer, position in held:
        backlog = disk.store._queues.backlogs[queue]
        found = backlog.consumers.get(consumer)
        before = (
            next((one for one in backlog.unsettled(found, 0) if one.position == position), None) if found else None
        )
        if found is None or before is None:
            continue
        attempt = Attempt(
            position,
            before.failures,
            before.losses + 1,
            "lost",
            "the server ended",
            disk.store.clock.now(),
            deaths=before.deaths + 1,
        )
        backlog.retry(found, attempt)
        disk.queues.note("blamed", queue, consumer, attempt)


def _heed(written: asyncio.Future[Any]) -> None:
    if not written.cancelled():
        written.exception()
