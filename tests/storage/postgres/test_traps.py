"""Traps of PostgreSQL: statistics of an empty table, settings of a role, old snapshots, servers that keep nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from urllib.parse import quote

import psycopg
import pytest

from tests.storage.backends import Clock
from tests.storage.postgres.stores import followed, opened, until
from tests.support.postgres import PostgresServer
from waypost.errors import ConfigurationError, StorageError, StoreFull
from waypost.storage.journal_records import Retention
from waypost.storage.postgres.driver import EngineGone, Refusal, connect
from waypost.storage.postgres.problems import problem_of
from waypost.storage.postgres.schema import migrate
from waypost.storage.postgres.store import PostgresStore
from waypost.storage.queue_records import NewMessageRow

# Not the number of scans: what a connection did while the table was empty may be told later.
_SCANS = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE schemaname = 'waypost' AND relname = 'log'"


@pytest.fixture
def database(postgres_url: str) -> str:
    """The name of the test's database."""
    return postgres_url.rpartition("/")[2]


@pytest.fixture
def role(postgres: PostgresServer, database: str) -> Iterator[str]:
    """A role that may make the schema, and owns the database."""
    name = f"role_{database}"
    postgres.execute(f"CREATE ROLE {name} LOGIN")
    postgres.execute(f"ALTER DATABASE {database} OWNER TO {name}")
    yield name
    postgres.drop_database(database)
    postgres.execute(f"DROP ROLE {name}")


async def fill(store: PostgresStore, entries: int) -> None:
    journal = await store.journal("/")
    await asyncio.gather(*(journal.append(b"x" * 50, lambda _: None) for _ in range(entries)))


async def test_a_table_that_was_vacuumed_while_it_was_empty_is_not_read_as_a_whole(
    postgres: PostgresServer, postgres_url: str, database: str
) -> None:
    async with opened(postgres_url) as store:
        postgres.execute("VACUUM ANALYZE waypost.log", database=database)
        rows = await followed(store)
        await fill(store, 3000)
        postgres.execute("SELECT pg_stat_clear_snapshot()", database=database)
        (before,) = postgres.execute(_SCANS, database=database)
        for _ in range(20):
            await rows.append(b"one")
            await rows.journal.open_session(b"k%d" % rows.journal.top, f"s{rows.journal.top}", b"", lambda _: None)
        assert len(await rows.journal.read(0, 100, max_entries=100, max_bytes=1 << 20)) == 100
    (after,) = postgres.execute(_SCANS, database=database)
    assert after == before


@pytest.mark.parametrize("isolation", ["serializable", "repeatable read"])
async def test_a_role_with_another_isolation_level_and_without_synchronous_commits(
    postgres: PostgresServer, database: str, role: str, isolation: str
) -> None:
    postgres.execute(f"ALTER ROLE {role} SET default_transaction_isolation = '{isolation}'")
    postgres.execute(f"ALTER ROLE {role} SET synchronous_commit = off")
    url = postgres.url(database, user=role)
    async with opened(url) as one, opened(url) as two:
        rows = [await followed(store) for store in (one, two)]
        await asyncio.gather(*(rows[at % 2].append(b"%d" % at) for at in range(100)))
        await until(lambda: all(one.journal.top == 100 for one in rows))
        assert rows[0].rows == rows[1].rows
    with psycopg.connect(url, autocommit=True) as plain:
        with plain.transaction(), pytest.raises(psycopg.Error, match="read committed"):
            plain.execute("SELECT waypost.begin_write_1()")
        plain.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        plain.execute("SELECT waypost.begin_write_1()")
        assert plain.execute("SHOW synchronous_commit").fetchone() == ("on",)
        plain.execute("SET LOCAL synchronous_commit = remote_apply")
        plain.execute("SELECT waypost.begin_write_1()")
        assert plain.execute("SHOW synchronous_commit").fetchone() == ("remote_apply",)
        plain.execute("COMMIT")


async def test_a_long_reader_holds_up_neither_trimming_nor_writers(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with opened(postgres_url, retention=Retention(max_entries=10)) as store:
        await fill(store, 500)
        with psycopg.connect(postgres_url) as reader:
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            assert reader.execute("SELECT count(*) FROM waypost.log WHERE kind = 0").fetchone() == (500,)
            journal = await store.journal("/")
            while journal.oldest != 491:
                await asyncio.wait_for(store.trim(), 20)
            assert await asyncio.wait_for(journal.append(b"next", lambda _: None), 20) == 501
            assert reader.execute("SELECT count(*) FROM waypost.log WHERE kind = 0").fetchone() == (500,)
        assert [one.position for one in await journal.read(490, 501, max_entries=99, max_bytes=1 << 20)] == [
            *range(491, 502)
        ]


async def test_the_newest_row_is_never_trimmed_and_positions_go_on(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with opened(postgres_url, retention=Retention(max_entries=0)) as store:
        await fill(store, 5)
        journal = await store.journal("/")
        while journal.oldest != 6:
            await store.trim()
        assert journal.size_bytes == 0
    async with opened(postgres_url) as store:
        journal = await store.journal("/")
        assert (journal.top, journal.oldest) == (5, 6)
        assert await journal.append(b"next", lambda _: None) == 6


async def test_no_connection_left_is_said(postgres: PostgresServer, database: str, role: str) -> None:
    postgres.execute(f"ALTER ROLE {role} CONNECTION LIMIT 0")
    store = PostgresStore(postgres.url(database, user=role))
    with pytest.raises(StorageError, match="raise max_connections"):
        await store.open()
    postgres.execute(f"ALTER ROLE {role} CONNECTION LIMIT -1")
    await store.open()
    await store.close()


async def test_a_schema_that_is_too_new_or_too_old_is_refused(
    postgres: PostgresServer, postgres_url: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(postgres_url):
        pass
    change = "UPDATE waypost.setting SET value = %s WHERE key = %s"
    postgres.execute(change, "7", "oldest_user", database=database)
    postgres.execute(change, "9", "schema_version", database=database)
    with pytest.raises(StorageError, match="upgrade this server"):
        await PostgresStore(postgres_url).open()
    # A newer one that still lets this version in is used as it is.
    postgres.execute(change, "1", "oldest_user", database=database)
    async with opened(postgres_url):
        pass
    postgres.execute(change, "1", "schema_version", database=database)
    monkeypatch.setattr("waypost.storage.postgres.schema.OLDEST_VERSION", 2)
    with pytest.raises(StorageError, match="waypost db migrate"):
        await PostgresStore(postgres_url).open()


async def test_migrations_at_the_same_time_make_one_schema(postgres_url: str) -> None:
    connections = [await connect(postgres_url, "migrating") for _ in range(4)]
    found = await asyncio.gather(*(migrate(one) for one in connections))
    assert sorted(one.version for one in found) == [0, 1, 1, 1]
    for one in connections:
        await one.close()


async def test_a_server_that_keeps_nothing_is_refused(own_postgres: PostgresServer) -> None:
    own_postgres.configuration["fsync"] = "off"
    own_postgres.restart()
    with pytest.raises(ConfigurationError, match="fsync=on"):
        await PostgresStore(own_postgres.url()).open()


async def test_a_damaged_entry_is_told_and_no_other_one(
    postgres: PostgresServer, postgres_url: str, database: str
) -> None:
    async with opened(postgres_url, tail_bytes=0) as store:
        await fill(store, 5)
        postgres.execute("UPDATE waypost.log SET record = 'other' WHERE position = 3", database=database)
        journal = await store.journal("/")
        entries = await journal.read(0, 5, max_entries=9, max_bytes=1 << 20)
        assert [one.position for one in entries] == [1, 2]
        with pytest.raises(StorageError, match="event 3 of / is damaged"):
            await journal.read(2, 5, max_entries=9, max_bytes=1 << 20)
        assert [one.position for one in await journal.read(3, 5, max_entries=9, max_bytes=1 << 20)] == [4, 5]


def test_a_full_disk_is_told_as_one() -> None:
    assert isinstance(problem_of("store", Refusal("53100", "could not extend file")), StoreFull)
    assert "out of memory" in str(problem_of("store", Refusal("53200", "out of memory")))
    assert "read-only" in str(problem_of("store", Refusal("25006", "cannot execute INSERT")))


def test_rights_and_poolers_come_with_what_to_do() -> None:
    told = str(problem_of("store", Refusal("42501", "permission denied for database other")))
    assert "GRANT CREATE ON DATABASE" in told
    pooled = EngineGone("unsupported startup parameter: default_transaction_isolation", was_sent=False)
    assert "waypost_pooled=yes" in str(problem_of("store", pooled))
    assert "waypost_pooled" not in str(problem_of("store", EngineGone("refused", was_sent=False)))


async def test_marks_of_writes_are_removed_when_nobody_asks_for_them_any_more(
    postgres: PostgresServer, postgres_url: str, database: str
) -> None:
    clock = Clock()
    async with opened(postgres_url, wall_time=clock) as store:
        queue = store.queue("q")
        await queue.add_consumer("c")
        for number in range(5):
            await queue.enqueue([NewMessageRow(str(number), b"")], deduplicate_s=0, on_commit=lambda _: None)
        count = "SELECT count(*) FROM waypost.write_mark"
        (before,) = postgres.execute(count, database=database)
        assert before[0] >= 5
        await until_trimmed(store)
        assert postgres.execute(count, database=database) == [before]
        clock.now += 3601
        await queue.enqueue([NewMessageRow("last", b"")], deduplicate_s=0, on_commit=lambda _: None)
        await until_trimmed(store)
        assert postgres.execute(count, database=database) == [(1,)]


async def until_trimmed(store: PostgresStore) -> None:
    """Let the store trim; it does so once it knows that the upkeep is its own."""
    nodes = store._open().nodes
    await until(lambda: nodes.is_maintainer)
    await store.trim()


async def test_a_role_that_may_only_emit_is_told_what_a_server_needs(
    postgres: PostgresServer, postgres_url: str, database: str
) -> None:
    """To grant it more emits, as programs beside the servers need, would not help."""
    async with opened(postgres_url):
        pass
    name = f"emitter_{database}"
    postgres.execute(f"CREATE ROLE {name} LOGIN")
    try:
        postgres.execute("SELECT waypost.grant_1(%s)", name, database=database)
        with pytest.raises(StorageError, match="servers and commands need the schema's owner"):
            async with opened(postgres.url(database, user=name)):
                pass
    finally:
        postgres.execute(f"DROP OWNED BY {name}", database=database)
        postgres.execute(f"DROP ROLE {name}")


async def test_a_refused_direct_address_is_told_once(
    postgres: PostgresServer, postgres_url: str, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    direct = quote(postgres.url(database, user="nobody_here:secret"), safe="")
    async with opened(f"{postgres_url}?waypost_pooled=yes&waypost_direct={direct}"):
        await until(lambda: "notices can't be heard" in caplog.text)
        # It has tried again some times by then.
        await asyncio.sleep(0.5)
    assert caplog.text.count("notices can't be heard") == 1
    assert "nobody_here" in caplog.text
    assert "secret" not in caplog.text
