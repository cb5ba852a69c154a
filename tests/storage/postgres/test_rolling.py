"""A second version of the schema, under servers of two releases that run at the same time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import psycopg
import pytest

import waypost
from tests.storage.postgres.releases import SECOND, later_release
from tests.storage.postgres.stores import followed, opened, until
from waypost.errors import StorageError
from waypost.storage.postgres.administration import check, migrate_schema
from waypost.storage.postgres.store import PostgresStore
from waypost.testing import serve
from waypost.testing.site import Site

pytestmark = pytest.mark.long

_WAITING = """
    SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waypost db' AND wait_event_type = 'Lock'
        AND datname = current_database()
"""


@dataclass(slots=True)
class One:
    """A server with a client.

    Attributes:
        site: The server.
        got: The numbers that its client has got.
        done: The jobs that its function has done.
    """

    site: Site
    got: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)


class Service:
    """Servers of any release on one database, and what went through them.

    Args:
        url: The database.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._servers: list[One] = []
        self._gone: list[One] = []
        self._numbers = itertools.count(1)
        self._jobs = 0

    async def start(self, stack: AsyncExitStack) -> One:
        """Start a server; it ends with the stack."""
        io = waypost.Server(store=self.url, drain_s=0)
        one = One(await stack.enter_async_context(serve(io)))

        @io.consumer("jobs")
        async def work(message: waypost.Message, number: int) -> None:
            one.done.append(number)

        client = one.site.client()
        client.on("news", one.got.append)
        await client.connect()
        self._servers.append(one)
        stack.callback(self._stopped, one)
        return one

    def _stopped(self, one: One) -> None:
        self._servers.remove(one)
        self._gone.append(one)

    async def goes_on(self) -> None:
        """Fail unless each server reaches all clients, in one order, and each job is done once."""
        since = [len(one.got) for one in self._servers]
        sent = []
        for one in self._servers:
            sent.append(next(self._numbers))
            await one.site.io.emit("news", sent[-1])
            self._jobs += 1
            await one.site.io.queue("jobs").emit("job", self._jobs)
        for one, start in zip(self._servers, since, strict=True):
            await until(lambda one=one, start=start: len(one.got) >= start + len(sent))  # type: ignore[misc]
            assert one.got[start:] == sent
        await until(lambda: len(self.done) >= self._jobs)
        assert sorted(self.done) == [*range(1, self._jobs + 1)]

    @property
    def done(self) -> list[int]:
        """The jobs that are done."""
        return [number for one in [*self._servers, *self._gone] for number in one.done]

    @asynccontextmanager
    async def busy(self, one: One) -> AsyncIterator[None]:
        """Emit without a pause for as long as the block lasts; no emit may fail."""
        since, sent, ends = len(one.got), list[int](), asyncio.Event()

        async def emit() -> None:
            while not ends.is_set():
                sent.append(next(self._numbers))
                await one.site.io.emit("news", sent[-1])

        emitting = asyncio.create_task(emit())
        await until(lambda: len(one.got) > since)
        yield
        ends.set()
        await emitting
        for each in self._servers:
            await until(lambda each=each: each.got[-1:] == sent[-1:])  # type: ignore[misc]
        assert one.got[since:] == sent


async def test_the_schema_is_migrated_first_and_servers_follow_one_by_one(postgres_url: str) -> None:
    service = Service(postgres_url)
    async with AsyncExitStack() as old, AsyncExitStack() as new:
        one = await service.start(old)
        await service.goes_on()
        with later_release():
            async with service.busy(one):
                assert await migrate_schema(postgres_url, None) == (1, 2)
        await service.goes_on()
        with later_release():
            await service.start(new)
        await service.goes_on()
        # A server of the earlier release crashes, and is started again.
        async with AsyncExitStack() as again:
            await service.start(again)
            await service.goes_on()
        assert (await check(postgres_url)).problems == ()
        await old.aclose()
        await service.goes_on()


async def test_servers_are_replaced_first_and_the_schema_is_migrated_then(postgres_url: str) -> None:
    service = Service(postgres_url)
    async with AsyncExitStack() as old, AsyncExitStack() as new:
        await service.start(old)
        with later_release():
            one = await service.start(new)
        await service.goes_on()
        with later_release():
            async with service.busy(one):
                assert await migrate_schema(postgres_url, None) == (1, 2)
        await service.goes_on()
        await old.aclose()
        await service.goes_on()


async def test_a_server_that_needs_the_second_version_says_what_to_run(postgres_url: str) -> None:
    async with opened(postgres_url):
        with later_release(needs=2):
            with pytest.raises(StorageError, match=r"a schema of version 2 or later, came 1; .*waypost db migrate"):
                await PostgresStore(postgres_url).open()
            await migrate_schema(postgres_url, None)
            async with opened(postgres_url):
                pass


async def test_a_failed_migration_changes_nothing_and_is_made_again(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        rows = await followed(store)
        await rows.append(b"before")
        fails = later_release(script=f"{SECOND}; SELECT 1 / 0")
        with fails, pytest.raises(StorageError, match=r"95_second\.sql: division by zero"):
            await migrate_schema(postgres_url, None)
        assert (await check(postgres_url)).version == 1
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            assert connection.execute("SELECT to_regclass('waypost.second')").fetchall() == [(None,)]
        await rows.append(b"between")
        with later_release():
            assert await migrate_schema(postgres_url, None) == (1, 2)
        await rows.append(b"after")
        assert rows.rows == [(1, b"before"), (2, b"between"), (3, b"after")]


async def test_of_two_migrations_at_once_one_is_made(postgres_url: str) -> None:
    async with opened(postgres_url):
        with later_release():
            done = await asyncio.gather(*(migrate_schema(postgres_url, None) for _ in range(2)))
    assert sorted(done) == [(1, 2), (2, 2)]


async def test_what_older_servers_could_not_use_is_not_made_while_they_run(postgres_url: str) -> None:
    async with opened(postgres_url, node="an-old-one"):
        with later_release(oldest_user=2), pytest.raises(StorageError, match="older: an-old-one; upgrade or stop"):
            await migrate_schema(postgres_url, None)
        assert (await check(postgres_url)).version == 1
    with later_release(oldest_user=2):
        assert await migrate_schema(postgres_url, None) == (1, 2)
        async with opened(postgres_url):
            pass
    with pytest.raises(StorageError, match="upgrade this server"):
        await PostgresStore(postgres_url).open()
    # Also one that had looked at the schema before.
    late = psycopg.connect(postgres_url, autocommit=True)
    with late, pytest.raises(psycopg.Error, match="upgrade this server"):
        late.execute("SELECT waypost.enter_1('late', 'a:1', '0', '{}', 10)")


async def test_a_migration_gives_way_to_a_transaction_and_holds_up_no_write(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        rows = await followed(store)
        await rows.append(b"before")
        with psycopg.connect(postgres_url) as connection, psycopg.connect(postgres_url, autocommit=True) as looking:
            # As a report that reads it, or a write that is not committed.
            connection.execute("LOCK TABLE waypost.session IN ACCESS SHARE MODE")
            with later_release():
                migrating = asyncio.create_task(migrate_schema(postgres_url, None))
                for number in range(3):
                    # It waits for the lock now: this write, behind it, comes through when it gives up.
                    await until(lambda: looking.execute(_WAITING).fetchall() == [(1,)])
                    await rows.journal.open_session(b"%d" % number, str(number), b"", lambda _: None)
                assert not migrating.done()
                connection.rollback()
                assert await migrating == (1, 2)
