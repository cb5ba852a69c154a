"""Middleware: of a namespace, asked about each client, and of a socket, asked about each event."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

import waypost
from tests.server.model_client import ModelClient, hub_of, running, until


@pytest.fixture
def io() -> waypost.Server:
    return waypost.Server(drain_s=0.0, recovery=None)


async def test_middleware_runs_in_order_before_the_connect_handler(io: waypost.Server) -> None:
    order: list[str] = []

    @io.use
    async def first(socket: waypost.Socket) -> None:
        await asyncio.sleep(0.01)
        order.append("async")

    @io.use
    def second(socket: waypost.Socket) -> None:
        order.append("thread")

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        order.append("connect")

    async with running(io):
        await ModelClient(io).connect()
        assert order == ["async", "thread", "connect"]


@pytest.mark.parametrize("data", [None, {"code": 7}, [1, None], 0, "", False])
async def test_a_refusal_ends_the_chain_and_brings_its_data(io: waypost.Server, data: Any) -> None:
    asked: list[str] = []

    @io.use
    async def gate(socket: waypost.Socket) -> None:
        await socket.join("secret")
        raise waypost.ConnectionRefused("not you", data)

    @io.use
    async def never(socket: waypost.Socket) -> None:
        asked.append("second")

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert client.refusal == ({"message": "not you"} if data is None else {"message": "not you", "data": data})
        await io.to("secret").emit("leak")
        await io.emit("leak")
        await client.wait_for(0)
        assert asked == []
        # The connection is still there: the client may try again, and be refused again.
        assert client.connection is not None
        client.send("0")
        assert client.connection.is_open


async def test_whatever_else_is_raised_says_nothing_of_itself(
    io: waypost.Server, caplog: pytest.LogCaptureFixture
) -> None:
    @io.use
    def gate(socket: waypost.Socket) -> None:
        raise KeyError("secret")

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert client.refusal == {"message": "Internal server error"}
        assert "secret" in caplog.text


@pytest.mark.parametrize("how", ["line cut", "disconnect packet"])
@pytest.mark.parametrize("recovery", [None, waypost.Recovery()])
async def test_a_client_that_leaves_in_middleware_is_not_let_in(
    how: str, recovery: waypost.Recovery | None, caplog: pytest.LogCaptureFixture
) -> None:
    io = waypost.Server(drain_s=0.0, recovery=recovery)
    go = asyncio.Event()
    seen: list[str] = []

    @io.use
    async def gate(socket: waypost.Socket) -> None:
        seen.append("gate")
        await go.wait()
        await socket.leave("room")

    @io.on("connect")
    @io.on("disconnect")
    async def later(socket: waypost.Socket) -> None:
        seen.append("let in")

    caplog.set_level(logging.WARNING)
    async with running(io):
        client = ModelClient(io)
        client.open()
        await until(lambda: seen == ["gate"])
        if how == "line cut":
            await client.cut()
        else:
            client.send("1")
        go.set()
        await until(lambda: hub_of(io).directory.core("/").is_idle)
        assert seen == ["gate"]
        assert not client.connected
        assert client.refusal is None
        assert caplog.records == []
        if how == "disconnect packet":
            client.send("0")
            await until(lambda: client.connected)


async def test_a_disconnect_packet_that_follows_connect_at_once_counts(io: waypost.Server) -> None:
    came: list[str] = []

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        came.append(socket.id)

    async with running(io):
        client = ModelClient(io)
        client.open()
        client.send("1")
        await until(lambda: hub_of(io).directory.core("/").is_idle)
        assert came == []
        assert not client.connected


async def test_middleware_that_disconnects_refuses(io: waypost.Server) -> None:
    @io.use
    async def gate(socket: waypost.Socket) -> None:
        await socket.disconnect()

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert client.refusal == {"message": "Disconnected by the server"}


async def test_middleware_of_a_socket_sees_every_event_and_may_refuse_it(
    io: waypost.Server, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []
    handled: list[Any] = []

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        @socket.use
        async def note(event: str, *args: Any) -> None:
            seen.append((event, *args))

        @socket.use
        def check(event: str, *args: Any) -> None:
            if event == "admin":
                raise waypost.EventRefused("not allowed", {"need": "admin"})
            if event == "broken":
                raise RuntimeError("secret")
            if event == "quiet":
                raise waypost.EventRefused

    @io.on_any
    async def any_event(socket: waypost.Socket, event: str, *args: Any) -> None:
        handled.append(event)

    @io.event
    async def echo(socket: waypost.Socket, value: Any) -> Any:
        return value

    caplog.set_level(logging.INFO)
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert await client.call("echo", 1) == [1]
        assert await client.call("admin", "x") == [{"error": "not allowed", "data": {"need": "admin"}}]
        assert await client.call("quiet") == [{"error": "Event refused"}]
        client.send('27["broken"]')
        client.send('2["admin"]')
        assert await client.call("echo", 2) == [2]
        assert 7 not in client.acks
        assert seen == [("echo", 1), ("admin", "x"), ("quiet",), ("broken",), ("admin",), ("echo", 2)]
        assert handled == ["echo", "echo"]
        errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert len(errors) == 1
        assert "secret" in caplog.text


async def test_the_error_hook_gets_what_a_socket_s_middleware_raised(io: waypost.Server) -> None:
    failures: list[waypost.HandlerFailure] = []
    io.hooks.error(failures.append)

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        @socket.use
        async def check(event: str) -> None:
            raise RuntimeError("secret")

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        client.send('2["any"]')
        await until(lambda: bool(failures))
        await until(lambda: len(failures) == 1)
        assert failures[0].event == "middleware"
        assert failures[0].socket_id == client.sid


async def test_disconnecting_comes_with_rooms_and_disconnect_without(io: waypost.Server) -> None:
    seen: list[tuple[str, str, frozenset[str]]] = []

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        await socket.join("a", "b")

        @socket.on("disconnecting")
        async def own(reason: str) -> None:
            seen.append(("own disconnecting", reason, socket.rooms - {socket.id}))

    @io.event
    async def before(socket: waypost.Socket) -> None:
        await asyncio.sleep(0.01)
        seen.append(("before", "", socket.rooms - {socket.id}))

    @io.on("disconnecting")
    async def disconnecting(socket: waypost.Socket, reason: str) -> None:
        seen.append(("disconnecting", reason, socket.rooms - {socket.id}))
        assert not socket.connected
        await socket.to("a").emit("left", socket.id)

    @io.on("disconnect")
    async def disconnect(socket: waypost.Socket, reason: str) -> None:
        seen.append(("disconnect", reason, socket.rooms))

    async with running(io):
        other, client = ModelClient(io), ModelClient(io)
        await other.connect()
        await client.connect()
        client.send('2["before"]')
        client.send("1")
        await until(lambda: len(seen) == 4)
        rooms = frozenset({"a", "b"})
        reason = "client namespace disconnect"
        assert seen == [
            ("before", "", rooms),
            ("own disconnecting", reason, rooms),
            ("disconnecting", reason, rooms),
            ("disconnect", reason, frozenset()),
        ]
        assert await other.wait_for(1) == [["left", client.sid]]
