"""An emitter beside a server, on the store's file: in its process and in others, for coroutines and threads."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.support.link import Link
from tests.support.waiting import until, until_async
from waypost.testing import serve
from waypost.testing.site import Site


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture(params=["commit", "async"])
async def site(path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    io = waypost.Server(store=path, durability=request.param, drain_s=0)

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        await socket.join(*(auth or {}).get("rooms", ()))

    io.of("/admin").on("connect", connect)
    async with serve(io) as site:
        yield site


async def listening(site: Site, *rooms: str, **options: Any) -> tuple[waypost.Client, list[Any]]:
    """Connect a client that is in rooms; returns it, and what it gets."""
    got: list[Any] = []
    client = site.client(auth={"rooms": rooms}, **options)
    client.on_any(lambda event, *args: got.append((event, *args)))
    await client.connect()
    return client, got


async def test_an_event_reaches_the_clients_that_are_addressed_in_order(site: Site, path: Path) -> None:
    _, in_a = await listening(site, "a")
    _, in_both = await listening(site, "a", "b")
    _, elsewhere = await listening(site, "c")
    async with waypost.Emitter(path) as emitter:
        await emitter.emit("all", 1)
        await emitter.to("a").except_("b").emit("one", b"\x00\xff", {"deep": [b"x", None]})
        await emitter.in_("b").to("c").emit("two", "ä\0")
        await emitter.emit("end")
    expected: Any = ("all", 1), ("one", b"\x00\xff", {"deep": [b"x", None]}), ("two", "ä\0"), ("end",)
    await until(lambda: all(got and got[-1] == ("end",) for got in (in_a, in_both, elsewhere)), "all have the last")
    assert in_a == [expected[0], expected[1], expected[3]]
    assert in_both == elsewhere == [expected[0], expected[2], expected[3]]


async def test_its_events_stand_in_one_order_with_those_of_the_server(site: Site, path: Path) -> None:
    one, two = [(await listening(site))[1] for _ in range(2)]
    emitter = waypost.Emitter(path)

    async def emit(where: Any, name: str) -> None:
        for number in range(30):
            await where.emit(name, number)

    await asyncio.gather(emit(emitter, "outside"), emit(site.io, "inside"), emit(emitter, "also outside"))
    await emitter.close()
    await until(lambda: len(one) == len(two) == 90, "both have all events")
    assert one == two
    for name in ("outside", "inside", "also outside"):
        assert [number for event, number in one if event == name] == list(range(30))


async def test_a_client_that_was_away_gets_its_events_when_it_comes_back(site: Site, path: Path) -> None:
    client, got = await listening(site)
    async with waypost.Emitter(path) as emitter:
        await emitter.emit("first")
        await until(lambda: got == [("first",)], "the client has the first event")
        for connection in site.io._hub.engine.connections():
            connection.close("transport error")
        await emitter.emit("second")
    await until(lambda: got == [("first",), ("second",)], "the client has both")
    assert client.recovered
    assert site.io.state().journals["/"].events == 2


async def test_a_repeated_id_is_one_event_in_each_namespace(site: Site, path: Path) -> None:
    _, got = await listening(site)
    _, admins = await listening(site, "a")
    async with waypost.Emitter(path) as emitter, waypost.Emitter(path) as again:
        for _ in range(3):
            await emitter.emit("paid", 7, id="order 7")
            await again.to("a").emit("paid", 7, id="order 7")
        await emitter.of("/admin").emit("paid", 7, id="order 7")
        await emitter.emit("paid", 8, id=8)
        await emitter.emit("end")
    await until(lambda: bool(got) and got[-1] == ("end",), "the client has the last event")
    assert got == admins == [("paid", 7), ("paid", 8), ("end",)]


async def test_an_id_counts_for_its_time_only(site: Site, path: Path) -> None:
    _, got = await listening(site)
    async with waypost.Emitter(path, deduplication_s=0.05) as emitter:
        await emitter.emit("paid", 1, id="x")
        await until(lambda: len(got) == 1, "the client has the first event")
        await asyncio.sleep(0.06)
        await emitter.emit("paid", 2, id="x")
    await until(lambda: len(got) == 2, "the client has the second event")


async def test_clients_join_and_leave_rooms_before_later_emits(site: Site, path: Path) -> None:
    client, got = await listening(site)
    _, other = await listening(site, "x")
    assert client.id is not None
    async with waypost.Emitter(path) as emitter:
        await emitter.to(client.id).sockets_join("r", ["s"])
        await emitter.to("r").emit("in r")
        await emitter.except_("x").sockets_leave("r")
        await emitter.to("r").emit("never")
        await emitter.to("s").emit("in s")
    await until(lambda: ("in s",) in got, "the client has the last event")
    assert got == [("in r",), ("in s",)]
    assert other == []
    (room,) = [one.rooms for one in await site.io.fetch_sockets() if one.id == client.id]
    assert room == {client.id, "s"}


@pytest.mark.parametrize("close", [False, True])
async def test_clients_are_disconnected_after_earlier_emits(site: Site, path: Path, close: bool) -> None:
    one, got = await listening(site, "banned")
    two, _ = await listening(site)
    async with waypost.Emitter(path) as emitter:
        await emitter.to("banned").emit("farewell")
        await emitter.to("banned").disconnect_sockets(close=close)
    await until(lambda: not one.connected, "the client is disconnected")
    await until(lambda: got == [("farewell",)], "the client has what came before")
    assert two.connected
    assert [each.id for each in await site.io.fetch_sockets()] == [two.id]


async def test_sessions_of_clients_that_are_away_end_and_are_told(site: Site, path: Path) -> None:
    expired: list[Any] = []
    site.io.on("session_expired", lambda session: expired.append(session.socket_id))
    client, _ = await listening(site)
    sid = client.id
    async with Link.to(int(site.url.rpartition(":")[2])) as link:
        away = waypost.Client(link.url, reconnection=False)
        await away.connect()
        away_sid = away.id
        link.cut()
        await until(lambda: not away.connected, "the client has lost its connection")
        async with waypost.Emitter(path) as emitter:
            await emitter.except_(str(sid)).disconnect_sockets()
        await until(lambda: expired == [away_sid], "its session has ended")
        await away.close()
    assert client.connected


async def test_a_message_for_a_queue_comes_with_all_its_parts(site: Site, path: Path) -> None:
    got: list[Any] = []

    @site.io.consumer("mails")
    async def send(message: waypost.Message, *args: Any) -> None:
        got.append((message.id, message.key, dict(message.headers), args))

    async with waypost.Emitter(path) as emitter:
        queue = emitter.queue("mails")
        assert await queue.emit("mail", "ann", id="1", key="a", headers={"tenant": "7"}) == "1"
        assert await queue.emit("mail", "ann", id="1") == "1"
        made = await queue.emit("mail", b"bob", ttl_s=60, delay_s=0.05)
    await until(lambda: len(got) == 2, "both messages have come")
    assert got == [("1", "a", {"tenant": "7"}, ("ann",)), (made, None, {}, (b"bob",))]


async def test_a_full_queue_is_told(path: Path) -> None:
    async with serve(waypost.Server(store=path, queues=waypost.QueueOptions(max_messages=1), drain_s=0)) as site:
        await site.io.queue("q").emit("x")
        async with waypost.Emitter(path, queues=waypost.QueueOptions(max_messages=1)) as emitter:
            with pytest.raises(waypost.QueueFull):
                await emitter.queue("q").emit("x")


async def test_what_was_emitted_without_a_server_is_delivered_when_one_starts(path: Path) -> None:
    async with serve(waypost.Server(store=path, drain_s=0)) as site:
        client = site.client()
        await client.connect()
        assert site.io.state().sockets["/"] == 1
    async with waypost.Emitter(path) as emitter:
        await emitter.emit("while you were away", 1)
        await emitter.emit("while you were away", 2)
    async with serve(waypost.Server(store=path, drain_s=0)) as site:
        await until(lambda: site.io.state().journals["/"].events == 2, "both are in the journal")


async def test_an_event_in_a_namespace_that_nobody_was_in_is_for_nobody(site: Site, path: Path) -> None:
    _, got = await listening(site)
    async with waypost.Emitter(path) as emitter:
        await emitter.of("/nowhere").emit("lost")
        await emitter.emit("end")
    await until(lambda: got == [("end",)], "the client has the last event")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
        assert ("/nowhere",) not in connection.execute("SELECT name FROM journal").fetchall()


def test_a_thread_uses_the_blocking_one(path: Path) -> None:
    async def main() -> list[Any]:
        async with serve(waypost.Server(store=path, drain_s=0)) as site:
            _, got = await listening(site)

            def work() -> str:
                with waypost.sync.Emitter(path) as emitter:
                    emitter.emit("one", id="1")
                    emitter.to("a").in_("b").except_("c").emit("never")
                    emitter.of("/").sockets_join("r")
                    emitter.to("r").emit("two")
                    emitter.sockets_leave("r")
                    emitter.to("r").emit("never")
                    emitter.to("r").disconnect_sockets()
                    return emitter.queue("q").emit("x", id="9", delay_s=60)

            assert await asyncio.to_thread(work) == "9"
            await until(lambda: len(got) == 2, "the client has both events")
            delayed = await until_async(
                site.io.queue("q").info, lambda info: info.delayed == 1, "the message is there"
            )
            assert delayed.messages == 0
            return got

    assert asyncio.run(main()) == [("one",), ("two",)]


# In a process without the server's threads: a fork copies SQLite's locks as they are, and what another thread holds
# then stays locked.
_FORKING = """
import multiprocessing, os, sys
import waypost

emitter = waypost.sync.Emitter(sys.argv[1])
emitter.emit("parent")
child = multiprocessing.get_context("fork").Process(target=lambda: emitter.emit("forked", os.getpid()))
child.start()
child.join()
emitter.emit("parent")
emitter.close()
print(child.pid, child.exitcode)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
async def test_one_that_was_used_before_a_fork_works_in_each_process(site: Site, path: Path) -> None:
    _, got = await listening(site)
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORKING, path, stdout=subprocess.PIPE
    )
    told, _ = await program.communicate()
    pid, code = map(int, told.split())
    assert code == 0
    await until(lambda: len(got) == 3, "all three have come")
    assert got == [("parent",), ("forked", pid), ("parent",)]


async def test_it_goes_on_after_a_close_and_on_a_later_loop(site: Site, path: Path) -> None:
    _, got = await listening(site)
    emitter = waypost.Emitter(path)
    await emitter.emit("one")
    await emitter.close()
    await emitter.close()
    await asyncio.to_thread(asyncio.run, _emit_and_close(emitter, "two"))
    await emitter.emit("three")
    with pytest.raises(waypost.WrongEventLoop, match="make an emitter for each event loop"):
        await asyncio.to_thread(asyncio.run, emitter.emit("refused"))
    await emitter.close()
    await until(lambda: got == [("one",), ("two",), ("three",)], "all three have come")


async def _emit_and_close(emitter: waypost.Emitter, event: str) -> None:
    await emitter.emit(event)
    await emitter.close()


@pytest.mark.parametrize("store", ["memory:", "sqlite://x", "nosuch:x", ""])
async def test_a_store_that_no_other_process_can_use_is_refused(store: str) -> None:
    with pytest.raises(waypost.ConfigurationError, match="store"):
        waypost.Emitter(store)


async def test_a_file_that_no_server_has_made_is_refused(tmp_path: Path) -> None:
    async with waypost.Emitter(tmp_path / "none.db") as emitter:
        with pytest.raises(waypost.ConfigurationError, match="there is none"):
            await emitter.emit("x")
    assert not (tmp_path / "none.db").exists()


async def test_impossible_arguments_are_refused_before_anything_is_written(site: Site, path: Path) -> None:
    async with waypost.Emitter(path) as emitter:
        for call in (
            lambda: emitter.to(1.5).emit("x"),  # type: ignore[arg-type]
            lambda: emitter.of("no slash").emit("x"),
            lambda: emitter.emit("x", id=""),
            lambda: emitter.sockets_join(None),  # type: ignore[arg-type]
            lambda: emitter.queue("").emit("x"),
            lambda: emitter.queue("q").emit("x", delay_s=-1),
        ):
            with pytest.raises(waypost.ConfigurationError):
                await call()
        for call in (
            lambda: emitter.emit("connect"),
            lambda: emitter.emit("x", object()),
            lambda: emitter.queue("q").emit("x", object()),
        ):
            with pytest.raises(waypost.EncodingFailed):
                await call()
    assert site.io.state().journals["/"].events == 0


async def test_types_of_ones_own_are_written_as_the_function_says(site: Site, path: Path) -> None:
    _, got = await listening(site)
    async with waypost.Emitter(path, json_default=sorted) as emitter:
        await emitter.emit("set", {3, 1, 2})
    await until(lambda: got == [("set", [1, 2, 3])], "the event has come")


async def test_a_damaged_write_is_dropped_and_the_next_one_is_done(
    site: Site, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, got = await listening(site)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for record, sum_ in ((b"\xc1", None), (b"other bytes", 1)):
            connection.execute(
                "INSERT INTO outbox (queue, id, record, delay_s, deduplicate_s, published_at, sum) "
                "VALUES ('', '', ?, 0, 0, 0, ?)",
                (record, sum_),
            )
        connection.commit()
    async with waypost.Emitter(path) as emitter:
        await emitter.emit("end")
    await until(lambda: got == [("end",)], "the next event has come")
    assert len([one for one in caplog.records if "is damaged, and dropped" in one.message]) == 2
