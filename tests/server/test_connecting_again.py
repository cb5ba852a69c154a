"""A client that sends CONNECT again: the newest one counts, and withdraws the one before, whatever has become of it.

`connect(); disconnect(); connect()` of an official client on an open connection sends two CONNECTs and no DISCONNECT.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import waypost
from tests.server.model_client import ModelClient, hub_of, running, until
from waypost.server.namespaces.channel import Channel


class Stage:
    """A server whose clients can be stopped on their way in.

    Attributes:
        seen: What the application was told, in order: the moment, and the number of the auth.
    """

    def __init__(self, stop_at: str | None) -> None:
        self.io = waypost.Server(drain_s=0.0)
        self.seen: list[tuple[str, int]] = []
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self._stop_at = stop_at
        self._numbers: dict[str, int] = {}
        self.io.use(self._middleware)
        self.io.on("connect")(self._connect)
        self.io.on("disconnect")(self._disconnect)
        self.io.on("echo")(self._echo)

    async def _middleware(self, socket: waypost.Socket) -> None:
        await self._pass("middleware", socket, int(socket.handshake.auth["token"]))

    async def _connect(self, socket: waypost.Socket, auth: Any) -> None:
        self._numbers[socket.id] = int(auth["token"])
        await self._pass("connect", socket, int(auth["token"]))

    async def _disconnect(self, socket: waypost.Socket, reason: str) -> None:
        if reason == "client namespace disconnect":
            self.seen.append(("disconnect", self._numbers[socket.id]))

    async def _echo(self, socket: waypost.Socket, value: Any) -> tuple[Any, int]:
        return value, self._numbers[socket.id]

    async def _pass(self, stage: str, socket: waypost.Socket, number: int) -> None:
        self.seen.append((stage, number))
        if stage == self._stop_at and number == 1:
            self.reached.set()
            await self.go_on.wait()


def channels(io: waypost.Server) -> list[Channel]:
    return [one for one in hub_of(io).directory.core("/").index if isinstance(one, Channel)]


@pytest.mark.parametrize("says_goodbye", [False, True])
@pytest.mark.parametrize(
    ("stop_at", "seen"),
    [
        ("middleware", [("middleware", 1), ("middleware", 2), ("connect", 2)]),
        ("connect", [("middleware", 1), ("connect", 1), ("disconnect", 1), ("middleware", 2), ("connect", 2)]),
    ],
)
async def test_a_connect_withdraws_the_one_that_is_not_answered(
    stop_at: str, seen: list[tuple[str, int]], says_goodbye: bool
) -> None:
    stage = Stage(stop_at)
    async with running(stage.io):
        client, other = ModelClient(stage.io), ModelClient(stage.io)
        other.open("0")
        await until(lambda: other.connected)
        stage.seen.clear()
        client.open("1")
        await stage.reached.wait()
        if says_goodbye:
            client.send("1")
        client.send('0{"token":"2"}')
        assert not client.connected
        stage.go_on.set()
        await until(lambda: client.connected)
        assert await client.call("echo", "still here") == ["still here", 2]
        assert client.answers == 1
        assert sorted(stage.seen) == sorted(seen)
        assert stage.seen.index(seen[0]) < stage.seen.index(("middleware", 2))
        assert len(hub_of(stage.io).directory.core("/").index) == 2


async def test_a_connect_that_was_withdrawn_gets_no_refusal() -> None:
    io, reached, go_on = waypost.Server(drain_s=0.0), asyncio.Event(), asyncio.Event()

    @io.use
    async def refuse_the_first(socket: waypost.Socket) -> None:
        if socket.handshake.auth["token"] == "1":
            reached.set()
            await go_on.wait()
            raise waypost.ConnectionRefused("not you")

    async with running(io):
        client = ModelClient(io)
        client.open("1")
        await reached.wait()
        client.send('0{"token":"2"}')
        go_on.set()
        await until(lambda: client.connected)
        assert client.refusal is None


async def test_a_connect_ends_the_socket_that_is_connected() -> None:
    stage = Stage(None)
    async with running(stage.io):
        client = ModelClient(stage.io)
        client.open("1")
        await until(lambda: client.connected)
        first, room = client.sid, stage.io.to(client.sid or "")
        client.send('0{"token":"2"}')
        await until(lambda: client.answers == 2 and ("disconnect", 1) in stage.seen)
        assert client.sid != first
        assert await client.call("echo", "still here") == ["still here", 2]
        await room.emit("for the one before")
        await stage.io.emit("for all")
        assert await client.wait_for(1) == [["for all"]]


async def test_events_between_a_second_connect_and_its_answer_are_for_the_second() -> None:
    """The client takes the answer to its first CONNECT for the one to its second, and begins to send."""
    stage = Stage("never")
    stage.go_on.clear()
    async with running(stage.io):
        client = ModelClient(stage.io)
        client.open("2")
        await until(lambda: client.connected)
        stage._stop_at = "middleware"
        client.send('0{"token":"1"}')
        client.send('21["echo","early"]')
        client.send('51-2["echo",{"_placeholder":true,"num":0}]')
        assert client.connection is not None
        client.connection.receive(b"attachment")
        await stage.reached.wait()
        client.send('23["echo","late"]')
        assert client.acks == {}
        stage.go_on.set()
        await until(lambda: len(client.acks) == 3)
        assert client.acks == {1: ["early", 1], 2: [b"attachment", 1], 3: ["late", 1]}


async def test_events_before_any_answer_still_break_the_protocol() -> None:
    stage = Stage("middleware")
    async with running(stage.io):
        client = ModelClient(stage.io)
        client.open("1")
        await stage.reached.wait()
        client.send('0{"token":"2"}')
        with pytest.raises(waypost.ProtocolViolation):
            client.send('2["echo","early"]')
        stage.go_on.set()


async def test_events_for_a_namespace_that_is_not_answered_break_the_protocol_beside_one_that_is() -> None:
    stage = Stage(None)
    waits = asyncio.Event()

    @stage.io.of("/slow").use
    async def wait(socket: waypost.Socket) -> None:
        await waits.wait()

    async with running(stage.io):
        client = ModelClient(stage.io)
        client.open("1")
        await until(lambda: client.connected)
        assert client.connection is not None
        client.connection.receive("40/slow,{}")
        with pytest.raises(waypost.ProtocolViolation):
            client.connection.receive('42/slow,["echo","early"]')
        waits.set()


async def test_more_events_than_may_wait_are_read_later() -> None:
    stage = Stage(None)
    async with running(stage.io):
        client = ModelClient(stage.io)
        client.open("2")
        await until(lambda: client.connected)
        stage._stop_at = "middleware"
        client.send('0{"token":"1"}')
        await stage.reached.wait()
        assert client.connection is not None
        for number in range(1_000):
            assert client.connection.is_readable
            client.send(f'2{number}["echo","early"]')
        assert not client.connection.is_readable
        stage.go_on.set()
        await until(lambda: len(client.acks) == 1_000)
        assert client.connection.is_readable


async def test_a_refused_connect_leaves_the_socket_that_it_withdrew_ended() -> None:
    stage = Stage(None)

    @stage.io.use
    async def refuse(socket: waypost.Socket) -> None:
        if int(socket.handshake.auth["token"]) == 2:
            raise waypost.ConnectionRefused("no")

    async with running(stage.io):
        client = ModelClient(stage.io)
        client.open("1")
        await until(lambda: client.connected)
        client.send('0{"token":"2"}')
        client.send('21["echo","early"]')
        await until(lambda: client.refusal is not None)
        assert client.connection is not None
        assert client.connection.is_open
        client.send('0{"token":"3"}')
        await until(lambda: client.answers == 2)
        assert client.acks == {}


@pytest.mark.parametrize("stop_at", ["middleware", "connect", None])
async def test_a_session_outlives_a_connect_that_names_it_again(stop_at: str | None) -> None:
    stage = Stage(None)
    async with running(stage.io):
        client = ModelClient(stage.io)
        client.open("0")
        await until(lambda: client.connected)
        await stage.io.emit("first")
        await client.wait_for(1)
        first = client.sid
        await client.cut()
        await stage.io.emit("missed")
        stage._stop_at = stop_at
        client.open("1")
        if stop_at is None:
            await until(lambda: client.connected)
            await client.wait_for(2)
        else:
            await stage.reached.wait()
        client.send(f'0{{"token":"2","pid":"{client.pid}","offset":"{client.offset}"}}')
        stage.go_on.set()
        await until(lambda: [one.handshake.auth["token"] for one in channels(stage.io) if one.connected] == ["2"])
        await until(lambda: client.recovered)
        assert client.sid == first
        assert await client.wait_for(2) == [["first"], ["missed"]]
        assert await client.call("echo", "still here") == ["still here", 2]


async def test_a_session_ends_with_a_connect_that_names_another() -> None:
    stage = Stage(None)
    async with running(stage.io):
        client = ModelClient(stage.io)
        client.open("0")
        await until(lambda: client.connected)
        first = client.pid
        client.send('0{"token":"1","pid":"another"}')
        await until(lambda: client.answers == 2)
        await client.cut()
        client.payload = {"token": "2", "pid": first}
        await client.connect()
        assert client.answer["reason"] == "unknown session"


async def test_a_connect_that_waits_is_not_decided_once_its_client_has_left() -> None:
    stage = Stage("middleware")
    async with running(stage.io):
        client = ModelClient(stage.io)
        client.open("1")
        await stage.reached.wait()
        client.send('0{"token":"2"}')
        await client.cut()
        stage.go_on.set()
        other = ModelClient(stage.io)
        await other.connect("3")
        assert stage.seen == [("middleware", 1), ("middleware", 3), ("connect", 3)]
