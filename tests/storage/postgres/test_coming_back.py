"""A node that was cut off from PostgreSQL until others took it for dead: what it has again, and what it has lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from tests.storage.followers import QueueNews, Rows
from tests.support.postgres_nodes import PostgresEngine
from tests.support.waiting import until, until_async
from waypost.errors import StorageError
from waypost.storage.base import Store
from waypost.storage.choose import MACHINE_CLOCKS, StoreOptions
from waypost.storage.queue_records import Attempt, DeadLetterFilter, NewMessageRow


@asynccontextmanager
async def two() -> AsyncIterator[tuple[PostgresEngine, Store, Store]]:
    """Two nodes, ``a`` and ``b``, each with a line of its own to the engine."""
    async with AsyncExitStack() as stack:
        engine = PostgresEngine()
        stack.push_async_callback(engine.close)
        stores = []
        for name in "ab":
            store = engine.make_store(name, StoreOptions(spec=engine.url, orphan_ttl_s=100), MACHINE_CLOCKS)
            await store.open()
            stack.push_async_callback(store.close)
            stores.append(store)
        await until(lambda: all(one.nodes is not None and one.nodes.others for one in stores), "they know each other")
        yield engine, stores[0], stores[1]


def others(store: Store) -> list[str]:
    """Return which nodes a node knows to be alive."""
    assert store.nodes is not None
    return [*store.nodes.others]


def ignore(_: int) -> None:
    """Take no note."""


async def test_it_has_again_what_nobody_took_and_only_that() -> None:
    async with two() as (engine, a, b):
        on_a, on_b = await a.journal("/"), await b.journal("/")
        rows_a, rows_b = Rows(on_a), Rows(on_b)
        for key in (b"kept", b"taken"):
            await on_a.open_session(key, key.decode(), b"before", ignore)
        engine.freeze("a")
        await until(lambda: others(b) == [], "a is dead for b")
        kept = await on_b.find_session(b"kept")
        assert kept is not None
        assert kept.expires_at is not None, "it would end if its node did not come back"
        await on_b.claim_session(b"taken")
        assert await on_b.attach_session(b"taken", lambda _: None) is not None
        await on_b.save_session(b"taken", b"by b")
        await on_b.append(b"meanwhile", lambda _: None)
        engine.thaw("a")
        await until(lambda: rows_a.claims == [b"taken"], "a hears what it has lost")
        await until(lambda: others(b) == ["a"], "a is there again")
        await until_async(lambda: _saved(on_a, b"taken", b"by the ghost"), bool, "a writes again")
        await on_a.save_session(b"kept", b"by a")
        kept, taken = await on_b.find_session(b"kept"), await on_b.find_session(b"taken")
        assert kept is not None
        assert taken is not None
        assert (kept.data, kept.expires_at) == (b"by a", None)
        assert (taken.data, taken.expires_at) == (b"by b", None)
        assert rows_b.claims == []
        assert (1, b"meanwhile") in rows_a.rows


async def _saved(journal: object, key: bytes, data: bytes) -> bool:
    try:
        await journal.save_session(key, data)  # type: ignore[attr-defined]
    except StorageError:
        return False
    return True


async def test_its_acks_count_no_more_when_another_node_owns_the_consumer() -> None:
    async with two() as (engine, a, b):
        assert a.nodes is not None
        assert b.nodes is not None
        news_a, news_b = QueueNews(), QueueNews()
        a.nodes.follow_queues(news_a)
        b.nodes.follow_queues(news_b)
        queue_a, queue_b = a.queue("q"), b.queue("q")
        epoch = (await queue_a.add_consumer("c")).epoch
        messages = [NewMessageRow(str(number), b"job") for number in range(2)]
        await queue_a.enqueue(messages, deduplicate_s=0, on_commit=lambda _: None)
        assert await a.nodes.claim_consumer("q", "c") == "a"
        assert await b.nodes.claim_consumer("q", "c") == "a"
        engine.freeze("a")
        settling = asyncio.ensure_future(queue_a.settle("c", epoch, [1]))
        await until(lambda: news_b.free == [("q", "c")], "b hears that it is free")
        assert await b.nodes.claim_consumer("q", "c") == "b"
        unsettled = len(await queue_b.fetch("c", after=0, max_messages=10, max_bytes=1000))
        engine.thaw("a")
        await until(lambda: news_a.free == [("q", "c")], "a hears that it has lost it")
        await asyncio.wait([settling])
        await until_async(lambda: _settled(queue_a, epoch), bool, "a is heard again")
        assert len(await queue_b.fetch("c", after=0, max_messages=10, max_bytes=1000)) == unsettled
        await queue_b.settle("c", epoch, [1, 2])
        assert await queue_b.fetch("c", after=0, max_messages=10, max_bytes=1000) == []


async def _settled(queue: object, epoch: int) -> bool:
    try:
        await queue.settle("c", epoch, [2])  # type: ignore[attr-defined]
    except StorageError:
        return False
    return True


async def test_what_falls_due_does_not_need_the_node_that_added_it() -> None:
    async with two() as (engine, a, b):
        news = QueueNews()
        assert b.nodes is not None
        b.nodes.follow_queues(news)
        await b.queue("q").add_consumer("c")
        delayed = [NewMessageRow("later", b"record", delay_s=0.5)]
        await a.queue("q").enqueue(delayed, deduplicate_s=60, on_commit=lambda _: None)
        # It does the upkeep, as it came first; so another one must take that, too.
        engine.kill("a")
        await until(lambda: bool(news.due), "b is told")
        assert [one.queues for one in news.due] == [frozenset({"q"})]
        assert [one.id for one in await b.queue("q").fetch("c", after=0, max_messages=9, max_bytes=99)] == ["later"]


async def test_a_dead_letter_that_is_redriven_later_does_not_need_the_node_that_asked() -> None:
    async with two() as (engine, a, b):
        news = QueueNews()
        assert b.nodes is not None
        b.nodes.follow_queues(news)
        on_a = a.queue("q")
        epoch = (await on_a.add_consumer("c")).epoch
        await on_a.enqueue([NewMessageRow("m", b"record")], deduplicate_s=0, on_commit=lambda _: None)
        await on_a.bury("c", epoch, [Attempt(1, 1, 0, "rejected", "no", a.clock.now())])
        first_at = a.clock.now() + 0.5
        await on_a.redrive(DeadLetterFilter(), after=0, max_letters=9, spacing_s=0, first_at=first_at)
        engine.kill("a")
        await until(lambda: bool(news.due), "b is told")
        assert [one.id for one in await b.queue("q").fetch("c", after=0, max_messages=9, max_bytes=99)] == ["m"]
