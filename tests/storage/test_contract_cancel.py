"""Messages that are not due yet are removed by their id, on every backend."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import waypost
from tests.server.model_client import running
from tests.storage.backends import QUEUE_BACKENDS, Clock, ignore, settle
from tests.support.waiting import until_async
from waypost.storage.base import Store
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Attempt, DeadLetterFilter, NewMessageRow

on_every_backend = pytest.mark.parametrize("factory", QUEUE_BACKENDS, indirect=True)


async def put(queue: StoredQueue, *messages: NewMessageRow, deduplicate_s: float = 600) -> list[bool]:
    """Enqueue messages; returns which are duplicates."""
    enqueued = await queue.enqueue(messages, deduplicate_s=deduplicate_s, on_commit=ignore)
    return [one.duplicate for one in enqueued.accepted]


def later(message_id: str, delay_s: float = 60) -> NewMessageRow:
    return NewMessageRow(message_id, b"record", delay_s=delay_s, headers='{"a":"1"}')


@on_every_backend
async def test_what_is_not_due_is_gone_and_its_id_is_free(store: Store, clock: Clock) -> None:
    queue = store.queue("q")
    await put(queue, later("a"), later("b"))
    assert await queue.cancel("a") == 1
    assert await queue.cancel("a") == 0
    info = await queue.info()
    assert (info.delayed, info.messages, info.bytes) == (1, 0, len(b"record") + len('{"a":"1"}'))
    assert await put(queue, later("a", 120), later("b")) == [False, True]
    clock.now += 60
    await store.release_due()
    assert [one.id for one in await queue.peek(after=0, max_messages=9, max_bytes=999)] == ["b"]
    clock.now += 60
    await store.release_due()
    assert [one.id for one in await queue.peek(after=0, max_messages=9, max_bytes=999)] == ["b", "a"]
    assert (await queue.info()).delayed == 0


@on_every_backend
async def test_what_is_due_or_was_never_there_stays_as_it_is(store: Store, clock: Clock) -> None:
    queue = store.queue("q")
    assert await queue.cancel("nothing") == 0
    assert [one.name for one in await store.queues()] == []
    await put(queue, NewMessageRow("now", b"r"), later("soon", 1))
    clock.now += 1
    await store.release_due()
    assert (await queue.cancel("now"), await queue.cancel("soon")) == (0, 0)
    assert (await queue.info()).messages == 2
    assert await put(queue, NewMessageRow("now", b"r"), later("soon")) == [True, True]


@on_every_backend
async def test_all_with_the_id_are_gone_and_no_redriven_one(store: Store, clock: Clock) -> None:
    queue = store.queue("q")
    await put(queue, later("a"), later("a"), deduplicate_s=0)
    assert await queue.cancel("a") == 2
    await queue.add_consumer("c")
    await put(queue, NewMessageRow("a", b"r"))
    await queue.bury("c", (await queue.consumer("c")).epoch, [Attempt(1, 1, 0, "rejected", "no", clock.now)])
    await queue.redrive(DeadLetterFilter(), after=0, max_letters=9, spacing_s=1, first_at=clock.now + 1)
    assert await queue.cancel("a") == 0
    clock.now += 1
    await store.release_due()
    assert (await settle(queue, "c", [2])).waiting == 0


async def test_an_application_cancels_what_it_has_published_and_emitted(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    async with running(waypost.Server(store=path, drain_s=0)) as io:
        queue = io.queue("reminders")
        await queue.emit("remind", id=7, delay_s=60)
        with closing(sqlite3.connect(path)) as connection, connection:
            queue.publish(connection, "remind", id="published", delay_s=60)
        assert await queue.cancel("published")
        assert await queue.cancel(7)
        assert not await queue.cancel(7)
        await until_async(queue.info, lambda info: (info.delayed, info.messages) == (0, 0), "nothing is left")
        with pytest.raises(waypost.ConfigurationError, match="id"):
            await queue.cancel("")
