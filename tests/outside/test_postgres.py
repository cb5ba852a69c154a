"""Emitters, SQL and transactions of applications beside servers on PostgreSQL: clients get it all, in one order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest

import waypost
from tests.support.postgres import PostgresServer
from tests.support.waiting import until, until_async
from waypost.testing import serve
from waypost.testing.site import Site


@pytest.fixture
async def sites(postgres_url: str) -> AsyncIterator[list[Site]]:
    """Two servers on one database."""
    async with AsyncExitStack() as ends:
        yield [await ends.enter_async_context(serve(server(postgres_url))) for _ in range(2)]


def server(url: str) -> waypost.Server:
    io = waypost.Server(store=url, drain_s=0)

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        await socket.join(*(auth or {}).get("rooms", ()))

    return io


async def listening(site: Site, *rooms: str) -> tuple[waypost.Client, list[Any]]:
    """Connect a client that is in rooms; returns it, and what it gets."""
    got: list[Any] = []
    client = site.client(auth={"rooms": rooms})
    client.on_any(lambda event, *args: got.append((event, *args)))
    await client.connect()
    return client, got


async def test_an_emitter_reaches_the_clients_of_all_servers_in_one_order(
    sites: list[Site], postgres_url: str
) -> None:
    (one, got_one), (two, got_two) = [await listening(site, "a") for site in sites]
    _, elsewhere = await listening(sites[1], "b")
    async with waypost.Emitter(postgres_url) as emitter:

        async def emit(where: Any, name: str) -> None:
            for number in range(20):
                await where.emit(name, number, b"\x00")

        await asyncio.gather(
            emit(emitter.to("a"), "outside"), emit(sites[0].io.to("a"), "one"), emit(sites[1].io.to("a"), "two")
        )
        await until(lambda: len(got_one) == len(got_two) == 60, "both have all events")
        assert got_one == got_two
        for name in ("outside", "one", "two"):
            assert [args[0] for event, *args in got_one if event == name] == list(range(20))
        for _ in range(2):
            await emitter.except_("b").emit("once", id="order 7")
        assert two.id is not None
        await emitter.to(two.id).sockets_join("few")
        await emitter.to("few").emit("few")
        await emitter.except_("few").sockets_leave("a")
        await emitter.to("a").emit("in a still")
        await emitter.to("few").disconnect_sockets()
        await until(lambda: not two.connected, "the client is disconnected")
    await until(lambda: len(got_two) == 63, "the client has all events")
    assert got_two[60:] == [("once",), ("few",), ("in a still",)]
    await until(lambda: len(got_one) == 61, "the other one has one more")
    assert elsewhere == []
    assert one.connected


async def test_sql_and_a_queue_reach_servers(sites: list[Site], postgres_url: str) -> None:
    done: list[Any] = []

    @sites[1].io.consumer("mails")
    async def send(message: waypost.Message, *args: Any) -> None:
        done.append((message.id, dict(message.headers), args))

    _, got = await listening(sites[0])
    with psycopg.connect(postgres_url) as connection:
        connection.execute("SELECT waypost.emit('/', NULL, 'from SQL', '[1]')")
        connection.execute(
            "SELECT waypost.publish('mails', 'mail', '[\"ann\"]', id => '1', headers => '{\"t\": \"7\"}')"
        )
        connection.execute("SELECT waypost.publish('mails', 'mail', id => '2', delay => '100 ms')")
        waypost.publish(connection, "mails", "mail", id="1")
        await asyncio.sleep(0.1)
        assert (got, done) == ([], [])
    await until(lambda: got == [("from SQL", 1)], "the client has the event")
    await until(lambda: len(done) == 2, "the messages have come")
    assert done == [("1", {"t": "7"}, ("ann",)), ("2", {}, ())]


async def test_a_client_that_was_away_gets_what_was_emitted_meanwhile(sites: list[Site], postgres_url: str) -> None:
    client, got = await listening(sites[0])
    async with waypost.Emitter(postgres_url) as emitter:
        await emitter.emit("first")
        await until(lambda: got == [("first",)], "the client has the first event")
        for connection in sites[0].io._hub.engine.connections():
            connection.close("transport error")
        await emitter.emit("second")
    await until(lambda: got == [("first",), ("second",)], "the client has both")
    assert client.recovered


def test_a_thread_uses_the_blocking_one(postgres_url: str) -> None:
    async def main() -> list[Any]:
        async with serve(server(postgres_url)) as site:
            _, got = await listening(site, "a")

            def work() -> None:
                with waypost.sync.Emitter(postgres_url) as emitter:
                    emitter.to("a").emit("one", id="1")
                    emitter.to("a").emit("one", id="1")
                    emitter.to("a").disconnect_sockets()

            await asyncio.to_thread(work)
            await until(lambda: got == [("one",)], "the client has the event")
            return got

    assert asyncio.run(main()) == [("one",)]


async def test_a_retry_after_a_lost_connection_is_one_event(sites: list[Site], postgres_url: str) -> None:
    _, got = await listening(sites[0])
    async with waypost.Emitter(postgres_url) as emitter:
        await emitter.emit("first")
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'waypost emitter'"
            )
        # The connection is found broken, and opened anew.
        await emitter.emit("second", id="2")
        await emitter.emit("second", id="2")
    await until(lambda: len(got) >= 2, "the client has both")
    assert got == [("first",), ("second",)]


async def test_an_engine_that_is_away_is_told_and_comes_back(own_postgres: PostgresServer) -> None:
    url = own_postgres.url(own_postgres.create_database())
    async with serve(server(url)) as site:
        _, got = await listening(site)
        async with waypost.Emitter(url) as emitter:
            await emitter.emit("first")
            await until(lambda: got == [("first",)], "the client has the first event")
            await asyncio.to_thread(own_postgres.stop, "immediate")
            with pytest.raises(waypost.StorageError) as raised:
                await emitter.emit("lost")
            assert "secret" not in str(raised.value)
            await asyncio.to_thread(own_postgres.start)
            await emitter.emit("last")
            await until(lambda: got[-1] == ("last",), "the client has the last event")


async def test_a_queue_of_a_server_says_what_publishes_there(sites: list[Site], postgres_url: str) -> None:
    with (
        psycopg.connect(postgres_url) as connection,
        pytest.raises(waypost.ConfigurationError, match=r"waypost\.publish"),
    ):
        sites[0].io.queue("q").publish(connection, "x")  # type: ignore[arg-type]


async def test_a_database_without_the_schema_is_told(postgres_url: str) -> None:
    async with waypost.Emitter(postgres_url) as emitter:
        with pytest.raises(waypost.StorageError, match="waypost db migrate"):
            await emitter.emit("x")


async def test_a_granted_role_emits_and_publishes_and_moves_nobody(
    sites: list[Site], postgres: PostgresServer, postgres_url: str
) -> None:
    _, got = await listening(sites[0])
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE ROLE view_of_a_test LOGIN")
        connection.execute("SELECT waypost.grant_1('view_of_a_test')")
        try:
            database = postgres_url.rpartition("/")[2]
            async with waypost.Emitter(postgres.url(database, user="view_of_a_test")) as emitter:
                await emitter.emit("x")
                await emitter.queue("q").emit("x")
                with pytest.raises(waypost.StorageError, match="--grant ROLE"):
                    await emitter.disconnect_sockets()
            await until(lambda: got == [("x",)], "the client has the event")
        finally:
            connection.execute("DROP OWNED BY view_of_a_test")
            connection.execute("DROP ROLE view_of_a_test")


async def test_sessions_whose_server_has_stopped_end_and_are_told_at_another_one(postgres_url: str) -> None:
    expired: list[Any] = []
    async with serve(server(postgres_url)) as left:
        left.io.on("session_expired", lambda session: expired.append(session.socket_id))
        async with serve(server(postgres_url)) as gone:
            away = waypost.Client(gone.url, reconnection=False)
            await away.connect()
            sid = away.id
        await until(lambda: not away.connected, "its server has stopped")
        async with waypost.Emitter(postgres_url) as emitter:
            await emitter.disconnect_sockets()
        await until_async(left.io._hub.keep_up, lambda _: bool(expired), "it is told")
        assert expired == [sid]
        await away.close()
