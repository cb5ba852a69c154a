"""The storage contract, sentence by sentence, on every backend: journals."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.storage.backends import UNLIMITED, Clock, Factory, defers, fill, flush, ignore, keeps, read_all, record_of
from waypost.errors import PositionGone, StorageError, StoreClosed
from waypost.storage.base import Store
from waypost.storage.journal_records import Entry, Retention, SessionRow
from waypost.storage.postgres.store import PostgresStore
from waypost.storage.queue_records import NewMessageRow


async def test_says_what_it_promises(store: Store) -> None:
    assert store.capabilities.description
    assert isinstance(store.capabilities.durable, bool)


async def test_positions_count_from_one(store: Store) -> None:
    journal = await store.journal("/")
    assert (journal.top, journal.oldest) == (0, 1)
    assert [await journal.append(b"a", ignore) for _ in range(3)] == [1, 2, 3]
    assert (journal.top, journal.oldest) == (3, 1)
    assert await read_all(journal) == [Entry(1, b"a"), Entry(2, b"a"), Entry(3, b"a")]


async def test_journals_are_apart(store: Store) -> None:
    one, other = await store.journal("/one"), await store.journal("/other")
    await fill(one, 2)
    await other.append(b"o", ignore)
    assert (one.name, one.top, other.name, other.top) == ("/one", 2, "/other", 1)
    assert await read_all(other) == [Entry(1, b"o")]
    assert one.generation != other.generation


async def test_a_name_has_one_journal(store: Store) -> None:
    asked = await asyncio.gather(*(store.journal("/") for _ in range(5)))
    assert all(journal is asked[0] for journal in asked)
    assert await store.journal("/") is asked[0]


async def test_records_are_opaque(store: Store) -> None:
    journal = await store.journal("/")
    records = [b"", b"\x00", bytes(range(256)) * 1000, b"", "é".encode()]
    for record in records:
        await journal.append(record, ignore)
    assert [entry.record for entry in await read_all(journal)] == records


async def test_top_moves_just_before_on_commit_and_that_comes_before_the_caller(store: Store) -> None:
    journal = await store.journal("/")
    seen: list[tuple[str, int, int]] = []

    async def append() -> None:
        position = await journal.append(b"", lambda at: seen.append(("on_commit", at, journal.top)))
        seen.append(("resumed", position, journal.top))

    await asyncio.gather(*(append() for _ in range(20)))
    commits = [entry for entry in seen if entry[0] == "on_commit"]
    assert commits == [("on_commit", position, position) for position in range(1, 21)]
    for position in range(1, 21):
        kinds = [kind for kind, at, _ in seen if at == position]
        assert kinds == ["on_commit", "resumed"]


async def test_order_of_asking_is_order_of_effect_across_all_writes(store: Store) -> None:
    one, other = await store.journal("/one"), await store.journal("/other")
    queue = store.queue("q")
    told: list[tuple[int, object]] = []

    async def write(number: int) -> None:
        def note(result: object) -> None:
            told.append((number, result))

        match number % 4:
            case 0:
                await one.append(b"%d" % number, note)
            case 1:
                await other.append(b"%d" % number, note)
            case 2:
                await queue.enqueue([NewMessageRow(str(number), b"")], deduplicate_s=60, on_commit=note)
            case _:
                await one.open_session(b"%d" % number, "sid", b"", note)

    await asyncio.gather(*(write(number) for number in range(400)))
    order = [number for number, _ in told]
    if isinstance(store, PostgresStore):
        # Each journal and each queue has an order of its own there.
        for kinds in ({0, 3}, {1}, {2}):
            assert [at for at in order if at % 4 in kinds] == [at for at in range(400) if at % 4 in kinds]
    elif defers(store):
        # Each queue has an order of its own there.
        assert [number for number in order if number % 4 == 2] == list(range(2, 400, 4))
        order = sorted(order, key=lambda number: (number % 4 == 2, order.index(number)))
        assert order[:300] == [number for number in range(400) if number % 4 != 2]
    else:
        assert order == list(range(400))
    assert [int(entry.record) for entry in await read_all(one)] == list(range(0, 400, 4))
    assert [int(entry.record) for entry in await read_all(other)] == list(range(1, 400, 4))
    starts = [result for number, result in told if number % 4 == 3]
    assert starts == list(range(1, 101)), "a session starts after what was asked for before it"


async def test_many_writers_leave_no_hole(store: Store) -> None:
    journals = [await store.journal(f"/{number}") for number in range(3)]

    async def write(worker: int) -> list[int]:
        journal = journals[worker % 3]
        return [await journal.append(b"%d" % worker, ignore) for _ in range(100)]

    given = await asyncio.gather(*(write(worker) for worker in range(12)))
    for number, journal in enumerate(journals):
        mine = [position for worker in range(number, 12, 3) for position in given[worker]]
        assert sorted(mine) == list(range(1, 401))
        assert [entry.position for entry in await read_all(journal)] == list(range(1, 401))
        assert all(list_ == sorted(list_) for list_ in given)


async def test_a_cancelled_append_leaves_no_hole_and_is_still_told(store: Store) -> None:
    journal = await store.journal("/")
    told: list[int] = []
    tasks = [asyncio.create_task(journal.append(b"%d" % number, told.append)) for number in range(50)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    last = await journal.append(b"last", told.append)
    assert told == list(range(1, last + 1))
    records = [entry.record for entry in await read_all(journal)]
    assert records == [*(b"%d" % number for number in range(50)), b"last"]


async def test_a_task_cancelled_before_it_ran_has_asked_for_nothing(store: Store) -> None:
    journal = await store.journal("/")
    task = asyncio.create_task(journal.append(b"never", ignore))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await journal.append(b"first", ignore) == 1


async def test_reads_stop_at_each_limit(store: Store) -> None:
    journal = await store.journal("/")
    for _ in range(10):
        await journal.append(b"12345", ignore)

    async def read(after: int, upto: int, entries: int = 100, size: int = 1000) -> list[int]:
        found = await journal.read(after, upto, max_entries=entries, max_bytes=size)
        return [entry.position for entry in found]

    assert await read(0, 10) == list(range(1, 11))
    assert await read(0, 99) == list(range(1, 11))
    assert await read(3, 6) == [4, 5, 6]
    assert await read(3, 10, entries=2) == [4, 5]
    assert await read(3, 10, size=15) == [4, 5, 6]
    assert await read(3, 10, size=14) == [4, 5]
    assert await read(3, 10, size=1) == [4], "the first one is always returned"
    assert await read(9, 10, size=0) == [10]
    assert await read(10, 10) == []
    assert await read(10, 99) == []
    assert await read(6, 3) == []
    assert await read(50, 99) == []


async def test_a_cancelled_read_harms_nothing(store: Store) -> None:
    journal = await store.journal("/")
    await fill(journal, 100)
    reads = [asyncio.create_task(read_all(journal)) for _ in range(10)]
    await asyncio.sleep(0)
    for task in reads:
        task.cancel()
    await asyncio.gather(*reads, return_exceptions=True)
    assert len(await read_all(journal)) == 100


@pytest.mark.parametrize(
    "retention",
    [Retention(max_entries=10), Retention(max_bytes=sum(len(record_of(at)) for at in range(31, 41)))],
    ids=["entries", "bytes"],
)
async def test_keeps_what_retention_allows(factory: Factory, clock: Clock, retention: Retention) -> None:
    store = factory(retention=retention, wall_time=clock)
    await store.open()
    journal = await store.journal("/")
    await fill(journal, 40)
    await store.trim()
    assert (journal.top, journal.oldest) == (40, 31)
    assert await read_all(journal, 30) == [Entry(at, record_of(at)) for at in range(31, 41)]
    with pytest.raises(
        PositionGone, match=re.escape("keeps positions from 31, entries after 29 were requested")
    ) as gone:
        await read_all(journal, 29)
    assert (gone.value.journal, gone.value.asked, gone.value.oldest) == ("/", 29, 31)
    assert await journal.read(5, 5, max_entries=1, max_bytes=1) == []
    assert await store.trim() == 0
    await store.close()


async def test_keeps_entries_up_to_an_age(factory: Factory, clock: Clock) -> None:
    store = factory(retention=Retention(max_age_s=10), wall_time=clock)
    await store.open()
    journal = await store.journal("/")
    for _ in range(8):
        await fill(journal, 2)
        await flush(journal)
        clock.now += 2
    clock.now -= 1
    # Appended 15, 13, 11, 9, ... seconds ago, two at a time.
    assert await store.trim() == 6
    assert journal.oldest == 7
    clock.now += 100
    assert await store.trim() == 10
    assert (journal.top, journal.oldest) == (16, 17)
    assert await journal.append(b"", ignore) == 17, "trimming everything does not begin anew"
    await store.close()


async def test_an_entry_larger_than_the_limit_is_not_kept(factory: Factory, clock: Clock) -> None:
    store = factory(retention=Retention(max_bytes=10), wall_time=clock)
    await store.open()
    journal = await store.journal("/")
    told: list[int] = []
    await journal.append(b"x" * 11, told.append)
    await store.trim()
    assert (told, journal.top, journal.oldest) == ([1], 1, 2)
    await store.close()


async def test_trimming_takes_many_entries(factory: Factory, clock: Clock) -> None:
    store = factory(retention=Retention(max_entries=7), wall_time=clock)
    await store.open()
    journal = await store.journal("/")
    for _ in range(5):
        await asyncio.gather(*(journal.append(b"x" * 1000, ignore) for _ in range(700)))
    # One row each in a file: more rows than one step takes.
    for _ in range(20):
        await journal.append(b"last", ignore)
    await store.trim()
    assert journal.oldest == 3514
    assert len(await read_all(journal, 3513)) == 7
    await store.close()


async def test_each_opening_begins_a_generation(factory: Factory, clock: Clock) -> None:
    ends: dict[str, int] = {}
    store = factory(wall_time=clock)
    for opening in range(3):
        await store.open()
        journal, other = await store.journal("/"), await store.journal(f"/{opening}")
        assert re.fullmatch("[A-Za-z0-9]+", journal.generation)
        assert journal.generation not in ends
        assert other.ends == {}
        assert dict(journal.ends) == (ends if keeps(store) else {})
        await fill(journal, 3)
        await journal.open_session(b"%d" % opening, f"{opening}", b"", ignore)
        ends[journal.generation] = journal.top
        await store.close()
    assert not keeps(store) or list(ends.values()) == [3, 6, 9]


async def test_session_is_attached_at_one_point_of_the_order_of_writes(store: Store) -> None:
    journal = await store.journal("/")
    told: list[object] = []
    await journal.open_session(b"key", "sid", b"data", ignore)
    await journal.detach_session(b"key", UNLIMITED)

    def attached(found: SessionRow) -> None:
        told.append(([one.room for one in found.memberships], found.expires_at))

    writes = [
        journal.join(b"key", ["before"], told.append),
        journal.append(b"", told.append),
        journal.attach_session(b"key", attached),
        journal.append(b"", told.append),
        journal.join(b"key", ["after"], told.append),
    ]
    given = await asyncio.gather(*writes)
    assert told == [0, 1, (["before"], None), 2, 2]
    session = given[2]
    assert isinstance(session, SessionRow)
    assert (session.sid, session.data, session.start, session.expires_at) == ("sid", b"data", 0, None)


async def test_unknown_session_is_not_attached(store: Store, clock: Clock) -> None:
    journal = await store.journal("/")
    told: list[object] = []
    assert await journal.attach_session(b"never", told.append) is None
    await journal.open_session(b"key", "sid", b"", ignore)
    await journal.detach_session(b"key", clock.now - 1)
    assert await journal.attach_session(b"key", told.append) is None
    await journal.open_session(b"other", "sid", b"", ignore)
    await journal.end_session(b"other")
    assert await journal.attach_session(b"other", told.append) is None
    assert told == []


async def test_tells_the_size_of_what_it_keeps(factory: Factory, clock: Clock) -> None:
    retention = Retention(max_entries=10)
    store = factory(retention=retention, wall_time=clock)
    await store.open()
    journal = await store.journal("/")
    assert journal.size_bytes == 0
    await asyncio.gather(*(journal.append(b"x" * size, ignore) for size in range(8)))
    assert journal.size_bytes == sum(range(8))
    await asyncio.gather(*(journal.append(b"x" * size, ignore) for size in range(8, 40)))
    await store.trim()
    assert (journal.oldest, journal.size_bytes) == (31, sum(range(30, 40)))
    await journal.append(b"x" * 50, ignore)
    await store.trim()
    assert journal.size_bytes == sum(range(31, 40)) + 50
    await store.close()
    await store.open()
    journal = await store.journal("/")
    assert journal.size_bytes == (sum(range(31, 40)) + 50 if keeps(store) else 0)
    clock.now += 2 * retention.max_age_s
    await store.trim()
    assert journal.size_bytes == 0
    await journal.append(b"xyz", ignore)
    assert journal.size_bytes == 3
    await store.close()


async def test_use_before_opening_and_after_closing(factory: Factory, clock: Clock) -> None:
    store = factory(wall_time=clock)
    with pytest.raises(StoreClosed):
        await store.journal("/")
    await store.close()
    await store.open()
    with pytest.raises(StorageError, match="open already"):
        await store.open()
    journal, queue = await store.journal("/"), store.queue("q")
    await store.close()
    await store.close()
    for used in (
        lambda: journal.append(b"", ignore),
        lambda: read_all(journal),
        lambda: journal.join(b"", ["room"], ignore),
        lambda: journal.find_session(b""),
        lambda: queue.enqueue([NewMessageRow("", b"")], deduplicate_s=0, on_commit=ignore),
        queue.info,
        queue.configuration,
        queue.purge,
        lambda: queue.settle("c", 1, [1]),
        store.release_due,
        store.configurations,
        lambda: store.expire_consumers(1, ()),
        lambda: queue.fetch("c", after=0, max_messages=1, max_bytes=1),
        lambda: store.journal("/"),
        store.queues,
        store.trim,
        store.expire_sessions,
    ):
        with pytest.raises(StoreClosed):
            await used()
    with pytest.raises(StoreClosed):
        journal.prove(b"", 1, 1)
    with pytest.raises(StoreClosed):
        queue.hold("c", "holder", 1)
    with pytest.raises(StoreClosed):
        store.queue("q")


async def test_close_finishes_what_was_asked_for(factory: Factory, clock: Clock) -> None:
    store = factory(wall_time=clock)
    await store.open()
    journal = await store.journal("/")
    told: list[int] = []
    tasks = [asyncio.create_task(journal.append(b"", told.append)) for _ in range(200)]
    await asyncio.sleep(0)
    await asyncio.gather(store.close(), store.close())
    assert await asyncio.gather(*tasks) == told == list(range(1, 201))


async def test_opened_again_it_is_the_same_store_unless_in_memory(factory: Factory, clock: Clock) -> None:
    store = factory(wall_time=clock)
    await store.open()
    before = await store.journal("/")
    await fill(before, 5)
    await store.queue("q").add_consumer("c")
    await store.close()
    await store.open()
    journal = await store.journal("/")
    assert journal.top == (5 if keeps(store) else 0)
    assert dict(journal.ends) == ({before.generation: 5} if keeps(store) else {})
    assert len(await read_all(journal)) == journal.top
    assert [one.name for one in await store.queues()] == (["q"] if keeps(store) else [])
    with pytest.raises(StoreClosed):
        await before.append(b"", ignore)
    await store.close()
