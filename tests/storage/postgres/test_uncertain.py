"""The three outcomes of a write whose answer was lost: it was done, it was not done, and nobody can know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.storage.postgres.stores import followed, insist, opened, until
from tests.support.line import Line, Way
from tests.support.postgres import PostgresServer
from waypost.errors import StorageError, StorageUncertain
from waypost.storage.postgres.store import PostgresStore


@pytest.fixture
def database(postgres: PostgresServer, postgres_url: str) -> str:
    """The name of the test's database."""
    return postgres_url.rpartition("/")[2]


@pytest.fixture
async def line(postgres: PostgresServer) -> AsyncIterator[Line]:
    """A line to the server."""
    with Line("127.0.0.1", postgres.port) as line:
        yield line


def url_over(line: Line, database: str) -> str:
    return f"postgresql://postgres@127.0.0.1:{line.port}/{database}"


def stored(postgres: PostgresServer, database: str) -> list[bytes]:
    rows = postgres.execute("SELECT record FROM waypost.log WHERE kind = 0 ORDER BY position", database=database)
    return [bytes(row[0]) for row in rows]


def is_kept(postgres: PostgresServer, database: str) -> bool:
    """Tell whether the second event is in the outbox, or in the journal."""
    outbox = "SELECT record FROM waypost.outbox_0 UNION ALL SELECT record FROM waypost.outbox_1"
    kept = [bytes(row[0]) for row in postgres.execute(outbox, database=database)]
    return b"second" in kept + stored(postgres, database)


async def test_it_was_done(postgres: PostgresServer, database: str, line: Line) -> None:
    async with opened(url_over(line, database)) as store:
        rows = await followed(store)
        await rows.append(b"first")
        line.freeze(Way.BACK)
        append = asyncio.create_task(rows.append(b"second"))
        await until(lambda: stored(postgres, database) == [b"first", b"second"])
        assert not append.done()
        line.reset()
        line.thaw()
        assert await append == 2
        assert await rows.append(b"third") == 3
        assert rows.rows == [(1, b"first"), (2, b"second"), (3, b"third")]
    assert stored(postgres, database) == [b"first", b"second", b"third"]


async def test_it_was_not_done_and_is_sent_again(postgres: PostgresServer, database: str, line: Line) -> None:
    async with opened(url_over(line, database)) as store:
        rows = await followed(store)
        await rows.append(b"first")
        line.freeze(Way.THERE)
        appends = [asyncio.create_task(rows.append(record)) for record in (b"second", b"third")]
        await until(lambda: b"third" in line.held(Way.THERE))
        line.reset()
        line.thaw()
        assert await asyncio.gather(*appends) == [2, 3]
        assert rows.rows == [(1, b"first"), (2, b"second"), (3, b"third")]
    assert stored(postgres, database) == [b"first", b"second", b"third"]


@pytest.mark.parametrize("was_done", [True, False])
async def test_nobody_can_know_in_time(postgres: PostgresServer, database: str, line: Line, was_done: bool) -> None:
    async with opened(url_over(line, database), patience_s=0.5) as store:
        rows = await followed(store)
        await rows.append(b"first")
        line.freeze(Way.BACK if was_done else Way.THERE)
        append = asyncio.create_task(rows.append(b"lost"))
        if was_done:
            await until(lambda: len(stored(postgres, database)) == 2)
        else:
            await until(lambda: b"lost" in line.held(Way.THERE))
        line.take_down()
        line.thaw()
        with pytest.raises(StorageUncertain) as uncertain:
            await append
        assert uncertain.value.operation == "append an event to /"
        line.put_up()
        position = await insist(lambda: rows.append(b"next"))
        # What was taken is delivered, once, and in its place.
        between = [(2, b"lost")] if was_done else []
        assert rows.rows == [(1, b"first"), *between, (position, b"next")]
    assert stored(postgres, database) == [record for _, record in rows.rows]


@pytest.mark.parametrize("way", [Way.BACK, Way.THERE])
async def test_an_event_with_an_id_is_stored_once_though_its_answer_was_lost(
    postgres: PostgresServer, database: str, line: Line, way: Way
) -> None:
    async with opened(url_over(line, database)) as store:
        rows = await followed(store)
        # The first call of a kind is prepared, and the answer to that is waited for.
        assert await store.append_once("/", b"first", "1", 60)
        await until(lambda: stored(postgres, database) == [b"first"])
        line.freeze(way)
        appending = asyncio.create_task(store.append_once("/", b"second", "2", 60))
        await until(lambda: is_kept(postgres, database) if way is Way.BACK else b"second" in line.held(Way.THERE))
        line.reset()
        line.thaw()
        assert await appending
        assert await insist(lambda: store.append_once("/", b"third", "3", 60))
        await until(lambda: [record for _, record in rows.rows] == [b"first", b"second", b"third"])
    assert stored(postgres, database) == [b"first", b"second", b"third"]


async def test_an_event_with_an_id_is_uncertain_if_no_second_attempt_is_possible(
    postgres: PostgresServer, database: str, line: Line
) -> None:
    async with opened(url_over(line, database)) as store:
        rows = await followed(store)
        assert await store.append_once("/", b"first", "1", 60)
        line.freeze(Way.BACK)
        appending = asyncio.create_task(store.append_once("/", b"second", "2", 60))
        await until(lambda: is_kept(postgres, database))
        line.take_down()
        line.thaw()
        with pytest.raises(StorageUncertain) as uncertain:
            await appending
        assert uncertain.value.operation == "append an event to journal /"
        line.put_up()
        assert await insist(lambda: store.append_once("/", b"second", "2", 60))
        assert await insist(lambda: store.append_once("/", b"third", "3", 60))
        await until(lambda: [record for _, record in rows.rows] == [b"first", b"second", b"third"])


async def test_a_session_whose_answer_was_lost_is_opened_once(
    postgres: PostgresServer, database: str, line: Line
) -> None:
    async with opened(url_over(line, database)) as store:
        journal = await store.journal("/")
        await journal.append(b"first", lambda _: None)
        # The first call of a kind is prepared, and the answer to that is waited for.
        await journal.open_session(b"other", "other", b"", lambda _: None)
        line.freeze(Way.BACK)
        told: list[int] = []
        opening = asyncio.create_task(journal.open_session(b"key", "sid", b"data", told.append))
        count = "SELECT count(*) FROM waypost.session"
        await until(lambda: postgres.execute(count, database=database) == [(2,)])
        line.reset()
        line.thaw()
        assert await opening == 1
        assert told == [1]
        found = await journal.find_session(b"key")
        assert found is not None
        assert (found.sid, found.data) == ("sid", b"data")


async def test_a_close_ends_although_the_engine_does_not_answer(database: str, line: Line) -> None:
    store = PostgresStore(url_over(line, database), patience_s=0.5)
    await store.open()
    rows = await followed(store)
    await rows.append(b"first")
    line.freeze()
    append = asyncio.create_task(rows.append(b"second"))
    await until(lambda: b"second" in line.held(Way.THERE))
    await asyncio.wait_for(store.close(), 30)
    with pytest.raises(StorageUncertain):
        await append


async def test_while_the_engine_is_away_writes_fail_at_once_and_all_comes_back(own_postgres: PostgresServer) -> None:
    database = own_postgres.create_database()
    url = own_postgres.url(database)
    # Nobody could wait so long: what fails later than the first one fails without this patience.
    async with opened(url, patience_s=5) as store, opened(url) as other:
        rows, others = await followed(store), await followed(other)
        await rows.append(b"before")
        own_postgres.stop("immediate")
        # The connection is open, as far as this process has heard. Nothing is sent to a server that is gone.
        with pytest.raises(StorageError, match="nothing was stored") as refused:
            await rows.append(b"meanwhile")
        assert not isinstance(refused.value, StorageUncertain)
        for _ in range(50):
            with pytest.raises(StorageError, match="can't be reached"):
                await asyncio.wait_for(rows.append(b"meanwhile"), 4)
        assert rows.journal.top == 1
        own_postgres.start()
        position = await insist(lambda: rows.append(b"after"))
        await until(lambda: others.rows == [(1, b"before"), (position, b"after")])
        await until(lambda: store.troubles() == ())


async def test_random_ends_of_connections_lose_nothing_and_double_nothing(
    postgres: PostgresServer, database: str
) -> None:
    url = postgres.url(database)
    async with opened(url) as one, opened(url) as two:
        stores = [one, two]
        rows = [await followed(store) for store in stores]
        acknowledged: set[bytes] = set()

        async def write(number: int) -> None:
            for count in range(60):
                record = b"%d.%d" % (number, count)
                await insist(lambda record=record: rows[number % 2].append(record))  # type: ignore[misc]
                acknowledged.add(record)

        async def cut() -> None:
            end = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'waypost append%'"
                " AND datname = current_database()"
                " ORDER BY random() LIMIT 1"
            )
            for many in range(20, 480, 20):
                await until(lambda many=many: len(acknowledged) >= many)  # type: ignore[misc]
                await asyncio.to_thread(postgres.execute, end, database=database)

        cutting = asyncio.create_task(cut())
        await asyncio.gather(*(write(number) for number in range(8)))
        await cutting
        await until(lambda: all(one.journal.top >= len(acknowledged) for one in rows))
        assert rows[0].rows == rows[1].rows
        assert [position for position, _ in rows[0].rows] == [*range(1, len(acknowledged) + 1)]
        assert sorted(str(record) for _, record in rows[0].rows) == sorted(map(str, acknowledged))
