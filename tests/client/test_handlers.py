"""Handlers beyond the plain ones: once, all events, loops, typed parameters; and what is left of a call."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

import waypost
from tests.client.serving import Recorder, accepts, playing, serving
from tests.support.link import Link
from tests.support.server_process import free_port
from tests.support.waiting import DEADLINE_S, until
from waypost.client import DisconnectDetails


@dataclass
class Parcel:
    """What a typed handler takes."""

    id: int
    weight: float = 1


async def test_once_is_once(io: waypost.Server, url: str) -> None:
    client = waypost.Client(url)
    seen: list[int] = []
    client.once("n", seen.append)
    recorder = Recorder(client, "end")

    @client.once("m")
    async def m(n: int) -> None:
        seen.append(-n)

    async with client:
        for n in range(1, 4):
            await io.emit("n", n)
            await io.emit("m", n)
        await io.emit("end")
        await until(lambda: bool(recorder.of("end")), "the end")
    assert sorted(seen) == [-1, 1]


async def test_off_takes_all_handlers_away(io: waypost.Server, url: str) -> None:
    client = waypost.Client(url)
    first = Recorder(client, "x")
    client.off()
    second = Recorder(client, "end")
    async with client:
        await io.emit("x")
        await io.emit("end")
        await until(lambda: bool(second.of("end")), "the end")
    assert first.seen == []


async def test_all_events_can_be_seen_both_ways(io: waypost.Server, url: str) -> None:
    client = waypost.Client(url)
    incoming: list[Any] = []
    outgoing: list[Any] = []
    steps: list[str] = []

    @client.on_any
    async def look(event: str, *args: Any) -> None:
        incoming.append((event, *args))
        steps.append("any")

    @client.on_any
    def look_too(event: str, *args: Any) -> None:
        steps.append("any too")

    @client.on_any_outgoing
    def look_out(event: str, *args: Any) -> None:
        outgoing.append((event, *args))

    client.on("news", lambda *args: steps.append("news"))
    with pytest.raises(waypost.ConfigurationError):
        client.on_any_outgoing(look)
    async with client:
        await io.emit("news", 1, b"2")
        await io.emit("nobody's")
        await until(lambda: len(incoming) == 2, "both events")
        await client.call("echo", 3)
        await client.volatile.emit("light")
        client.off_any(look)
        client.off_any_outgoing()
        await io.emit("news")
        await client.call("echo", 4)
        await until(lambda: steps.count("news") == 2, "the last event")
    assert incoming == [("news", 1, b"2"), ("nobody's",)]
    assert outgoing == [("echo", 3), ("light",)]
    assert steps == ["any", "any too", "news", "any", "any too", "any too", "news"]


async def test_typed_parameters(url: str, caplog: pytest.LogCaptureFixture) -> None:
    client = waypost.Client(url)
    seen: list[Parcel] = []

    @client.event
    async def pickup(parcel: Parcel) -> str:
        seen.append(parcel)
        return "accepted"

    async with client:
        assert await client.call("ask", "pickup", {"id": 7}) == {"answer": "accepted"}
        assert await client.call("ask", "pickup", {"id": "x"}) == {"answer": {"nack": "ArgumentMismatch"}}
    assert seen == [Parcel(7)]
    assert [record.levelno for record in caplog.records if "does not fit" in record.message] == [logging.WARNING]
    with pytest.raises(waypost.ConfigurationError):
        client.on("x", _takes_an_event)


def _takes_an_event(event: asyncio.Event) -> None: ...


async def test_annotations_of_what_the_client_itself_tells_are_for_readers() -> None:
    client = waypost.Client("http://127.0.0.1:1", reconnection=False)
    told: list[object] = []

    @client.event
    async def connect_error(error: waypost.ConnectFailed) -> None:
        told.append(error)

    @client.event
    def disconnect(reason: str, details: DisconnectDetails) -> None:
        told.append(details)

    @client.io.on("error")
    async def failed(error: waypost.ConnectFailed) -> None:
        told.append(error)

    with pytest.raises(waypost.ConnectFailed):
        await client.connect()
    await client.wait_closed()
    assert [type(error) for error in told] == [waypost.ConnectFailed]


async def test_a_loop_over_events(io: waypost.Server, url: str) -> None:
    client = waypost.Client(url)
    seen: list[Any] = []
    stream = client.events("a", "b")
    async with client:
        await io.emit("a", 1)
        await io.emit("c", 2)
        await io.emit("b", 3, 4)
        await io.emit("a")
        async for event in stream:
            seen.append((event.name, event.arg))
            if len(seen) == 3:
                break
    assert seen == [("a", 1), ("b", (3, 4)), ("a", None)]


async def test_a_loop_acknowledges_when_it_goes_on(url: str) -> None:
    async with waypost.Client(url) as client, client.events() as stream:
        asked = [asyncio.create_task(client.call("ask", "question", n)) for n in range(4)]
        first = await anext(stream)
        await asyncio.sleep(0.05)
        assert (first.args, asked[0].done()) == ((0,), False)
        second = await anext(stream)
        assert await asked[0] == {"answer": None}
        await second.reject("not now", retry_in_s=3)
        assert await asked[1] == {"answer": {"nack": "not now", "retry_in": 3}}
        await (await anext(stream)).ack("yes", b"and")
        assert await asked[2] == {"answer": ["yes", b"and"]}
        await anext(stream)
        await stream.close()
        assert await asked[3] == {"answer": {"nack": "nobody listens any more"}}
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_a_loop_ends_with_the_client(io: waypost.Server, url: str) -> None:
    client = waypost.Client(url)
    stream = client.events()
    async with client:
        await io.emit("news", 1)
        assert (await anext(stream)).arg == 1
    async with asyncio.timeout(DEADLINE_S):
        assert [event async for event in stream] == []


async def test_a_loop_that_is_slow_holds_back_and_loses_nothing() -> None:
    async with playing(accepts(*(f'42["n",{n}]' for n in range(200)))) as url:
        client = waypost.Client(url, max_pending_events=3)
        stream = client.events("n")
        seen: list[int] = []
        async with client:
            async for event in stream:
                await asyncio.sleep(0)
                seen.append(event.arg)
                if len(seen) == 200:
                    break
    assert seen == list(range(200))


async def test_a_handler_may_call_although_more_events_wait_than_may(io: waypost.Server, url: str) -> None:
    client = waypost.Client(url, max_pending_events=2)
    answers: list[Any] = []

    @client.event
    async def n(number: int) -> None:
        answers.append(await client.call("echo", number, timeout_s=5))

    async with client:
        for number in range(15):
            await io.emit("n", number)
        await until(lambda: len(answers) == 15, "all answers")
    assert answers == list(range(15))


async def test_a_handler_may_call_in_another_namespace(io: waypost.Server, url: str) -> None:
    @io.of("/other").event
    async def echo(socket: waypost.Socket, value: int) -> int:
        return value

    client = waypost.Client(url, max_pending_events=2)
    other = client.of("/other")
    answers: list[Any] = []

    @client.event
    async def n(number: int) -> None:
        answers.append(await other.call("echo", number, timeout_s=5))

    async with client, other:
        for number in range(15):
            await io.emit("n", number)
        await until(lambda: len(answers) == 15, "all answers")
    assert answers == list(range(15))


async def test_a_cancelled_call_leaves_nothing(io: waypost.Server, url: str) -> None:
    arrived: list[int] = []
    may_answer = asyncio.Event()

    @io.event
    async def note(socket: waypost.Socket, n: int) -> None:
        arrived.append(n)
        await may_answer.wait()

    client = waypost.Client(url)
    waits = asyncio.create_task(client.call("note", 1))
    await asyncio.sleep(0)
    waits.cancel()
    await asyncio.wait((waits,))
    async with client:
        sent = asyncio.create_task(client.call("note", 2))
        await until(lambda: arrived == [2], "the call")
        sent.cancel()
        await asyncio.wait((sent,))
        assert len(client._session.calls) == 0
        assert client._session.next_outgoing() is None
        may_answer.set()
        assert await client.call("echo", 3) == 3


async def test_volatile_is_dropped_unless_it_can_leave_at_once(io: waypost.Server, link: Link) -> None:
    arrived: list[Any] = []

    @io.event
    async def note(socket: waypost.Socket, value: Any) -> None:
        arrived.append(value)

    client = waypost.Client(link.url, reconnection_delay_s=0.02)
    assert await client.volatile.emit("note", "before") is False
    async with client:
        assert await client.volatile.emit("note", "connected") is True
        await until(lambda: arrived == ["connected"], "the event")
        link.cut()
        await until(lambda: not client.connected, "the cut")
        assert await client.volatile.emit("note", "away") is False
        await client.emit("note", "kept")
        await until(lambda: arrived == ["connected", "kept"], "the kept event")


async def test_connecting_may_be_patient_or_cancelled(io: waypost.Server) -> None:
    starting: list[asyncio.Task[None]] = []

    async def is_late(connection: ServerConnection) -> None:
        await connection.close()

    async with playing(is_late, is_late, accepts()) as url:
        client = waypost.Client(url, transports=["websocket"], reconnection_delay_s=0.01)
        recorder = Recorder(client)
        attempts: list[int] = []
        client.io.on("reconnect_attempt", attempts.append)
        await client.connect(retry=True)
        assert client.connected
        await client.disconnect()
        await client.wait_closed()
    assert len(recorder.of("connect_error")) == 2
    assert attempts == [1, 2]

    client = waypost.Client("http://127.0.0.1:1", reconnection_delay_s=0.01)
    starting.append(asyncio.create_task(client.connect(retry=True)))
    await asyncio.sleep(0.1)
    assert client.active
    starting[0].cancel()
    await asyncio.wait(starting)
    async with asyncio.timeout(DEADLINE_S):
        await client.wait_closed()
    assert not client.active


async def test_leaving_ends_a_patient_attempt() -> None:
    client = waypost.Client("http://127.0.0.1:1", reconnection_delay_s=60, reconnection_delay_max_s=100)
    attempt = asyncio.create_task(client.connect(retry=True))
    other = asyncio.create_task(client.of("/other").connect(retry=True))
    await asyncio.sleep(0.05)
    await client.disconnect()
    with pytest.raises(waypost.ConnectFailed, match="io client disconnect"):
        await attempt
    assert not other.done()
    await client.close()
    with pytest.raises(waypost.ConnectFailed):
        await other
    async with asyncio.timeout(DEADLINE_S):
        await client.wait_closed()


async def test_headers_that_cannot_be_had_are_a_failure(url: str) -> None:
    def headers() -> dict[str, str]:
        raise LookupError("a secret")

    with pytest.raises(waypost.ConnectFailed, match="getting headers raised LookupError"):
        await waypost.Client(url, headers=headers).connect()


async def test_what_becomes_of_the_connection_is_told() -> None:
    port = free_port()
    told: list[Any] = []
    async with Link.to(port) as link:
        client = waypost.Client(link.url, reconnection_delay_s=0.02, reconnection_attempts=2)
        with pytest.raises(waypost.ConfigurationError, match="reconnect_attempt"):
            client.io.on("reconect", print)
        for event in ("open", "close", "reconnect_attempt", "reconnect", "reconnect_error", "reconnect_failed"):
            client.io.on(event, lambda *args, event=event: told.append((event, *args[:1])))
        async with serving(waypost.Server(drain_s=0), port):
            await client.connect()
            link.cut()
            await until(lambda: ("reconnect", 1) in told, "the reconnection")
            await until(lambda: client.connected, "the namespace")
        async with asyncio.timeout(DEADLINE_S):
            await client.wait_closed()
    assert [entry[0] for entry in told] == [
        "open", "close", "reconnect_attempt", "open", "reconnect", "close",
        "reconnect_attempt", "reconnect_error", "reconnect_attempt", "reconnect_error", "reconnect_failed",
    ]  # fmt: skip


async def test_the_end_is_after_the_last_handler(url: str) -> None:
    client = waypost.Client(url)
    ended: list[str] = []

    @client.io.on("open")
    def opened() -> None:
        time.sleep(0.05)  # in a thread
        ended.append("open")

    @client.io.on("close")
    async def closed(reason: str) -> None:
        await client.wait_closed()  # not for itself
        ended.append(reason)

    @client.event
    async def disconnect() -> None:
        await client.wait_closed()
        ended.append("disconnect")

    async with client:
        pass
    async with asyncio.timeout(DEADLINE_S):
        await client.wait_closed()
    assert sorted(ended) == ["disconnect", "io client disconnect", "open"]


async def test_a_def_handler_that_returns_a_coroutine_is_told_what_to_write(
    io: waypost.Server, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = waypost.Client(url)
    client.on("hello", lambda: client.emit("never"))
    async with client:
        await io.emit("hello")
        await until(lambda: bool(caplog.records), "the error")
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "expected an async def that awaits Client.emit(…)" in str(record.exc_info[1])


def test_a_builtin_that_does_not_tell_its_arguments_may_handle(url: str) -> None:
    waypost.Client(url).on("n", max)
    waypost.Server().on("n", max)  # type: ignore[arg-type]  # a socket has no order
