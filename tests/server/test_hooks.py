"""Observers are told of everything, in order; they can't harm whom they watch; nobody else is told secrets."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import waypost
from tests.server.model_client import ModelClient, hub_of, running, until
from waypost.protocol.socketio import PacketType
from waypost.server.watching.hooks import Hook


@pytest.fixture
def io() -> waypost.Server:
    return waypost.Server(drain_s=0.0, connect_timeout_s=0.3)


async def test_one_clients_life_is_told_in_order(io: waypost.Server) -> None:
    told: list[tuple[str, Any]] = []

    def listen(hook: Hook[Any]) -> None:
        hook(lambda event: told.append((hook.name, event)))

    for name in io.hooks.__slots__:
        listen(getattr(io.hooks, name))

    @io.event
    async def ask(socket: waypost.Socket) -> int:
        return 42

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert await client.call("ask", ack_id=3) == [42]
        sid = client.sid
        await client.cut()
        await until(lambda: told[-1][0] == "socket_disconnected")
    assert [name for name, _ in told] == [
        "connection_opened",
        "packet_received",
        "socket_connected",
        "packet_sent",
        "packet_received",
        "packet_sent",
        "connection_closed",
        "socket_disconnected",
    ]
    events = [event for _, event in told]
    assert {event.connection for event in events} == {1}
    assert events[0].handshake is client.handshake
    assert events[1].packet.type is PacketType.CONNECT
    assert (events[2].socket_id, events[2].namespace, events[2].recovered) == (sid, "/", False)
    assert events[4].packet.data == ["ask"]
    assert events[5].frames == ("433[42]",)
    assert events[6].reason == events[7].reason == "transport close"
    assert events[6].duration_s >= 0


@pytest.mark.parametrize("where", ["event", "middleware", "connect", "disconnect"])
async def test_what_handlers_raise_is_told_and_the_client_learns_nothing(io: waypost.Server, where: str) -> None:
    failures: list[waypost.HandlerFailure] = []
    io.hooks.error(failures.append)

    async def fail(*arguments: Any) -> None:
        raise RuntimeError("a secret")

    if where == "middleware":
        io.use(fail)
    else:
        io.on(where, fail)
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        if where == "event":
            client.send('21["event"]')
        elif where == "disconnect":
            await client.cut()
        await until(lambda: bool(failures))
        assert failures[0].event == where
        assert failures[0].namespace == "/"
        assert isinstance(failures[0].error, RuntimeError)
        assert "secret" not in str((client.refusal, client.acks, client.events))
        if client.sid:
            assert failures[0].socket_id == client.sid


async def test_a_refusal_is_no_failure(io: waypost.Server) -> None:
    failures: list[waypost.HandlerFailure] = []
    io.hooks.error(failures.append)

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        raise waypost.ConnectionRefused("not you")

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert client.refusal == {"message": "not you"}
    assert failures == []


async def test_a_client_that_goes_while_its_handler_runs_is_no_failure(
    io: waypost.Server, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[waypost.HandlerFailure] = []
    io.hooks.error(failures.append)

    @io.event
    async def ask(socket: waypost.Socket) -> None:
        await until(lambda: not socket.connected)
        await socket.call("question")

    with caplog.at_level(logging.INFO):
        async with running(io):
            client = ModelClient(io)
            await client.connect()
            client.send('2["ask"]')
            await client.cut()
            await until(lambda: "ended early" in caplog.text)
    assert failures == []
    assert "Traceback" not in caplog.text


async def test_an_observer_that_raises_harms_nobody(io: waypost.Server, caplog: pytest.LogCaptureFixture) -> None:
    told: list[object] = []

    def fail(event: object) -> None:
        raise RuntimeError("a faulty observer")

    for name in io.hooks.__slots__:
        hook: Hook[Any] = getattr(io.hooks, name)
        hook(fail)
        hook(told.append)
    io.on("echo", lambda socket, value: value)
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert await client.call("echo", 5) == [5]
    assert "a faulty observer" in caplog.text
    assert told


async def test_a_removed_observer_is_told_nothing(io: waypost.Server) -> None:
    told: list[object] = []
    io.hooks.connection_opened(told.append)
    io.hooks.connection_opened.remove(told.append)
    async with running(io):
        await ModelClient(io).connect()
    assert told == []
    assert told.append not in io.hooks.connection_opened.observers


@pytest.mark.parametrize("observer", ["text", None])
def test_what_is_no_function_is_refused_as_an_observer(io: waypost.Server, observer: Any) -> None:
    with pytest.raises(waypost.ConfigurationError, match="a function"):
        io.hooks.error(observer)


def test_async_observers_are_refused(io: waypost.Server) -> None:
    async def observer(event: object) -> None: ...

    with pytest.raises(waypost.ConfigurationError, match="plain function"):
        io.hooks.packet_sent(observer)


async def test_connections_are_numbered(io: waypost.Server) -> None:
    numbers: list[int] = []
    io.hooks.connection_opened(lambda opened: numbers.append(opened.connection))
    async with running(io):
        for _ in range(3):
            await ModelClient(io).connect()
        sids = [connection.sid for connection in hub_of(io).engine.connections()]
    assert numbers == [1, 2, 3]
    assert len(set(sids)) == 3
