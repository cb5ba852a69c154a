"""A PostgreSQL that has lost what it had confirmed, or goes on as a promoted standby: who notices, and what ends."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.storage.followers import Rows
from tests.support.postgres import PostgresServer
from tests.support.waiting import until, until_async
from waypost.errors import StorageError
from waypost.storage.base import Journal, Store
from waypost.storage.choose import StoreOptions, make_store


@asynccontextmanager
async def two(server: PostgresServer) -> AsyncIterator[list[Store]]:
    """Two nodes on a server's own database."""
    async with AsyncExitStack() as stack:
        stores = []
        for _ in range(2):
            store = make_store(StoreOptions(spec=server.url(), patience_s=2.0))
            await store.open()
            stack.push_async_callback(store.close)
            stores.append(store)
        yield stores


def put_back(server: PostgresServer) -> None:
    """Replace the data of a server that does not run by the copy that was made of it."""
    subprocess.run(["rm", "-rf", str(server.data)], check=True)
    subprocess.run(["cp", "-a", str(server.folder / "copy"), str(server.data)], check=True)


def copy(server: PostgresServer) -> None:
    """Make a copy of the data of a server that does not run."""
    subprocess.run(["cp", "-a", str(server.data), str(server.folder / "copy")], check=True)


def promote(server: PostgresServer) -> None:
    """Start a server as a standby, and make it a primary: it writes on a new timeline."""
    signal = server.data / "standby.signal"
    signal.touch()
    server.own(signal)
    server.start()
    server.execute("SELECT pg_promote()")


async def appends(journal: Journal) -> bool:
    """Append an event; returns whether the store took it."""
    try:
        await journal.append(b"again", lambda _: None)
    except StorageError:
        return False
    return True


async def is_over(journal: Journal, key: bytes) -> bool:
    """Return whether a session has ended."""
    try:
        session = await journal.find_session(key)
    except StorageError:
        return False
    return session is None or session.expired


async def test_a_copy_that_was_put_back_is_noticed_by_the_nodes_that_knew_more(own_postgres: PostgresServer) -> None:
    async with two(own_postgres) as (a, b):
        on_a, on_b = await a.journal("/"), await b.journal("/")
        rows_b = Rows(on_b)
        Rows(on_a)
        await on_a.open_session(b"key", "sid", b"", lambda _: None)
        for number in range(3):
            await on_a.append(str(number).encode(), lambda _: None)
        await asyncio.to_thread(own_postgres.stop, "fast")
        copy(own_postgres)
        await asyncio.to_thread(own_postgres.start)
        await until_async(lambda: appends(on_a), bool, "it goes on")
        for _ in range(3):
            await on_a.append(b"lost", lambda _: None)
        await until(lambda: on_b.top == 7, "b has seen what will be lost")
        generation = on_a.generation
        assert on_b.generation == generation
        await asyncio.to_thread(own_postgres.stop, "immediate")
        put_back(own_postgres)
        await asyncio.to_thread(own_postgres.start)
        await until_async(lambda: appends(on_a), bool, "a goes on")
        await until_async(lambda: appends(on_b), bool, "b goes on")
        await until(lambda: on_a.generation == on_b.generation != generation, "a new generation for both")
        assert on_a.ends[generation] == 3
        await until(lambda: on_a.top == on_b.top, "both see the same")
        assert on_a.top < 7
        await until_async(lambda: is_over(on_a, b"key"), bool, "its session has ended")
        assert rows_b.claims == []
        eras = own_postgres.execute("SELECT reason FROM waypost.era ORDER BY n")
        assert len(eras) == 2, eras


@pytest.mark.parametrize("is_synchronous", [True, False])
async def test_after_a_promotion_sessions_go_on_only_if_nothing_was_lost(
    own_postgres: PostgresServer, is_synchronous: bool
) -> None:
    async with two(own_postgres) as (a, b):
        on_a, on_b = await a.journal("/"), await b.journal("/")
        await on_a.open_session(b"key", "sid", b"", lambda _: None)
        await on_a.append(b"before", lambda _: None)
        if is_synchronous:
            # As a primary with a synchronous standby would note it; there is none here.
            own_postgres.execute("UPDATE waypost.setting SET value = 'true' WHERE key = 'is_synchronous'")
            own_postgres.execute(
                "CREATE FUNCTION it_stays() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
            )
            own_postgres.execute(
                "CREATE TRIGGER it_stays BEFORE UPDATE ON waypost.setting FOR EACH ROW"
                " WHEN (OLD.key = 'is_synchronous') EXECUTE FUNCTION it_stays()"
            )
        generation = on_a.generation
        await asyncio.to_thread(own_postgres.stop, "immediate")
        await asyncio.to_thread(promote, own_postgres)
        await until_async(lambda: appends(on_a), bool, "a goes on")
        await until(lambda: on_a.generation == on_b.generation != generation, "a new generation for both")
        assert on_a.ends[generation] == 1
        if is_synchronous:
            session = await on_b.find_session(b"key")
            assert session is not None
            assert (session.expired, session.expires_at) == (False, None)
        else:
            await until_async(lambda: is_over(on_b, b"key"), bool, "its session has ended")
