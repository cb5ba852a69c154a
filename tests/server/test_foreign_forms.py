"""Handlers in python-socketio's or Node's form are refused when they are registered, with the line to write."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

import waypost
from tests.server.model_client import ModelClient, running, until


async def connect_with_environ(sid: str, environ: dict[str, Any]) -> None: ...


async def connect_with_auth(sid: str, environ: dict[str, Any], auth: dict[str, Any]) -> None: ...


def connect_in_a_thread(sid: str, environ: dict[str, Any], auth: Any = None) -> None: ...


async def half_ported(socket: waypost.Socket, environ: dict[str, Any], auth: Any) -> None: ...


async def too_much(socket: waypost.Socket, auth: Any, more: Any) -> None: ...


async def disconnect(sid: str) -> None: ...


async def disconnect_with_reason(sid: str, reason: str) -> None: ...


async def order(sid: str, item: str, count: int) -> None: ...


FORMS: list[tuple[str, Callable[..., Any], str]] = [
    (
        "connect",
        connect_with_environ,
        "`async def connect_with_environ(socket):`; socket.id is the sid; socket.hands",
    ),
    ("connect", connect_with_auth, "`async def connect_with_auth(socket, auth):`; socket.id is the sid"),
    ("connect", connect_in_a_thread, "`def connect_in_a_thread(socket, auth):`"),
    ("connect", half_ported, "`async def half_ported(socket, auth):`; socket.handshake has"),
    ("connect", too_much, "`async def too_much(socket, auth):`"),
    ("disconnect", disconnect, "`async def disconnect(socket):`; socket.id is the sid"),
    ("disconnect", disconnect_with_reason, "`async def disconnect_with_reason(socket, reason):`"),
    ("order", order, "`async def order(socket, item, count):`"),
]


@pytest.mark.parametrize(("event", "handler", "line"), FORMS)
def test_the_form_is_refused_with_the_line_to_write(event: str, handler: Callable[..., Any], line: str) -> None:
    io = waypost.Server()
    for owner in (io, io.of("/chat"), io.of(lambda name, auth: True)):
        with pytest.raises(waypost.ConfigurationError) as refused:
            owner.on(event, handler)
        assert line in str(refused.value)


def test_the_methods_of_a_class_are_refused_too() -> None:
    class Chat:
        async def on_connect(self, sid: str, environ: dict[str, Any]) -> None: ...

    with pytest.raises(waypost.ConfigurationError, match=r"`async def on_connect\(socket\):`"):
        waypost.Server().of("/chat").register(Chat())


def test_a_catch_all_and_a_middleware() -> None:
    io = waypost.Server()
    with pytest.raises(waypost.ConfigurationError, match=r"`def catch\(socket, event, \*args\):`"):

        @io.on_any
        def catch(event: Any, sid: str, data: Any) -> None: ...

    with pytest.raises(waypost.ConfigurationError, match=r"`def guard\(socket\):`: it returns to let the client in"):

        @io.use
        def guard(socket: waypost.Socket, following: Any) -> None: ...


async def test_a_handler_of_one_socket_gets_no_socket() -> None:
    io = waypost.Server(drain_s=0.0)
    problems: list[waypost.ConfigurationError] = []

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        try:
            socket.on("disconnect", lambda socket, reason: None)
        except waypost.ConfigurationError as problem:
            problems.append(problem)
        socket.on("login", lambda sid: None)  # an argument of the event may have this name

    async with running(io):
        await ModelClient(io).connect()
    assert "def <lambda>(reason):" in str(problems[0])


def test_handlers_written_for_waypost_are_taken() -> None:
    io = waypost.Server()
    io.on("connect", lambda socket: None)
    io.on("disconnect", lambda socket, reason, extra=None: None)
    io.on("pair", lambda socket, sid: None)
    io.on("any", lambda *args: None)
    io.on_any(lambda socket, event, *args: None)
    io.use(lambda socket, log=None: None)


@pytest.mark.parametrize("is_left", [False, True])
async def test_a_connect_handler_that_refuses_everybody_says_so(
    caplog: pytest.LogCaptureFixture, is_left: bool
) -> None:
    io = waypost.Server(drain_s=0.0)
    gone: list[waypost.Socket] = []

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: dict[str, Any]) -> None:
        if "token" not in auth:
            if is_left:
                raise waypost.NotConnected("another", "/", "emit")
            raise KeyError("token")
        gone.append(socket)

    async with running(io):
        await ModelClient(io).connect()
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert record.exc_info is not None
        assert record.getMessage().endswith("in /; its client is refused; no client has got in since the start")
        await ModelClient(io).connect("secret")
        await until(lambda: bool(gone))
        await ModelClient(io).connect()
        assert caplog.records[-1].getMessage().endswith("in /; its client is refused")


@pytest.mark.parametrize("place", ["connect", "middleware"])
async def test_false_lets_nobody_in(place: str, caplog: pytest.LogCaptureFixture) -> None:
    io = waypost.Server(drain_s=0.0)

    def login(socket: waypost.Socket) -> bool:
        return bool(socket.handshake.auth == {"token": "secret"})

    if place == "connect":
        io.on("connect", login)
    else:
        io.use(login)
    async with running(io):
        stranger, friend = ModelClient(io), ModelClient(io)
        await stranger.connect()
        assert stranger.refusal == {"message": "Internal server error"}
        await friend.connect("secret")
        assert friend.connected
    assert f"result of {place}=False: expected None; to refuse, raise waypost.ConnectionRefused" in caplog.text


async def test_false_lets_no_event_pass(caplog: pytest.LogCaptureFixture) -> None:
    io = waypost.Server(drain_s=0.0)
    handled: list[int] = []

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        socket.use(lambda event, number: number > 0)

    @io.event
    async def order(socket: waypost.Socket, number: int) -> bool:
        handled.append(number)
        return False  # an ack

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        client.send('2["order",0]')
        assert await client.call("order", 1) == [False]
    assert handled == [1]
    assert "result of middleware=False" in caplog.text
