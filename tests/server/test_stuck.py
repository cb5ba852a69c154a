"""A replay makes progress or ends: a client that can't take an event does not come back to it for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.server.model_client import ModelClient, hub_of, running, until
from tests.storage.backends import ignore
from waypost.server.recovery import stuck
from waypost.server.recovery.stuck import MOST_TRIES
from waypost.storage.journal_records import SessionRow

MakeServer = Callable[..., waypost.Server]


@pytest.fixture(params=["memory", "sqlite", "async"])
def make_server(request: pytest.FixtureRequest, tmp_path: Path) -> MakeServer:
    kinds: dict[str, dict[str, Any]] = {
        "memory": {},
        "sqlite": {"store": tmp_path / "store.db"},
        "async": {"store": tmp_path / "store.db", "durability": "async"},
    }

    def make(**options: Any) -> waypost.Server:
        return waypost.Server(drain_s=0.0, **kinds[request.param], **options)

    return make


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a connection count that has lasted a little while."""
    monkeypatch.setattr(stuck, "_SHORTEST_S", 0.02)


async def stored(io: waypost.Server, client: ModelClient) -> SessionRow:
    """Return the only session, as it is stored, after all earlier writes."""
    journal = hub_of(io).directory.core("/").feed.journal
    assert journal is not None
    sessions = await journal.sessions(10)
    assert len(sessions) == 1
    return sessions[0]


async def try_in_vain(
    io: waypost.Server, client: ModelClient, *, refuses: bool = False, at_once: bool = False
) -> None:
    """Connect, get events, and lose the connection before any is handled; or close it as a parser does."""
    client.is_deaf = True
    await client.connect()
    assert client.connection is not None
    if refuses:
        # What an official client does after a parse error: it closes the connection under its sockets.
        client.connection.lose_transport("transport close", client_closed=True)
        client.vanish()
    else:
        await asyncio.sleep(0 if at_once else 0.03)
        await client.cut()
    client.is_deaf = False
    await until(lambda: not len(hub_of(io).directory.core("/").index))


@pytest.mark.parametrize("refuses", [True, False])
async def test_a_session_ends_after_five_connections_without_progress(
    make_server: MakeServer, refuses: bool, caplog: pytest.LogCaptureFixture
) -> None:
    io = make_server()
    told: list[waypost.EventUndeliverable] = []
    ended: list[str] = []
    io.hooks.event_undeliverable(told.append)

    @io.on("session_expired")
    async def expired(session: waypost.EndedSession) -> None:
        ended.append(session.socket_id)

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        before = client.sid
        await io.emit("too large", "x" * 100)
        await io.emit("tick", 1)
        for times in range(1, MOST_TRIES + 1):
            await try_in_vain(io, client, refuses=refuses)
            assert client.recovered, times
        await client.connect()
        assert client.answer["reason"] == "undeliverable"
        await until(lambda: ended == [before])
        [one] = told
        assert (one.socket_id, one.namespace, one.event, one.connections) == (before, "/", "too large", MOST_TRIES)
        [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert "'too large'" in warning
        assert one.offset in warning
        assert io.state().counters.recoveries["undeliverable"] == 1
        # It starts anew, and is a client like any other.
        await io.emit("tick", 2)
        await client.wait_for(1)
        await client.cut()
        await io.emit("tick", 3)
        await client.connect()
        assert client.recovered
        assert await client.wait_for(2) == [["tick", 2], ["tick", 3]]


async def test_tries_are_counted_over_restarts(tmp_path: Path) -> None:
    io = waypost.Server(store=tmp_path / "store.db", drain_s=0.0)
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        await io.emit("too large")
    for times in range(MOST_TRIES):
        io = waypost.Server(store=tmp_path / "store.db", drain_s=0.0)
        async with running(io):
            client.hub = hub_of(io)
            await try_in_vain(io, client)
            assert client.recovered, times
    io = waypost.Server(store=tmp_path / "store.db", drain_s=0.0)
    async with running(io):
        client.hub = hub_of(io)
        await client.connect()
        assert client.answer["reason"] == "undeliverable"


async def test_a_live_event_counts_like_a_replayed_one(make_server: MakeServer) -> None:
    async with running(make_server()) as io:
        client = ModelClient(io)
        client.is_deaf = True
        await client.connect()
        await io.emit("too large")
        await asyncio.sleep(0.03)
        await client.cut()
        for _ in range(MOST_TRIES - 1):
            await try_in_vain(io, client)
            assert client.recovered
        await client.connect()
        assert client.answer["reason"] == "undeliverable"


async def test_one_that_was_held_back_counts_when_it_went_out(make_server: MakeServer) -> None:
    """It comes while the connect handler runs, after a replay of nothing."""
    io = make_server()
    go = asyncio.Event()
    go.set()

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        await go.wait()

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        client.is_deaf = True
        go.clear()
        client.open()
        await until(lambda: len(hub_of(io).directory.core("/").index) == 1)
        await io.emit("held")
        go.set()
        await until(lambda: client.connected)
        await asyncio.sleep(0.03)
        await client.cut()
        await until(lambda: not len(hub_of(io).directory.core("/").index))
        await asyncio.sleep(0)
        session = await stored(io, client)
        assert (session.stuck_at, session.stuck_times) == (1, 1)


@pytest.mark.parametrize("how", ["at once", "nothing sent", "not taken"])
async def test_connections_that_prove_nothing_do_not_count(make_server: MakeServer, how: str) -> None:
    async with running(make_server()) as io:
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        if how != "nothing sent":
            await io.emit("tick", 1)
        for _ in range(MOST_TRIES + 2):
            if how == "not taken":
                # Nobody takes the frames from the connection, as with a client that does not poll.
                client.open()
                client.stop_reading()
                await until(lambda: any(one.connected for one in hub_of(io).directory.core("/").index))
                await asyncio.sleep(0.03)
                await client.cut()
                client.read_on()
            else:
                await try_in_vain(io, client, at_once=how == "at once")
        await asyncio.sleep(0)
        assert (await stored(io, client)).stuck_times == 0
        await client.connect()
        assert client.recovered
        await io.emit("tick", 2)
        await client.wait_for(1 if how == "nothing sent" else 2)


async def test_progress_begins_the_count_anew(make_server: MakeServer) -> None:
    async with running(make_server()) as io:
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        for number in range(3):
            await io.emit("tick", number)
            for _ in range(MOST_TRIES - 1):
                await try_in_vain(io, client)
            await client.connect()
            assert client.recovered
            await client.wait_for(number + 1)
            await client.cut()


async def test_a_pong_after_the_event_is_progress() -> None:
    """It has arrived, although the page did not handle it: a handler may have thrown."""
    io = waypost.Server(drain_s=0.0, ping_interval_s=0.01)
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        await io.emit("tick", 1)
        for _ in range(MOST_TRIES + 2):
            await try_in_vain(io, client)
        await client.connect()
        assert client.recovered
        assert (await stored(io, client)).stuck_times == 0


async def test_a_client_that_is_back_before_its_end_is_noticed_is_counted_too(make_server: MakeServer) -> None:
    async with running(make_server()) as io:
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        await io.emit("too large")
        client.is_deaf = True
        for _ in range(MOST_TRIES):
            client.open()
            await until(lambda: client.connected)
            assert client.recovered
            await asyncio.sleep(0.03)
            client.vanish()
        client.open()
        # The fifth ends by this one's coming. An official client comes again when its connection is closed.
        assert client.connection is not None
        await until(lambda: client.connection is not None and not client.connection.is_open)
        await client.connect()
        assert client.answer["reason"] == "undeliverable"


async def test_an_event_that_is_no_longer_kept_is_a_matter_of_retention(make_server: MakeServer) -> None:
    io = make_server(recovery=waypost.Recovery(max_events=3))
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        await io.emit("too large")
        for _ in range(MOST_TRIES):
            await try_in_vain(io, client)
        for number in range(10):
            await io.emit("tick", number)
        await hub_of(io).services.store.trim()
        await client.connect()
        assert client.answer["reason"] == "retention"


async def test_what_is_noted_goes_with_the_session(make_server: MakeServer) -> None:
    async with running(make_server()) as io:
        journal = await hub_of(io).services.store.journal("/")
        await journal.note_stuck(b"nobody", 3, 1)
        await journal.open_session(b"key", "sid", b"", ignore)
        await journal.note_stuck(b"key", 7, 2)
        found = await journal.find_session(b"key")
        assert found is not None
        assert (found.stuck_at, found.stuck_times) == (7, 2)
        await journal.end_session(b"key")
        await journal.open_session(b"key", "sid", b"", ignore)
        found = await journal.find_session(b"key")
        assert found is not None
        assert (found.stuck_at, found.stuck_times) == (0, 0)
