"""Stores the acks, failed attempts and dead letters of one consumer, in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from waypost.errors import StorageError, StoreClosed
from waypost.logs import fields, get_logger
from waypost.retrying import STORE_RETRIES, Backoff
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Attempt, ConsumerRow

__all__ = ["Settler"]

logger = get_logger("waypost.queue")

_MOST_PENDING = 4096
# In one commit: an attempt costs more than an ack, and nobody else's write shall wait for long.
_MOST_ATTEMPTS = 128
# Acks gather for this time before they are stored: nobody waits for them, and a commit costs more than many acks.
_GATHER_S = 0.005


class Settler:
    """The outcomes of one consumer's deliveries that are not stored yet.

    While the store fails (a full disk), writes are repeated by `STORE_RETRIES`. When too much waits, `is_behind`
    stops deliveries, and ``caught_up`` lets them go on.

    Args:
        queue: The stored queue.
        consumer: The consumer.
        epoch: The consumer's epoch.
        stored: Called with the consumer's row after each write.
        caught_up: Called when `is_behind` has ended.
        keep_task: Keeps a task until it is done.

    Attributes:
        epoch: The epoch of all outcomes that are stored from now on.
    """

    __slots__ = (
        "_burials",
        "_caught_up",
        "_consumer",
        "_is_hurried",
        "_keep_task",
        "_queue",
        "_retries",
        "_settled",
        "_stored",
        "_task",
        "_timer",
        "_under_way",
        "epoch",
    )

    def __init__(
        self,
        queue: StoredQueue,
        consumer: str,
        epoch: int,
        stored: Callable[[ConsumerRow], None],
        caught_up: Callable[[], None],
        keep_task: Callable[[asyncio.Task[Any]], None],
    ) -> None:
        self.epoch = epoch
        self._queue = queue
        self._consumer = consumer
        self._stored = stored
        self._caught_up = caught_up
        self._keep_task = keep_task
        self._retries: dict[int, Attempt] = {}
        self._burials: dict[int, Attempt] = {}
        # The ordering keys of the messages, by position.
        self._settled: dict[int, str | None] = {}
        self._under_way: frozenset[int] = frozenset()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_hurried = False

    @property
    def is_behind(self) -> bool:
        """True while so much waits for the store that deliveries should stop."""
        return len(self._settled) + len(self._retries) + len(self._burials) >= _MOST_PENDING

    @property
    def has_retries(self) -> bool:
        """True while failed attempts wait to be stored."""
        return bool(self._retries)

    @property
    def pending(self) -> frozenset[int]:
        """The positions of all that is not stored yet."""
        return self._under_way | self._settled.keys() | self._retries.keys() | self._burials.keys()

    @property
    def acknowledged(self) -> dict[int, str | None]:
        """The positions of the acks that are not stored yet, with the keys of their messages."""
        return dict(self._settled)

    def settle(self, position: int, key: str | None = None) -> None:
        """Store a message's ack soon."""
        self._settled[position] = key
        if self._task is None and self._timer is None:
            self._start_soon()

    def retry(self, attempt: Attempt) -> None:
        """Store a failed attempt."""
        self._retries[attempt.position] = attempt
        self._start()

    def bury(self, attempt: Attempt) -> None:
        """Store a message as a dead letter."""
        self._burials[attempt.position] = attempt
        self._start()

    def drop(self) -> None:
        """Drop what is not stored yet: it belongs to an epoch that has ended."""
        was_behind = self.is_behind
        self._retries.clear()
        self._burials.clear()
        self._settled.clear()
        if was_behind:
            self._caught_up()

    async def flush(self) -> None:
        """Wait until everything is stored."""
        while self._task is not None or self._timer is not None:
            self._start()
            if self._task is not None:
                await asyncio.wait({self._task})

    def hurry(self) -> None:
        """Store at once from now on: the server stops."""
        self._is_hurried = True
        if self._timer is not None:
            self._start()

    def _start_soon(self) -> None:
        """Start after some more acks have gathered."""
        if self._is_hurried:
            self._start()
        else:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_S, self._start)

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._store_gathered())
            self._keep_task(self._task)

    async def _store_gathered(self) -> None:
        backoff = Backoff(STORE_RETRIES)
        try:
            while self._retries or self._burials or self._settled:
                try:
                    await self._store_once()
                    backoff.reset()
                    if not (self._retries or self._burials or self._is_hurried):
                        break
                except StoreClosed:
                    self.drop()
                except StorageError as problem:
                    pause_s = backoff.next_s()
                    logger.error(
                        "queue %r: what consumer %r did is not stored yet, again in %.1f s: %s",
                        self._queue.name, self._consumer, pause_s, problem,
                        extra=fields(queue=self._queue.name, consumer=self._consumer, seconds=pause_s),
                    )  # fmt: skip
                    await asyncio.sleep(pause_s)
                except Exception:
                    # What gathers later would wait behind it for ever.
                    pause_s = backoff.next_s()
                    logger.exception(
                        "queue %r: storing what consumer %r did failed, again in %.1f s",
                        self._queue.name, self._consumer, pause_s,
                        extra=fields(queue=self._queue.name, consumer=self._consumer, seconds=pause_s),
                    )  # fmt: skip
                    await asyncio.sleep(pause_s)
        finally:
            self._under_way = frozenset()
            self._task = None
        if self._settled:
            self._start_soon()

    async def _store_once(self) -> None:
        """Store what has gathered in one round."""
        epoch = self.epoch
        retries, burials, settled = dict(self._retries), dict(self._burials), dict(self._settled)
        self._under_way = frozenset(retries.keys() | burials.keys() | settled.keys())
        # In this order: an ack may follow a failure of the same message, and what followed a dead letter must not be
        # on disk before it.
        for part in _batched(retries):
            self._stored(await self._queue.retry(self._consumer, epoch, list(part.values())))
            self._remove(self._retries, part)
        if retries:
            # The retries may be read again now, though the rest is not stored yet.
            self._under_way = frozenset(burials.keys() | settled.keys())
        for part in _batched(burials):
            self._stored(await self._queue.bury(self._consumer, epoch, list(part.values())))
            self._remove(self._burials, part)
        if settled:
            self._stored(await self._queue.settle(self._consumer, epoch, list(settled)))
            self._remove(self._settled, settled)
        self._under_way = frozenset()

    def _remove(self, entries: dict[int, Any], stored: dict[int, Any]) -> None:
        """Remove the stored entries; an entry that was replaced during the write stays."""
        was_behind = self.is_behind
        for position, entry in stored.items():
            if entries.get(position, ...) is entry:
                del entries[position]
        if was_behind and not self.is_behind:
            self._caught_up()


def _batched(attempts: dict[int, Attempt]) -> Iterator[dict[int, Attempt]]:
    """Split attempts into those that are stored together."""
    rest = iter(attempts.items())
    while part := dict(islice(rest, _MOST_ATTEMPTS)):
        yield part
