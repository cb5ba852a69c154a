"""A node that has missed rows, and an engine that has lost what it had confirmed, go on; clients are cut off."""

from __future__ import annotations

from tests.storage.postgres.stores import followed, insist, opened, until
from tests.support.postgres import PostgresServer
from waypost.storage.journal_records import Retention


async def test_a_node_that_is_too_far_behind_jumps(postgres_url: str) -> None:
    retention = Retention(max_entries=3)
    async with opened(postgres_url, retention=retention) as one, opened(postgres_url, retention=retention) as slow:
        rows, late = await followed(one), await followed(slow)
        await rows.append(b"first")
        await until(lambda: late.rows == [(1, b"first")])
        following = slow._open().following
        await following.close()
        for number in range(20):
            await rows.append(b"%d" % number)
        # The one that follows no longer can't wait for the row that tells of it.
        while rows.journal.oldest < 19:
            await one._open().journals.trim()
        following.start()
        await until(lambda: late.journal.top == 21)
        assert late.rows == [(1, b"first"), ("jumped", 21)]
        assert (late.journal.oldest, late.journal.generation) == (19, rows.journal.generation)
        await rows.append(b"after")
        await until(lambda: late.rows[-1] == (22, b"after"))
        position = await late.append(b"own")
        assert late.rows[-1] == (position, b"own") == (23, b"own")
        await until(lambda: rows.rows[-1] == (23, b"own"))


async def test_an_engine_that_has_lost_rows_begins_a_generation(postgres: PostgresServer, postgres_url: str) -> None:
    database = postgres_url.rpartition("/")[2]
    async with opened(postgres_url) as one, opened(postgres_url) as two:
        rows = [await followed(one), await followed(two)]
        for number in range(5):
            await rows[0].append(b"%d" % number)
        await rows[0].journal.open_session(b"key", "sid", b"", lambda _: None)
        await until(lambda: rows[1].journal.top == 5)
        generation = rows[0].journal.generation
        postgres.execute("DELETE FROM waypost.log WHERE position > 3 OR kind <> 0", database=database)
        end = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        )
        postgres.execute(end, database=database)
        await until(lambda: all(one.journal.generation != generation for one in rows))
        await until(lambda: all(("jumped", 3) in one.rows for one in rows))
        for row in rows:
            assert generation not in row.journal.ends, "its offsets lead nowhere, as all sessions end"
        assert rows[0].journal.generation == rows[1].journal.generation
        session = await rows[0].journal.find_session(b"key")
        assert session is None or session.expired, "all sessions end"
        position = await insist(lambda: rows[1].append(b"anew"))
        assert position == 4
        await until(lambda: rows[0].rows[-1] == (4, b"anew"))


async def test_a_node_alone_begins_a_generation_at_each_start_and_no_other_node_does(postgres_url: str) -> None:
    async with opened(postgres_url) as one:
        journal = await one.journal("/")
        await journal.append(b"first", lambda _: None)
        first = journal.generation
        async with opened(postgres_url) as two:
            assert (await two.journal("/")).generation == first
        assert journal.generation == first
    async with opened(postgres_url) as one:
        journal = await one.journal("/")
        assert journal.generation != first
        assert dict(journal.ends) == {first: 1}
