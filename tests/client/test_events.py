"""Events and acknowledgements in both directions, against our own server."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest

import waypost
from tests.client.serving import Recorder, accepts, playing, serving
from tests.support.waiting import DEADLINE_S, until


async def test_it_connects_and_leaves(url: str) -> None:
    client = waypost.Client(url)
    recorder = Recorder(client)
    states = [(client.connected, client.id is None)]
    for change in (client.connect, client.connect, client.disconnect, client.disconnect):
        await change()
        states.append((client.connected, client.id is None))
    await client.wait_closed()
    assert states == [(False, True), (True, False), (True, False), (False, True), (False, True)]
    assert client.recovered is False
    assert recorder.seen == [("connect",), ("disconnect", "io client disconnect")]


async def test_a_client_can_connect_again_after_it_left(url: str) -> None:
    client = waypost.Client(url)
    async with client:
        first = client.id
    async with client:
        assert client.id not in (None, first)
        assert client.recovered is False
        assert await client.call("echo", 1) == 1


@pytest.mark.parametrize(
    ("args", "answer"),
    [((), None), ((1,), 1), ((None,), None), ((1, "two"), (1, "two")), (([],), []), ((b"\x00\xff",), b"\x00\xff")],
)
async def test_a_call_returns_what_the_server_acknowledges(url: str, args: Any, answer: Any) -> None:
    async with waypost.Client(url) as client:
        assert await client.call("echo", *args) == answer


async def test_calls_may_overlap(url: str) -> None:
    async with waypost.Client(url) as client:
        answers = await asyncio.gather(*(client.call("echo", n) for n in range(50)))
    assert answers == list(range(50))


async def test_a_call_that_is_not_answered_times_out(io: waypost.Server, url: str) -> None:
    @io.on("endless", concurrent=True)
    async def endless(socket: waypost.Socket) -> None:
        await asyncio.Event().wait()

    async with waypost.Client(url, ack_timeout_s=0.05) as client:
        with pytest.raises(waypost.AckTimeout) as caught:
            await client.call("endless")
        assert (caught.value.event, caught.value.timeout_s) == ("endless", 0.05)
        with pytest.raises(waypost.AckTimeout):
            await client.call("endless", timeout_s=0.01)
        assert await client.call("echo", 1, timeout_s=5) == 1


async def test_what_is_emitted_arrives_in_order_and_whole(io: waypost.Server, url: str) -> None:
    arrived: list[Any] = []

    @io.event
    async def note(socket: waypost.Socket, *args: Any) -> None:
        arrived.append(args)

    async with waypost.Client(url) as client:
        for n in range(200):
            await client.emit("note", n, {"bytes": [b"x" * n]})
    await until(lambda: len(arrived) == 200, "200 notes")
    assert arrived == [(n, {"bytes": [b"x" * n]}) for n in range(200)]


async def test_emits_of_several_tasks_do_not_mix_their_attachments(io: waypost.Server, url: str) -> None:
    arrived: list[Any] = []

    @io.event
    async def note(socket: waypost.Socket, *args: Any) -> None:
        arrived.append(args)

    async with waypost.Client(url) as client:
        await asyncio.gather(*(client.emit("note", n, b"%d" % n, b"%d" % n) for n in range(100)))
    await until(lambda: len(arrived) == 100, "100 notes")
    assert all(args == (args[0], b"%d" % args[0], b"%d" % args[0]) for args in arrived)


async def test_the_server_hears_what_a_handler_returns(url: str) -> None:
    client = waypost.Client(url)
    client.on("one", lambda: "x")
    client.on("several", lambda: (1, b"2"))
    client.on("list", lambda: [1, 2])

    @client.event
    async def nothing(*args: Any) -> None: ...

    @client.on("sum")
    async def add(*numbers: int) -> int:
        return sum(numbers)

    async with client:
        assert await client.call("ask", "one") == {"answer": "x"}
        assert await client.call("ask", "several") == {"answer": [1, b"2"]}
        assert await client.call("ask", "list") == {"answer": [1, 2]}
        assert await client.call("ask", "nothing", "at all") == {"answer": None}
        assert await client.call("ask", "sum", 1, 2, 3) == {"answer": 6}


async def test_a_handler_that_fails_rejects(url: str, caplog: pytest.LogCaptureFixture) -> None:
    client = waypost.Client(url)

    @client.event
    async def fails() -> None:
        raise LookupError("no such parcel")

    client.on("unencodable", object)
    client.on("wants more", lambda needed: needed)

    @client.event
    async def awaits_what_is_cancelled() -> None:
        task = asyncio.create_task(asyncio.sleep(10))
        task.cancel()
        await task

    async with client:
        assert await client.call("ask", "fails") == {"answer": {"nack": "LookupError"}}
        assert await client.call("ask", "unencodable") == {"answer": {"nack": "EncodingFailed"}}
        assert await client.call("ask", "wants more") == {"answer": {"nack": "TypeError"}}
        assert await client.call("ask", "awaits_what_is_cancelled") == {"answer": {"nack": "CancelledError"}}
        assert await client.call("echo", "still here") == "still here"
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(messages) == 4
    assert "no such parcel" in caplog.text


async def test_handlers_run_one_at_a_time_in_the_order_of_arrival(io: waypost.Server, url: str) -> None:
    client = waypost.Client(url)
    steps: list[str] = []

    @client.event
    async def slow(n: int) -> None:
        steps.append(f"slow {n} begins")
        await asyncio.sleep(0.01)
        steps.append(f"slow {n} ends")

    @client.event
    def quick(n: int) -> None:
        steps.append(f"quick {n} in {threading.current_thread() is threading.main_thread()}")

    async with client:
        for n in range(3):
            await io.emit("slow", n)
            await io.emit("quick", n)
        await until(lambda: len(steps) == 9, "all handlers")
    assert steps == [step for n in range(3) for step in (f"slow {n} begins", f"slow {n} ends", f"quick {n} in False")]


async def test_a_handler_may_call_the_server(io: waypost.Server, url: str) -> None:
    client = waypost.Client(url)
    answers: list[Any] = []

    @client.event
    async def relay(value: Any) -> None:
        answers.append(await client.call("echo", value))

    async with client:
        await io.emit("relay", b"through")
        await until(lambda: answers == [b"through"], "the answer")


async def test_a_handler_may_leave(url: str) -> None:
    client = waypost.Client(url, max_pending_events=1)
    recorder = Recorder(client)

    @client.event
    async def enough() -> None:
        await client.disconnect()
        await client.disconnect()

    await client.connect()
    await client.emit("ask", "enough")
    await client.wait_closed()
    assert recorder.seen == [("connect",), ("disconnect", "io client disconnect")]


async def test_what_waits_is_sent_before_leaving(io: waypost.Server, url: str) -> None:
    arrived = asyncio.Event()

    @io.event
    async def last(socket: waypost.Socket, data: bytes) -> None:
        arrived.set()

    client = waypost.Client(url)
    await client.connect()
    await client.emit("last", b"x" * 500_000)
    await client.disconnect()
    async with asyncio.timeout(DEADLINE_S):
        await arrived.wait()


async def test_events_without_a_handler_are_nobodys(io: waypost.Server, url: str) -> None:
    client = waypost.Client(url)
    recorder = Recorder(client, "known")
    async with client:
        await io.emit("unknown", 1)
        await io.emit("known", 2)
        await until(lambda: ("known", 2) in recorder.seen, "the event with a handler")


async def test_the_offset_is_not_shown_to_handlers(io: waypost.Server, url: str) -> None:
    client = waypost.Client(url)
    recorder = Recorder(client, "news")
    async with client:
        await io.emit("news")
        await io.emit("news", "text")
        await until(lambda: len(recorder.of("news")) == 2, "the first news")
        await io.volatile.emit("news", "light")
        await io.emit("news", b"binary", "text")
        await until(lambda: len(recorder.of("news")) == 4, "the news")
    assert recorder.of("news") == [(), ("text",), ("light",), (b"binary", "text")]


async def test_without_recovery_there_is_no_offset_to_take_off() -> None:
    io = waypost.Server(recovery=None, drain_s=0)
    async with serving(io) as port:
        client = waypost.Client(f"http://127.0.0.1:{port}")
        recorder = Recorder(client, "news")
        async with client:
            await io.emit("news", "text")
            await until(lambda: recorder.of("news") == [("text",)], "the news")


async def test_other_namespaces(io: waypost.Server, url: str) -> None:
    admin = io.of("/admin")

    @admin.event
    async def whereami(socket: waypost.Socket) -> str:
        return socket.namespace

    client = waypost.Client(url, namespace="/admin")
    recorder = Recorder(client, "news")
    async with client:
        assert await client.call("whereami") == "/admin"
        await io.emit("news", 1)
        await admin.emit("news", 2)
        await until(lambda: bool(recorder.of("news")), "the news")
    assert recorder.of("news") == [(2,)]


async def test_handlers_are_replaced_and_checked(url: str) -> None:
    client = waypost.Client(url)
    old = client.on("x", lambda: "old")
    with pytest.raises(waypost.ConfigurationError, match="off"):
        client.on("x", lambda: "new")
    client.off("x", len)
    client.off("x", old)
    client.on("x", lambda: "new")
    with pytest.raises(waypost.ConfigurationError):
        client.on("x", "no function")  # type: ignore[call-overload]

    class Function:
        async def __call__(self) -> str:
            return "object"

    client.on("y", Function())
    async with client:
        assert await client.call("ask", "x") == {"answer": "new"}
        assert await client.call("ask", "y") == {"answer": "object"}


@pytest.mark.parametrize("name", ["connect", "disconnect", "connect_error"])
async def test_reserved_names_are_not_emitted(url: str, name: str) -> None:
    async with waypost.Client(url) as client:
        with pytest.raises(waypost.EncodingFailed):
            await client.emit(name)
        with pytest.raises(waypost.EncodingFailed):
            await client.call("x", {1, 2})
        assert await client.call("echo", "well") == "well"


async def test_a_slow_handler_holds_the_connection_back_and_loses_nothing() -> None:
    frames = [f'42["n",{n}]' for n in range(500)]
    async with playing(accepts(*frames)) as url:
        client = waypost.Client(url, max_pending_events=3)
        seen: list[int] = []

        @client.event
        async def n(number: int) -> None:
            await asyncio.sleep(0)
            seen.append(number)

        async with client:
            await until(lambda: len(seen) == 500, "all events")
        assert seen == list(range(500))
