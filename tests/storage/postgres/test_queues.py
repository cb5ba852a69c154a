"""Queues on PostgreSQL: what is special to them. The contract is tested with all other stores."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.storage.backends import UNLIMITED, ignore, positions, put, settle
from tests.storage.followers import Cluster, Node, QueueNews, cluster, settled
from tests.storage.test_long_operations import OPERATIONS, seen
from tests.support.line import Way
from tests.support.postgres_nodes import PostgresEngine
from tests.support.waiting import until_async
from waypost.errors import StorageError
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Accepted, Attempt, DeadLetterFilter, Enqueued, NewMessageRow, QueueLimits

_MANY = 2000


@pytest.fixture
async def many(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster("postgresql", tmp_path) as one:
        yield one


@pytest.fixture
async def node(many: Cluster) -> Node:
    return await many.add("a")


@pytest.fixture
def engine(many: Cluster) -> PostgresEngine:
    assert isinstance(many.engine, PostgresEngine)
    return many.engine


def rows_of(engine: PostgresEngine, query: str, *arguments: object) -> list[Any]:
    with psycopg.connect(engine.url, autocommit=True) as connection:
        return connection.execute(query, arguments).fetchall()


# -- the cost of a write ---------------------------------------------------------------------------------------------

_ENTRIES = """
    SELECT coalesce(sum(pg_stat_get_xact_tuples_returned(c.oid)), 0)::bigint FROM pg_class c
    WHERE c.relnamespace = 'waypost'::regnamespace AND c.relkind IN ('r', 'i')
"""


class Writer:
    """Calls the functions of queues as a node does, in transactions of its own."""

    def __init__(self, engine: PostgresEngine) -> None:
        self.connection = psycopg.connect(engine.url, autocommit=True)
        ((self._node, self.incarnation),) = rows_of(engine, "SELECT id, incarnation FROM waypost.node")
        self.batch = 1 << 40
        self.top = 0

    def write(self, outcomes: list[dict[str, object]], ids: list[str]) -> None:
        self.batch += 1
        limits = {"max_messages": UNLIMITED, "max_bytes": UNLIMITED, "overflow": "refuse", "keep_settled_s": 0.0}
        none: list[None] = [None] * len(ids)
        messages = [[*range(1, len(ids) + 2)], 0, None, ids, [b"x"] * len(ids), none, none, None, none, none]
        self.connection.execute(
            "SELECT waypost.queue_write_1('q', %s, %s, %s, %s, %s, %s::int[], %s::bigint, %s::float8[], %s::text[], "
            "%s::bytea[], %s::text[], %s::float8[], %s::float8[], %s::text[], %s::bigint[])",
            (
                self._node,
                self.incarnation,
                self.batch,
                json.dumps({"max_age_s": 1e9, **limits}),
                json.dumps(outcomes),
                *(messages if ids else [None] * 10),
            ),
        )
        self.top += len(ids)

    def cycle(self, epoch: int) -> None:
        """Add some messages, read them, and settle them, not in their order."""
        first = self.top + 1
        self.write([], [str(number) for number in range(8)])
        found = self.connection.execute("SELECT * FROM waypost.queue_fetch_1('q', 'c', 0, 100, 1000000)").fetchall()
        assert len(found) == 8
        for chosen in ([first + 5, first + 2], [*range(first, self.top + 1)]):
            self.write([{"consumer": "c", "epoch": epoch, "settle": chosen}], [])

    def entries(self, epoch: int) -> int:
        """Return how many entries of indexes and tables a cycle looks at."""
        with self.connection.transaction():
            ((before,),) = self.connection.execute(_ENTRIES).fetchall()
            self.cycle(epoch)
            ((after,),) = self.connection.execute(_ENTRIES).fetchall()
        return int(after - before)


@contextmanager
def held_snapshot(engine: PostgresEngine) -> Iterator[None]:
    """Have a transaction that sees all rows that are deleted from now on."""
    with psycopg.connect(engine.url, autocommit=True) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM waypost.message")
        yield


async def test_a_held_snapshot_and_tables_that_were_vacuumed_while_empty_slow_no_write(
    node: Node, engine: PostgresEngine
) -> None:
    epoch = (await node.store.queue("q").add_consumer("c")).epoch
    writer = Writer(engine)
    writer.connection.execute("VACUUM ANALYZE")
    first = max(writer.entries(epoch) for _ in range(5))
    with held_snapshot(engine):
        for _ in range(200):
            writer.cycle(epoch)
        writer.connection.execute("ANALYZE")
        worst = max(writer.entries(epoch) for _ in range(5))
    writer.connection.close()
    # 200 times 8 messages were settled, and none of their rows is gone yet.
    assert worst < first + 100, (first, worst)


async def test_states_do_not_pile_up(node: Node, engine: PostgresEngine) -> None:
    queue = node.store.queue("q")
    await queue.add_consumer("c")
    for number in range(1, 200):
        await put(queue, str(number), deduplicate_s=0)
        await settle(queue, "c", [number])
    ((queues, consumers),) = rows_of(
        engine, "SELECT (SELECT count(*) FROM waypost.queue_state), (SELECT count(*) FROM waypost.consumer_state)"
    )
    assert 0 < queues <= 64
    assert 0 < consumers <= 64


# -- an answer that is lost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [Way.BACK, Way.THERE], ids=["the answer", "the call"])
async def test_a_lost_call_or_answer_leaves_each_message_there_once(
    node: Node, engine: PostgresEngine, way: Way
) -> None:
    queue = node.store.queue("q")
    await queue.add_consumer("c")
    await put(queue, "first", deduplicate_s=0)
    told: list[Enqueued] = []
    line = engine.line("a")
    line.freeze(way)
    messages = [NewMessageRow("x", b"1"), NewMessageRow("y", b"2")]
    enqueuing = asyncio.ensure_future(queue.enqueue(messages, deduplicate_s=0, on_commit=told.append))
    if way is Way.BACK:

        async def there() -> int:
            return int(rows_of(engine, "SELECT count(*) FROM waypost.message")[0][0])

        await until_async(there, lambda found: found == 3, "the messages are there")
    else:
        await asyncio.sleep(0.05)
    line.reset()
    line.thaw()
    enqueued = await enqueuing
    assert enqueued.accepted == (Accepted("x", 2, False), Accepted("y", 3, False))
    assert told == [enqueued]
    assert await positions(queue, "c") == [1, 2, 3]


async def test_a_lost_answer_to_an_ack_is_the_state_all_the_same(node: Node, engine: PostgresEngine) -> None:
    queue = node.store.queue("q")
    epoch = (await queue.add_consumer("c")).epoch
    await put(queue, "first", deduplicate_s=0)
    line = engine.line("a")
    line.freeze(Way.BACK)
    settling = asyncio.ensure_future(queue.settle("c", epoch, [1]))

    async def left() -> int:
        return int(rows_of(engine, "SELECT count(*) FROM waypost.message")[0][0])

    await until_async(left, lambda found: found == 0, "it is settled")
    line.reset()
    line.thaw()
    row = await settling
    assert (row.settled, row.waiting, row.cursor) == (1, 0, 1)


async def test_a_lost_call_that_makes_its_queue_is_waited_for(node: Node, engine: PostgresEngine) -> None:
    writer = Writer(engine)
    writer.connection.execute("BEGIN")
    writer.write([], ["first"])
    with psycopg.connect(engine.url, autocommit=True) as other:
        ((number, name),) = other.execute("SELECT id, name FROM waypost.node").fetchall()
        ((renewed,),) = other.execute("SELECT o_incarnation FROM waypost.renew_1(%s, %s)", (number, name)).fetchall()
        asked = ("q", number, writer.incarnation, writer.batch, renewed, writer.batch + 1)
        asking = asyncio.ensure_future(
            asyncio.to_thread(other.execute, "SELECT waypost.queue_settle_1(%s, %s, %s, %s, %s, %s)", asked)
        )
        waits = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"

        async def is_over_or_waits() -> bool:
            return asking.done() or bool(rows_of(engine, waits, other.info.backend_pid)[0][0])

        await until_async(is_over_or_waits, bool, "it is answered, or waits")
        writer.connection.execute("COMMIT")
        writer.connection.close()
        ((answer,),) = (await asking).fetchall()
        assert answer is not None, "the message is there, and would be sent once more"
    assert (await node.store.queue("q").info()).messages == 1


# -- what others add -------------------------------------------------------------------------------------------------


async def test_an_owner_hears_of_each_message_of_others_once_and_in_order(many: Cluster, node: Node) -> None:
    other = await many.add("b")
    news = QueueNews()
    node.nodes.follow_queues(news)
    await node.store.queue("q").add_consumer("c")
    await node.nodes.claim_consumer("q", "c")

    async def add(one: Node, name: str) -> None:
        for number in range(40):
            await put(one.store.queue("q"), f"{name}{number}", deduplicate_s=0)

    await asyncio.gather(add(node, "own"), add(other, "other"))

    def heard() -> list[str]:
        return [one for _, ids, _ in news.arrivals for one in ids]

    await settled(lambda: len(heard()) >= 40, "the owner has heard of all")
    assert heard() == [f"other{number}" for number in range(40)]
    places = [place for _, _, some in news.arrivals for place in some]
    assert places == sorted(places)


async def test_a_queue_that_was_made_anew_is_heard_of(many: Cluster, node: Node) -> None:
    other = await many.add("b")
    news = QueueNews()
    node.nodes.follow_queues(news)
    queue = other.store.queue("q")
    for number in range(5):
        await put(queue, str(number))
    await node.nodes.claim_consumer("q", "c")
    await queue.delete()
    await put(queue, "again")
    await settled(lambda: news.arrivals == [("q", ["again"], [1])], "the owner has heard of it")


async def test_what_is_redriven_elsewhere_is_read_from_the_store(many: Cluster, node: Node) -> None:
    other = await many.add("b")
    news = QueueNews()
    node.nodes.follow_queues(news)
    queue = other.store.queue("q")
    epoch = (await queue.add_consumer("c")).epoch
    await put(queue, "one")
    await queue.bury("c", epoch, [Attempt(1, 1, 0, "rejected", "no", 1.0)])
    await node.nodes.claim_consumer("q", "c")
    await queue.redrive(DeadLetterFilter(), after=0, max_letters=9, spacing_s=0, first_at=0)
    await settled(lambda: any(one.queues == {"q"} for one in news.due), "the owner is told to look")
    assert news.arrivals == [], "it is for one consumer alone"


# -- operations on very many messages --------------------------------------------------------------------------------


async def fill(queue: StoredQueue) -> None:
    await queue.add_consumer("slow")
    await queue.add_consumer("fast", start="new")
    messages = [NewMessageRow(str(number), b"x" * 10) for number in range(_MANY)]
    await queue.enqueue(messages, deduplicate_s=0, on_commit=ignore)
    await queue.seek("fast", "new")


@pytest.mark.parametrize("name", OPERATIONS)
async def test_an_operation_on_many_is_seen_all_or_nothing_and_then_its_rows_go(
    node: Node, engine: PostgresEngine, name: str
) -> None:
    queue = node.store.queue("q")
    await fill(queue)
    operation, left = OPERATIONS[name]
    before = await seen(queue)
    assert before[0] == _MANY
    running = asyncio.ensure_future(operation(queue))
    snapshots = []
    while not running.done():
        snapshots.append(await seen(queue))
    await running
    after = await seen(queue)
    assert after[:2] == (left, 10 * left)
    assert after[2] == list(range(_MANY - left + 1, _MANY + 1))
    for snapshot in snapshots:
        assert snapshot[0] in (before[0], after[0])
        assert snapshot[2] in (before[2], after[2])

    async def rows() -> tuple[int, int]:
        ((messages, sweeps),) = rows_of(
            engine, "SELECT (SELECT count(*) FROM waypost.message), (SELECT count(*) FROM waypost.sweep)"
        )
        return messages, sweeps

    await until_async(rows, lambda found: found == (left, 0), "the rows are gone")
    assert await seen(queue) == after


async def test_a_deleted_queue_leaves_no_row(node: Node, engine: PostgresEngine) -> None:
    queue = node.store.queue("q")
    await fill(queue)
    await settle(queue, "slow", [5, 9])
    later = [NewMessageRow("later", b"", delay_s=99)]
    await queue.enqueue(later, deduplicate_s=60, on_commit=ignore)
    await queue.delete()
    tables = ("queue", "queue_state", "message", "consumer", "consumer_state", "outstanding", "scheduled", "sweep")

    async def rows() -> list[int]:
        counts = ", ".join(f"(SELECT count(*)::int FROM waypost.{table})" for table in (*tables, "deduplication"))
        return [*rows_of(engine, f"SELECT {counts}")[0]]

    await until_async(rows, lambda found: not any(found), "nothing is left")


# -- what PostgreSQL can't keep --------------------------------------------------------------------------------------


async def test_what_can_not_be_kept_harms_nothing_that_is_written_with_it(node: Node) -> None:
    queue = node.store.queue("q")
    epoch = (await queue.add_consumer("c")).epoch
    await put(queue, "first")
    settling = asyncio.ensure_future(queue.settle("c", epoch, [1]))
    with pytest.raises(UnicodeEncodeError):
        await queue.enqueue([NewMessageRow("\ud800", b"")], deduplicate_s=0, on_commit=ignore)
    with pytest.raises(StorageError, match="NUL"):
        await queue.settle("a\0b", epoch, [1])
    with pytest.raises(StorageError, match="NUL"):
        await queue.add_consumer("a\0b")
    assert (await settling).settled == 1


async def test_a_limit_may_be_infinite(node: Node) -> None:
    queue = node.store.queue("q")
    limits = QueueLimits(max_age_s=math.inf)
    await queue.configure(limits, b"{}")
    assert (await queue.configuration()).limits == limits
    await put(queue, "old")
    await node.store.trim()
    assert (await queue.info()).messages == 1
