"""A queue of the simulated store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Any

from tests.sim.disk import OPERATION, Disk, run_now
from tests.sim.store_holds import SimHolds
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import (
    Attempt,
    Configuration,
    ConsumerRow,
    DeadLetterFilter,
    DeadLetterRow,
    Enqueued,
    MessageRow,
    NewMessageRow,
    Place,
    QueueLimits,
    QueueRow,
    Redriven,
    Retries,
)

__all__ = ["SimQueue"]

Writing = Callable[[Callable[[], Any], Callable[[Any], None] | None], Coroutine[Any, Any, Any]]
Reading = Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]]


class SimQueue:
    """See `waypost.storage.queue_base.Queue`."""

    def __init__(self, name: str, disk: Disk, write: Writing, read: Reading, holds: SimHolds | None) -> None:
        self.name = name
        self._disk = disk
        self._writing = write
        self._reading = read
        self._holds = holds
        self._inner: StoredQueue = disk.store.queue(name)

    async def enqueue(
        self, messages: Sequence[NewMessageRow], *, deduplicate_s: float, on_commit: Callable[[Enqueued], None]
    ) -> Enqueued:
        operation = OPERATION.get()

        def work() -> Enqueued:
            adding = self._inner.enqueue(messages, deduplicate_s=deduplicate_s, on_commit=_ignore)
            enqueued: Enqueued = run_now(_finish(adding))
            for one in enqueued.accepted:
                if not one.duplicate:
                    self._disk.note("enqueue", self.name, "", (one.id,), one.position, operation)
            self._disk.queues.note("enqueue", self.name, "", tuple(messages), deduplicate_s, enqueued)
            return enqueued

        result: Enqueued = await self._writing(work, on_commit)
        return result

    def publish(self, connection: Any, message: NewMessageRow, *, deduplicate_s: float) -> None:
        self._inner.publish(connection, message, deduplicate_s=deduplicate_s)

    async def peek(self, *, after: int, max_messages: int, max_bytes: int) -> list[MessageRow]:
        found: list[MessageRow] = await self._read(
            lambda: self._inner.peek(after=after, max_messages=max_messages, max_bytes=max_bytes)
        )
        return found

    async def purge(self, *, upto: int | None = None) -> int:
        return int(await self._write("purge", "", (upto,), lambda: self._inner.purge(upto=upto)))

    async def cancel(self, message_id: str) -> int:
        return int(await self._write("cancel", "", (message_id,), lambda: self._inner.cancel(message_id)))

    async def configure(self, limits: QueueLimits | None, settings: bytes) -> None:
        await self._write("configure", "", (), lambda: self._inner.configure(limits, settings))

    async def configuration(self) -> Configuration:
        found: Configuration = await self._read(self._inner.configuration)
        return found

    async def delete(self) -> None:
        await self._write("delete", "", (), self._inner.delete)

    async def info(self) -> QueueRow:
        info: QueueRow = await self._read(self._inner.info)
        return info

    async def add_consumer(self, consumer: str, *, start: Place = "oldest") -> ConsumerRow:
        return await self._change(
            "consumer", consumer, (), lambda: self._inner.add_consumer(consumer, start=start), start
        )

    async def consumer(self, consumer: str) -> ConsumerRow:
        info: ConsumerRow = await self._read(lambda: self._inner.consumer(consumer))
        return info

    async def consumers(self, *, after: str = "", max_consumers: int = 1000) -> list[ConsumerRow]:
        infos: list[ConsumerRow] = await self._read(
            lambda: self._inner.consumers(after=after, max_consumers=max_consumers)
        )
        return infos

    async def seek(self, consumer: str, place: Place) -> ConsumerRow:
        def seek() -> Coroutine[Any, Any, ConsumerRow]:
            if self._holds is not None:
                self._holds.forget(self.name, consumer)
            return self._inner.seek(consumer, place)

        return await self._change("seek", consumer, (place,), seek, place)

    async def pause(self, consumer: str | None, *, until: float) -> None:
        await self._write("pause", consumer or "", (until,), lambda: self._inner.pause(consumer, until=until), until)

    async def remove_consumer(self, consumer: str) -> None:
        await self._write("remove", consumer, (), lambda: self._inner.remove_consumer(consumer))

    async def forget_loss(self, consumer: str, upto: int) -> ConsumerRow:
        return await self._change("told", consumer, (upto,), lambda: self._inner.forget_loss(consumer, upto), upto)

    async def fetch(self, consumer: str, *, after: int, max_messages: int, max_bytes: int) -> list[MessageRow]:
        messages: list[MessageRow] = await self._read(
            lambda: self._inner.fetch(consumer, after=after, max_messages=max_messages, max_bytes=max_bytes)
        )
        return messages

    async def fetch_key(
        self, consumer: str, key: str, *, after: int, upto: int, max_messages: int, max_bytes: int
    ) -> list[MessageRow]:
        messages: list[MessageRow] = await self._read(
            lambda: self._inner.fetch_key(
                consumer, key, after=after, upto=upto, max_messages=max_messages, max_bytes=max_bytes
            )
        )
        return messages

    async def fetch_retries(
        self, consumer: str, *, upto: int, held: Collection[int], max_messages: int, max_bytes: int
    ) -> Retries:
        unwanted = {*held}
        retries: Retries = await self._read(
            lambda: self._inner.fetch_retries(
                consumer, upto=upto, held=unwanted, max_messages=max_messages, max_bytes=max_bytes
            )
        )
        return retries

    async def settle(self, consumer: str, epoch: int, positions: Collection[int]) -> ConsumerRow:
        done = tuple(positions)
        return await self._change(
            "settle", consumer, done, lambda: self._inner.settle(consumer, epoch, done), epoch, done
        )

    async def retry(self, consumer: str, epoch: int, attempts: Sequence[Attempt]) -> ConsumerRow:
        ended = tuple(attempts)
        return await self._change(
            "retry", consumer, ended, lambda: self._inner.retry(consumer, epoch, ended), epoch, ended
        )

    async def bury(self, consumer: str, epoch: int, attempts: Sequence[Attempt]) -> ConsumerRow:
        ended = tuple(attempts)
        return await self._change(
            "bury", consumer, ended, lambda: self._inner.bury(consumer, epoch, ended), epoch, ended
        )

    def hold(self, consumer: str, holder: str, position: int | None) -> None:
        if self._holds is not None:
            self._holds.note(self.name, consumer, holder, position)

    async def dead_letters(
        self, matching: DeadLetterFilter, *, after: int, max_letters: int, max_bytes: int
    ) -> list[DeadLetterRow]:
        letters: list[DeadLetterRow] = await self._read(
            lambda: self._inner.dead_letters(matching, after=after, max_letters=max_letters, max_bytes=max_bytes)
        )
        return letters

    async def redrive(
        self,
        matching: DeadLetterFilter,
        *,
        after: int,
        upto: int | None = None,
        max_letters: int,
        spacing_s: float,
        first_at: float,
    ) -> Redriven:
        redriven: Redriven = await self._write(
            "redrive",
            "",
            (),
            lambda: self._inner.redrive(
                matching,
                after=after,
                upto=upto,
                max_letters=max_letters,
                spacing_s=spacing_s,
                first_at=first_at,
            ),
            spacing_s,
            first_at,
        )
        return redriven

    async def discard_dead(self, matching: DeadLetterFilter, *, max_letters: int) -> int:
        return int(
            await self._write("discard", "", (), lambda: self._inner.discard_dead(matching, max_letters=max_letters))
        )

    async def _read(self, read: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return await self._reading(lambda: run_now(read()))

    async def _write(
        self, kind: str, who: str, what: tuple[Any, ...], write: Callable[[], Coroutine[Any, Any, Any]], *details: Any
    ) -> Any:
        def work() -> Any:
            self._disk.note(kind, self.name, who, what, 0, None)
            result = run_now(write())
            self._disk.queues.note(kind, self.name, who, *details, result)
            return result

        return await self._writing(work, None)

    async def _change(
        self, kind: str, who: str, what: tuple[Any, ...], write: Callable[[], Coroutine[Any, Any, Any]], *details: Any
    ) -> ConsumerRow:
        info: ConsumerRow = await self._write(kind, who, what, write, *details)
        return info


def _ignore(_enqueued: object) -> None:
    """Reports come from the store, later."""


async def _finish(adding: Awaitable[Enqueued]) -> Enqueued:
    return await adding
