"""Application code that raises what is no `Exception`: it concerns that event only, wherever the code is called."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

import waypost
from tests.server.model_client import HANDSHAKE, ModelClient, hub_of, running, until
from waypost.server.calling.faults import fault


class Own(BaseException):
    """An exception of the application that is no `Exception`."""


FAULTS: list[Callable[[], BaseException]] = [SystemExit, asyncio.CancelledError, Own, ValueError]


@pytest.fixture(params=FAULTS, ids=lambda kind: kind.__name__)
def raised(request: pytest.FixtureRequest) -> BaseException:
    kind: Callable[[], BaseException] = request.param
    return kind()


@pytest_asyncio.fixture
async def io() -> AsyncIterator[waypost.Server]:
    io = waypost.Server(drain_s=0.0)

    @io.event
    async def echo(socket: waypost.Socket, value: Any) -> Any:
        return value

    async with running(io):
        yield io


async def still_serves(io: waypost.Server) -> None:
    other = ModelClient(io)
    await other.connect()
    assert await other.call("echo", "other") == ["other"]


def failures_of(io: waypost.Server) -> list[waypost.HandlerFailure]:
    failures: list[waypost.HandlerFailure] = []
    io.hooks.error(failures.append)
    return failures


@pytest.mark.parametrize("concurrent", [False, True])
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_handler(io: waypost.Server, raised: BaseException, is_async: bool, concurrent: bool) -> None:
    async def waits(socket: waypost.Socket) -> None:
        await asyncio.sleep(0)
        raise raised

    def blocks(socket: waypost.Socket) -> None:
        raise raised

    io.on("fail", waits if is_async else blocks, concurrent=concurrent)
    failures = failures_of(io)
    client = ModelClient(io)
    await client.connect()
    client.send('21["fail"]')
    for number in range(2, 1_100):
        client.send(f'2{number}["echo",{number}]')
    await until(lambda: len(client.acks) == 1_098)
    # Official clients are not told of a failure, as with Node's server.
    assert client.acks == {number: [number] for number in range(2, 1_100)}
    await until(lambda: bool(failures))
    assert [failure.error for failure in failures] == [raised]
    await still_serves(io)


async def test_a_def_handler_that_raises_stop_iteration_ends(io: waypost.Server) -> None:
    @io.event
    def fail(socket: waypost.Socket) -> None:
        next(iter(()))

    client = ModelClient(io)
    await client.connect()
    client.send('21["fail"]')
    assert await client.call("echo", 1, ack_id=2) == [1]


@pytest.mark.parametrize("moment", ["connect", "middleware"])
async def test_code_that_lets_a_client_in(io: waypost.Server, raised: BaseException, moment: str) -> None:
    async def fail(socket: waypost.Socket) -> None:
        if socket.handshake.auth:
            raise raised

    if moment == "connect":
        io.on("connect", fail)
    else:
        io.use(fail)
    client = ModelClient(io)
    await client.connect("bad")
    assert client.refusal == {"message": "Internal server error"}
    client.send("0")
    await until(lambda: client.connected)
    await still_serves(io)


async def test_code_that_decides_on_recovery(raised: BaseException) -> None:
    def sends_offset(handshake: waypost.Handshake) -> bool:
        if "bad" in handshake.query:
            raise raised
        return True

    async def may_resume(earlier: waypost.Handshake, now: waypost.Handshake) -> bool:
        raise raised

    io = waypost.Server(drain_s=0.0, recovery=waypost.Recovery(sends_offset=sends_offset, may_resume=may_resume))
    async with running(io):
        bad = ModelClient(io, handshake=dataclasses.replace(HANDSHAKE, query={"bad": ""}))
        await bad.connect()
        assert bad.refusal == {"message": "Internal server error"}
        client = ModelClient(io)
        await client.connect()
        await client.cut()
        await client.connect()
        assert client.refusal == {"message": "Internal server error"}
        client.pid = None
        client.send("0")
        await until(lambda: client.connected)


async def test_allow_request(raised: BaseException) -> None:
    async def allow(handshake: waypost.Handshake) -> bool:
        raise raised

    io = waypost.Server(drain_s=0.0, allow_request=allow)
    async with running(io):
        refused = await hub_of(io).gate.refusal(HANDSHAKE)
        assert refused is not None
        assert refused.status == 403


async def test_all_other_code_of_a_socket(io: waypost.Server, raised: BaseException) -> None:
    told: list[str] = []

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        @socket.use
        async def refuse(event: str, *args: Any) -> None:
            told.append("socket middleware")
            if event == "refused":
                raise raised

    @io.on_any
    async def any_event(socket: waypost.Socket, event: str, *args: Any) -> None:
        told.append("any event")
        raise raised

    @io.on_any_outgoing
    def any_outgoing(socket: waypost.Socket, event: str, *args: Any) -> None:
        told.append("any outgoing event")
        raise raised

    @io.hooks.socket_connected
    def observe(event: waypost.SocketConnected) -> None:
        told.append("hook")
        raise raised

    @io.on("disconnecting")
    async def disconnecting(socket: waypost.Socket, reason: str) -> None:
        told.append("disconnecting")
        raise raised

    @io.on("disconnect")
    async def disconnect(socket: waypost.Socket, reason: str) -> None:
        told.append("disconnect")
        raise raised

    @io.on("session_expired")
    async def session_expired(session: waypost.EndedSession) -> None:
        told.append("session_expired")
        raise raised

    client = ModelClient(io, handshake=dataclasses.replace(HANDSHAKE, query={"waypost-offsets": "no"}))
    await client.connect()
    client.send('21["refused"]')
    assert await client.call("echo", 1, ack_id=2) == [1]
    await io.emit("news")
    assert await client.wait_for(1) == [["news"]]
    await client.cut()
    await until(lambda: "session_expired" in told)
    assert told == [
        "hook",
        "socket middleware",
        "socket middleware",
        "any event",
        "any outgoing event",
        "disconnecting",
        "disconnect",
        "session_expired",
    ]
    await still_serves(io)


async def test_a_parent_and_a_worker(raised: BaseException) -> None:
    io = waypost.Server(drain_s=0.0)
    came: list[int] = []

    async def decide(name: str, auth: Any) -> bool:
        if name == "/bad":
            raise raised
        return True

    parent = io.of(decide)

    @parent.on("new_namespace")
    async def made(child: waypost.Namespace) -> None:
        raise raised

    @io.consumer("jobs")
    async def work(message: waypost.Message) -> None:
        came.append(message.attempt)
        if len(came) == 1:
            raise raised

    async with running(io):
        bad, good = ModelClient(io, "/bad"), ModelClient(io, "/good")
        await bad.connect()
        assert bad.refusal is not None
        await good.connect()
        assert good.connected
        await io.queue("jobs").configure(first_backoff_s=0.001)
        await io.queue("jobs").emit("job")
        await until(lambda: len(came) == 2)
        assert came == [1, 2]


async def test_what_is_meant_for_the_task_is_no_fault() -> None:
    async def run() -> None:
        try:
            await asyncio.sleep(60)
        except BaseException as error:
            fault(error)
            raise AssertionError("it was taken for a fault") from error

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for kind in (KeyboardInterrupt, GeneratorExit):
        with pytest.raises(kind):
            fault(kind())
    assert sys.exc_info() == (None, None, None)
