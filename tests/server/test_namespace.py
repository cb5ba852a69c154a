"""Handlers, acks, middleware and disconnects, between a model client and a server without any transport."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from typing import Any

import pytest

import waypost
from tests.server.model_client import HANDSHAKE, ModelClient, hub_of, running, until


@pytest.fixture
def io() -> waypost.Server:
    return waypost.Server(drain_s=0.0, connect_timeout_s=0.3)


async def test_what_a_handler_returns_is_the_ack(io: waypost.Server) -> None:
    answers: dict[str, Any] = {"none": None, "one": 1, "list": [1, 2], "tuple": (1, [2]), "bytes": b"x"}

    @io.event
    async def ask(socket: waypost.Socket, name: str) -> Any:
        return answers[name]

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        got = {name: await client.call("ask", name) for name in answers}
        assert got == {"none": [], "one": [1], "list": [[1, 2]], "tuple": [1, [2]], "bytes": [b"x"]}


async def test_plain_functions_run_in_a_thread(io: waypost.Server) -> None:
    @io.event
    def where(socket: waypost.Socket) -> bool:
        return threading.current_thread() is threading.main_thread()

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert await client.call("where") == [False]


async def test_events_of_one_socket_are_handled_in_order(io: waypost.Server) -> None:
    handled: list[int] = []

    @io.event
    async def work(socket: waypost.Socket, number: int) -> None:
        await asyncio.sleep(0.01 if number == 0 else 0)
        handled.append(number)

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        for number in range(5):
            client.send(f'2["work",{number}]')
        await until(lambda: len(handled) == 5)
        assert handled == [0, 1, 2, 3, 4]


async def test_failing_handler_is_logged_and_tells_the_client_nothing(
    io: waypost.Server, caplog: pytest.LogCaptureFixture
) -> None:
    @io.event
    async def fail(socket: waypost.Socket) -> None:
        raise RuntimeError("secret")

    @io.event
    async def echo(socket: waypost.Socket, value: int) -> int:
        return value

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        client.send('27["fail"]')
        assert await client.call("echo", 1, ack_id=8) == [1]
        assert 7 not in client.acks
        assert "secret" in caplog.text


async def test_mismatched_arguments_are_answered_with_an_error(io: waypost.Server) -> None:
    @io.event
    async def pair(socket: waypost.Socket, one: int, two: int = 0) -> None:
        raise AssertionError("not to be called")

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert await client.call("pair", 1, 2, 3) == [{"error": "pair takes 1 to 2 argument(s), 3 came"}]
        assert await client.call("pair") == [{"error": "pair takes 1 to 2 argument(s), 0 came"}]


async def test_refusal_carries_text_and_data(io: waypost.Server) -> None:
    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: dict[str, Any]) -> None:
        await socket.join("room")
        await socket.emit("leaked")
        raise waypost.ConnectionRefused("go away", {"retry": False})

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert client.refusal == {"message": "go away", "data": {"retry": False}}
        assert client.events == []
        assert len(hub_of(io).directory.core("/").index) == 0


async def test_exception_on_the_way_in_refuses_without_details(
    io: waypost.Server, caplog: pytest.LogCaptureFixture
) -> None:
    @io.use
    async def gate(socket: waypost.Socket) -> None:
        raise RuntimeError("secret")

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert client.refusal == {"message": "Internal server error"}
        assert "secret" in caplog.text


async def test_unknown_namespace_is_refused(io: waypost.Server) -> None:
    async with running(io):
        client = ModelClient(io, "/nowhere")
        await client.connect()
        assert client.refusal == {"message": "Invalid namespace"}


async def test_broadcasts_do_not_reach_who_is_not_admitted_yet(io: waypost.Server) -> None:
    waiting, go = asyncio.Event(), asyncio.Event()

    @io.use
    async def gate(socket: waypost.Socket) -> None:
        waiting.set()
        await go.wait()
        raise waypost.ConnectionRefused("no")

    async with running(io):
        client = ModelClient(io)
        client.open()
        await waiting.wait()
        await io.emit("secret")
        go.set()
        await until(lambda: client.refusal is not None)
        assert client.events == []


async def test_disconnect_of_a_namespace_and_its_reason(io: waypost.Server) -> None:
    reasons: list[str] = []
    io.on("disconnect", lambda socket, reason: reasons.append(reason))

    @io.event
    async def kick(socket: waypost.Socket) -> None:
        await socket.disconnect()

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        client.send('2["kick"]')
        await until(lambda: client.disconnected_by_server)
        await until(lambda: bool(reasons))
        # What the client sent before it knew is no reason to close its connection.
        client.send('2["kick"]')
        assert reasons == ["server namespace disconnect"]
        assert client.connection is not None
        assert client.connection.is_open
        # But one that carries nothing for long is closed, also after its last namespace was left.
        await until(lambda: not client.connection.is_open if client.connection else True)


async def test_disconnecting_in_the_connect_handler_tells_both(io: waypost.Server) -> None:
    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        await socket.disconnect()

    async with running(io):
        client = ModelClient(io)
        client.open()
        await until(lambda: client.disconnected_by_server)
        assert client.sid is not None


async def test_every_connect_handler_that_ran_gets_its_disconnect(io: waypost.Server) -> None:
    calls: list[str] = []
    entered, go = asyncio.Event(), asyncio.Event()

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        entered.set()
        await go.wait()
        calls.append("connected")

    @io.on("disconnect")
    async def disconnect(socket: waypost.Socket, reason: str) -> None:
        calls.append(reason)

    async with running(io):
        client = ModelClient(io)
        client.open()
        await entered.wait()
        await client.cut()
        go.set()
        await until(lambda: len(calls) == 2)
        assert calls == ["connected", "transport close"]
        assert len(hub_of(io).directory.core("/").index) == 0


async def test_call_of_a_client_that_leaves_for_good_ends(io: waypost.Server) -> None:
    sockets: list[waypost.Socket] = []
    io.on("connect", sockets.append)
    async with running(io):
        client = ModelClient(io)
        client.auto_ack = False
        await client.connect()
        call = asyncio.create_task(sockets[0].call("question", timeout_s=5))
        await until(lambda: len(client.to_acknowledge) == 1)
        client.send("1")
        with pytest.raises(waypost.NotConnected):
            await call


async def test_call_times_out_and_leaves_nothing(io: waypost.Server) -> None:
    sockets: list[waypost.Socket] = []
    io.on("connect", sockets.append)
    async with running(io):
        client = ModelClient(io)
        client.auto_ack = False
        await client.connect()
        with pytest.raises(waypost.AckTimeout):
            await sockets[0].call("question", timeout_s=0.01)
        assert len(sockets[0]._channel.out.acks) == 0


async def test_emits_of_the_connect_handler_come_after_connect_and_in_order(io: waypost.Server) -> None:
    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        await socket.join("room")
        await socket.emit("first")
        await io.to("room").emit("second")
        with pytest.raises(waypost.NotConnected):
            await socket.call("can not answer yet")

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        await client.wait_for(2)
        assert client.events == [["first"], ["second"]]


async def test_flood_of_events_pauses_reading_and_loses_none() -> None:
    io = waypost.Server(drain_s=0.0, max_pending_events=10)
    handled: list[int] = []
    go = asyncio.Event()

    @io.event
    async def work(socket: waypost.Socket, number: int) -> None:
        await go.wait()
        handled.append(number)

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        for number in range(10):
            client.send(f'2["work",{number}]')
        assert client.connection is not None
        readable = asyncio.create_task(client.connection.wait_until_readable())
        await asyncio.sleep(0)
        assert not readable.done() or len(handled) > 0
        go.set()
        await readable
        await until(lambda: handled == list(range(10)))


async def test_unknown_option_is_an_error_at_once() -> None:
    with pytest.raises(waypost.ConfigurationError, match="did you mean ping_interval_s"):
        waypost.Server(ping_intervall_s=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "options",
    [{"ping_interval_s": 0}, {"transports": "polling"}, {"path": "socket.io"}, {"cors_allowed_origins": "x"}],
)
async def test_wrong_option_is_an_error_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(waypost.ConfigurationError, match=next(iter(options))):
        waypost.Server(**options)


async def test_handler_with_required_keyword_is_refused_at_registration(
    io: waypost.Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(waypost.ConfigurationError, match="keyword-only"):

        @io.event
        async def wrong(socket: waypost.Socket, *, needed: int) -> None: ...


async def test_only_our_own_client_is_told_what_server_it_is() -> None:
    async with running(waypost.Server()) as io:
        official = ModelClient(io)
        await official.connect()
        own = ModelClient(io, handshake=replace(HANDSHAKE, headers={"waypost-client": "1"}))
        await own.connect()
    assert "waypost" not in official.answer
    assert own.answer["waypost"] == 1
