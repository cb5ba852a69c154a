"""Sockets that the application ends: also those of clients that are away, and never the one that is coming in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.server.model_client import ModelClient, hub_of, running, until

MakeServer = Callable[..., waypost.Server]


@pytest.fixture(params=["memory", "sqlite", "async"])
def io(request: pytest.FixtureRequest, tmp_path: Path) -> waypost.Server:
    if request.param == "memory":
        return waypost.Server(drain_s=0.0)
    if request.param == "async":
        return waypost.Server(store=tmp_path / "store.db", drain_s=0.0, durability="async")
    return waypost.Server(store=tmp_path / "store.db", drain_s=0.0)


@pytest.mark.parametrize("where", ["server", "parent"])
async def test_the_sessions_of_those_who_are_away_end(io: waypost.Server, where: str) -> None:
    name = "/" if where == "server" else "/room-1"
    whole = io if where == "server" else io.of(re.compile("/room-[0-9]"))
    ended: list[str] = []

    @whole.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        if auth:
            await socket.join(auth["token"])

    @whole.on("session_expired")
    async def expired(session: waypost.EndedSession) -> None:
        ended.append(session.socket_id)

    async with running(io):
        here, away, other = ModelClient(io, name), ModelClient(io, name), ModelClient(io, name)
        await here.connect("ada")
        await away.connect("ada")
        await other.connect("bob")
        await away.cut()
        await other.cut()
        gone = away.sid
        await whole.to("ada").disconnect_sockets()
        await until(lambda: here.disconnected_by_server)
        await until(lambda: ended == [gone])
        await away.connect("ada")
        assert not away.recovered
        assert away.answer["reason"] == "unknown session"
        await other.connect("bob")
        assert other.recovered
        assert ended == [gone]


async def test_a_call_that_waits_for_a_client_that_is_away_ends_with_its_session(io: waypost.Server) -> None:
    sockets: list[waypost.Socket] = []
    io.on("connect", sockets.append)
    async with running(io):
        client = ModelClient(io)
        client.auto_ack = False
        await client.connect()
        call = asyncio.ensure_future(sockets[0].call("question", timeout_s=30))
        await until(lambda: len(client.to_acknowledge) == 1)
        await client.cut()
        await io.disconnect_sockets()
        with pytest.raises(waypost.NotConnected):
            await call
        with pytest.raises(waypost.NotConnected):
            await sockets[0].emit("for nobody")


async def test_an_end_comes_after_what_was_emitted_before(io: waypost.Server) -> None:
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        await asyncio.gather(io.emit("last words"), io.disconnect_sockets(), io.emit("too late"))
        await until(lambda: client.disconnected_by_server)
        assert client.events == [["last words"]]


async def test_without_a_store_that_takes_it_those_who_are_here_are_disconnected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    io = waypost.Server(store=tmp_path / "store.db", drain_s=0.0)
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        journal = hub_of(io).directory.core("/").feed.journal
        assert journal is not None

        async def refuse(*_: Any, **__: Any) -> None:
            raise waypost.StoreFull("the disk")

        monkeypatch.setattr(type(journal), "end_matching", refuse)
        with pytest.raises(waypost.StoreFull):
            await io.disconnect_sockets()
        await until(lambda: client.disconnected_by_server)


@pytest.mark.parametrize("where", ["connect", "middleware", "task", "fetched"])
async def test_one_session_for_each_user_locks_nobody_out(io: waypost.Server, where: str) -> None:
    async def end_others(socket: waypost.Socket) -> None:
        if where == "fetched":
            for other in await io.to(socket.handshake.auth["token"]).fetch_sockets():
                await other.disconnect()
        elif where == "task":
            await asyncio.create_task(io.to(socket.handshake.auth["token"]).disconnect_sockets())
        else:
            await io.to(socket.handshake.auth["token"]).disconnect_sockets()

    @io.use
    async def gate(socket: waypost.Socket) -> None:
        if where == "middleware":
            await end_others(socket)

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        await socket.join(socket.handshake.auth["token"])
        if where != "middleware":
            await end_others(socket)

    async with running(io):
        first, second = ModelClient(io), ModelClient(io)
        await first.connect("ada")
        await first.cut()
        await first.connect("ada")
        assert first.recovered
        assert not first.disconnected_by_server
        await second.connect("ada")
        await until(lambda: first.disconnected_by_server)
        assert second.connected
        assert [socket.id for socket in await io.fetch_sockets()] == [second.sid]


async def test_what_a_connect_handler_started_may_end_its_socket_later(io: waypost.Server) -> None:
    later: list[asyncio.Task[None]] = []
    go = asyncio.Event()

    async def end_all() -> None:
        await go.wait()
        await io.disconnect_sockets()

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        later.append(asyncio.create_task(end_all()))

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        go.set()
        await until(lambda: client.disconnected_by_server)
        await asyncio.gather(*later)


async def test_a_connect_handler_finds_its_own_socket(io: waypost.Server) -> None:
    found: list[list[str]] = []

    @io.use
    async def gate(socket: waypost.Socket) -> None:
        found.append([one.id for one in await io.fetch_sockets()])

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        found.append([one.id for one in await io.fetch_sockets()])

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert found == [[], [client.sid]]


@pytest.mark.parametrize("close", [False, True])
async def test_a_client_sent_away_comes_back_and_has_missed_nothing(io: waypost.Server, close: bool) -> None:
    """Its token is to be renewed, for example: it stays away until the page calls `connect`."""
    told: list[str] = []

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        told.append("connect")
        await socket.join(auth["token"])

    @io.on("disconnect")
    async def disconnect(socket: waypost.Socket, reason: str) -> None:
        told.append(reason)

    @io.event
    async def renew(socket: waypost.Socket) -> None:
        await socket.disconnect(resumable=True, close=close)

    async with running(io):
        client = ModelClient(io)
        await client.connect("old")
        await io.emit("before")
        await client.wait_for(1)
        client.send('2["renew"]')
        await until(lambda: client.disconnected_by_server and len(told) == 2)
        await io.emit("meanwhile")
        await io.to("old").emit("in its room")
        if close:
            await client.connect("new")
        else:
            client.send(f'0{{"pid":"{client.pid}","offset":"{client.offset}","token":"new"}}')
            await until(lambda: client.answers == 2)
        assert client.recovered
        assert await client.wait_for(3) == [["before"], ["meanwhile"], ["in its room"]]
        assert told == ["connect", "server namespace disconnect", "connect"]


async def test_a_connect_handler_may_send_its_client_away_for_a_while(io: waypost.Server) -> None:
    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        if auth["token"] == "old":
            await socket.disconnect(resumable=True)

    async with running(io):
        client = ModelClient(io)
        client.open("old")
        await until(lambda: client.disconnected_by_server)
        await io.emit("meanwhile")
        client.disconnected_by_server = False
        await client.connect("new")
        assert client.recovered
        assert await client.wait_for(1) == [["meanwhile"]]


async def test_without_recovery_a_client_sent_away_starts_anew() -> None:
    io = waypost.Server(drain_s=0.0, recovery=None)
    io.on("renew", lambda socket: socket.disconnect(resumable=True))

    @io.event
    async def leave(socket: waypost.Socket) -> None:
        await socket.disconnect(resumable=True)

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        client.send('2["leave"]')
        await until(lambda: client.disconnected_by_server)
        await client.connect()
        assert not client.recovered


@pytest.mark.parametrize("kind", ["named", "child", "decided"])
async def test_a_namespace_without_a_journal_stores_nothing(io: waypost.Server, kind: str) -> None:
    auths: list[Any] = []
    if kind == "named":
        ops: Any = io.of("/ops", recovery=None)
        assert io.of("/ops") is ops
    elif kind == "child":
        ops = io.of(re.compile("/o.*"), recovery=None)
    else:
        ops = io.of(lambda name, auth: name == "/ops", recovery=None)

    async def connect(socket: waypost.Socket, auth: Any) -> None:
        auths.append(auth)
        await socket.join("room")
        socket.data["name"] = "Ada"

    ops.on("connect", connect)

    async with running(io):
        client, root = ModelClient(io, "/ops"), ModelClient(io)
        await root.connect()
        client.payload = {"pid": "the application's own", "offset": 7}
        await client.connect()
        assert "pid" not in client.answer
        assert auths == [{"pid": "the application's own", "offset": 7}]
        await ops.to("room").emit("news", "text")
        await client.wait_for(1)
        assert client.events == [["news", "text"]], "it carries no offset"
        await client.cut()
        await ops.emit("missed")
        await client.connect()
        await ops.emit("new")
        assert await client.wait_for(2) == [["news", "text"], ["new"]]
        await ops.disconnect_sockets()
        await until(lambda: client.disconnected_by_server)
        assert set(io.state().journals) == {"/"}
        assert await hub_of(io).services.store.followed_journals() == ["/"]


async def test_a_namespace_whose_journal_is_open_can_t_do_without(io: waypost.Server) -> None:
    async with running(io):
        await io.of("/ops").emit("stored")
        with pytest.raises(waypost.ConfigurationError, match="before /ops is used"):
            io.of("/ops", recovery=None)
    with pytest.raises(waypost.ConfigurationError, match="inherit"):
        io.of("/ops", recovery="off")  # type: ignore[call-overload]
