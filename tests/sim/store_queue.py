"""A queue of the simulated store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from typing import Any

from tests.sim.disk import OPERATION, Disk, run_now
from waypost.storage.queue_base import Accepted, ConsumerInfo, Message, Queue, QueueInfo

__all__ = ["SimQueue"]

Writing = Callable[[Callable[[], Any], Callable[[Any], None] | None], Coroutine[Any, Any, Any]]
Reading = Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]]


class SimQueue:
    """See `waypost.storage.base.Queue`."""

    def __init__(self, name: str, disk: Disk, write: Writing, read: Reading) -> None:
        self.name = name
        self._disk = disk
        self._write = write
        self._read = read
        self._inner: Queue = disk.store.queue(name)

    async def enqueue(
        self, message_id: str, record: bytes, *, deduplicate_s: float, on_commit: Callable[[Accepted], None]
    ) -> Accepted:
        operation = OPERATION.get()

        def work() -> Accepted:
            accepted: Accepted = run_now(
                self._inner.enqueue(message_id, record, deduplicate_s=deduplicate_s, on_commit=_ignore)
            )
            if not accepted.duplicate:
                self._disk.note("enqueue", self.name, "", (message_id,), accepted.position, operation)
            return accepted

        result: Accepted = await self._write(work, on_commit)
        return result

    async def add_consumer(self, consumer: str) -> ConsumerInfo:
        def work() -> ConsumerInfo:
            self._disk.note("consumer", self.name, consumer, (), 0, None)
            info: ConsumerInfo = run_now(self._inner.add_consumer(consumer))
            return info

        result: ConsumerInfo = await self._write(work, None)
        return result

    async def fetch(self, consumer: str, *, after: int, max_messages: int, max_bytes: int) -> list[Message]:
        messages: list[Message] = await self._read(
            lambda: run_now(self._inner.fetch(consumer, after=after, max_messages=max_messages, max_bytes=max_bytes))
        )
        return messages

    async def settle(self, consumer: str, positions: Collection[int]) -> ConsumerInfo:
        done = tuple(positions)

        def work() -> ConsumerInfo:
            self._disk.note("settle", self.name, consumer, done, 0, None)
            info: ConsumerInfo = run_now(self._inner.settle(consumer, done))
            return info

        result: ConsumerInfo = await self._write(work, None)
        return result

    async def count_delivery(self, consumer: str, position: int) -> None:
        await self._write(lambda: run_now(self._inner.count_delivery(consumer, position)), None)

    async def info(self) -> QueueInfo:
        info: QueueInfo = await self._read(lambda: run_now(self._inner.info()))
        return info


def _ignore(_accepted: object) -> None:
    """Reports come from the store, later."""
