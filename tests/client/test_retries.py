"""Events that are sent again until they are acknowledged, and messages of queues that are handled once."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

import waypost
from tests.client.serving import accepts, playing
from tests.support.link import Link
from tests.support.waiting import until
from waypost.protocol.extension import DeliveryMark


async def test_each_waits_for_the_one_before(io: waypost.Server, url: str) -> None:
    steps: list[str] = []

    @io.event
    async def note(socket: waypost.Socket, n: int) -> int:
        steps.append(f"{n} begins")
        await asyncio.sleep(0.01)
        steps.append(f"{n} ends")
        return n

    client = waypost.Client(url, retries=2)
    await client.emit("note", 0)
    async with client:
        await client.emit("note", 1)
        assert await client.call("note", 2) == 2
    assert steps == [step for n in range(3) for step in (f"{n} begins", f"{n} ends")]


async def test_what_is_not_acknowledged_is_sent_again_and_given_up_in_the_end(
    io: waypost.Server, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    arrived: list[Any] = []
    given_up: list[Any] = []

    @io.on_any
    async def look(socket: waypost.Socket, event: str, *args: Any) -> None:
        arrived.append((event, *args))

    @io.on("slow", concurrent=True)
    async def slow(socket: waypost.Socket, *args: Any) -> None:
        await asyncio.Event().wait()

    def undelivered(event: str, args: tuple[Any, ...], error: waypost.WaypostError) -> None:
        given_up.append((event, args, type(error)))

    client = waypost.Client(url, retries=2, ack_timeout_s=0.1, on_undelivered=undelivered)
    async with client:
        await client.emit("slow", 1, b"2")
        with pytest.raises(waypost.AckTimeout):
            await client.call("slow", "too")
        assert await client.call("echo", "next") == "next"
    assert arrived[:6] == [("slow", 1, b"2")] * 3 + [("slow", "too")] * 3
    assert set(arrived[6:]) == {("echo", "next")}  # a busy machine may not answer in time, either
    assert given_up == [("slow", (1, b"2"), waypost.AckTimeout)]


async def test_what_the_server_refuses_is_tried_again_unless_that_is_final(
    io: waypost.Server, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    arrived: list[str] = []
    given_up: list[Any] = []

    @io.event
    async def work(socket: waypost.Socket, what: str) -> str:
        arrived.append(what)
        if what == "never":
            raise waypost.EventRefused("no", {"why": 1})
        if arrived.count(what) == 1:
            raise ZeroDivisionError
        if what == "later" and arrived.count(what) == 2:
            raise waypost.EventRefused("not yet", is_final=False)
        return what

    def undelivered(event: str, args: tuple[Any, ...], error: waypost.WaypostError) -> None:
        given_up.append((event, args, error.args, isinstance(error, waypost.EventRefused) and error.is_final))

    async with waypost.Client(url, retries=2, on_undelivered=undelivered) as client:
        await client.emit("work", "never")
        assert await client.call("work", "later") == "later"
        with pytest.raises(waypost.EventRefused, match="no handler for 'nobody'"):
            await client.call("nobody")
    assert arrived == ["never", "later", "later", "later"]
    assert given_up == [("work", ("never",), ("no", {"why": 1}), True)]


async def test_an_acknowledgement_is_no_error(io: waypost.Server, url: str) -> None:
    arrived: list[int] = []

    @io.event
    async def note(socket: waypost.Socket, n: int) -> dict[str, str]:
        arrived.append(n)
        return {"error": "truthy, and what the JavaScript client takes for a failure"}

    async with waypost.Client(url, retries=3) as client:
        for n in range(3):
            await client.emit("note", n)
        await until(lambda: arrived == [0, 1, 2], "the notes")
        await client.call("echo")
    assert arrived == [0, 1, 2]


async def test_lost_connections_do_not_count(io: waypost.Server, link: Link) -> None:
    arrived: list[int] = []
    may_answer = asyncio.Event()

    @io.event
    async def note(socket: waypost.Socket, n: int) -> None:
        arrived.append(n)
        await may_answer.wait()

    client = waypost.Client(link.url, retries=1, reconnection_delay_s=0.02)
    async with client:
        await client.emit("note", 1)
        await client.emit("note", 2)
        for cut in range(1, 5):
            await until(lambda: len(arrived) == cut, "the note")  # noqa: B023  # at once
            link.cut()
            await until(lambda: not client.connected, "the cut")
        may_answer.set()
        await until(lambda: arrived[-1] == 2, "the second note")
    assert arrived == [1, 1, 1, 1, 1, 2]


async def test_a_cancelled_call_is_not_sent_any_more(io: waypost.Server, url: str) -> None:
    arrived: list[int] = []

    @io.event
    async def note(socket: waypost.Socket, n: int) -> None:
        arrived.append(n)

    client = waypost.Client(url, retries=1)
    calls = [asyncio.create_task(client.call("note", n)) for n in range(3)]
    await asyncio.sleep(0)
    calls[1].cancel()
    await asyncio.wait((calls[1],))
    with pytest.raises(waypost.AckTimeout):
        await client.call("note", 3, timeout_s=0.01)
    async with client:
        await asyncio.gather(calls[0], calls[2])
        await client.call("echo")
    assert arrived == [0, 2]


async def test_what_waits_has_an_end() -> None:
    client = waypost.Client("http://127.0.0.1:1", retries=1, max_buffered_events=2, max_buffered_bytes=1000)
    await client.emit("x")
    with pytest.raises(waypost.NotConnected):
        await client.emit("x", "y" * 1000)
    await client.emit("x")
    with pytest.raises(waypost.NotConnected, match="2 events"):
        await client.emit("x")


# ------------------------------------------------------------------------------------------------------ queues


def delivery(ack_id: int, position: int, *args: Any, epoch: str = "g.1", cursor: int = 0) -> str:
    mark = DeliveryMark(
        queue="q", consumer="c", id=f"m{position}", epoch=epoch, position=position, cursor=cursor, attempt=1
    )
    return f"42{ack_id}" + json.dumps(["job", *args, mark.argument()])


class Acks:
    """What a made-up server was acknowledged, over all its connections."""

    def __init__(self) -> None:
        self.seen: list[str | bytes] = []

    def then(self, count: int, *, close: bool = False) -> Any:
        async def listen(connection: ServerConnection) -> None:
            while len(self.seen) < count:
                self.seen.append(await connection.recv())
            await (connection.close() if close else connection.wait_closed())

        return listen


async def test_a_message_that_was_handled_is_acknowledged_again_and_not_handled() -> None:
    acks = Acks()
    first = accepts(delivery(1, 7, "a"), delivery(2, 8, "b"), then=acks.then(2, close=True))
    again = accepts(delivery(51, 7, "a"), delivery(52, 8, "b"), delivery(53, 9, "c"), then=acks.then(5))
    async with playing(first, again) as url:
        client = waypost.Client(url, reconnection_delay_s=0.01)
        runs: list[str] = []

        @client.event
        async def job(name: str) -> str:
            runs.append(name)
            return name.upper()

        async with client:
            await until(lambda: len(acks.seen) == 5, "all acknowledgements")
    assert acks.seen == ['431["A"]', '432["B"]', '4351["A"]', '4352["B"]', '4353["C"]']
    assert runs == ["a", "b", "c"]


async def test_a_message_that_was_rejected_or_is_of_another_epoch_is_handled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    acks = Acks()
    frames = (delivery(1, 7), delivery(2, 7), delivery(3, 7), delivery(4, 7, epoch="g.2"), '425["job","plain call"]')
    async with playing(accepts(*frames, then=acks.then(5))) as url:
        client = waypost.Client(url)
        runs: list[int] = []

        @client.event
        async def job(*args: Any) -> int:
            runs.append(len(runs))
            if len(runs) == 1:
                raise waypost.Reject("no van", retry_in_s=0)
            return len(runs)

        async with client:
            await until(lambda: len(acks.seen) == 5, "all acknowledgements")
    assert acks.seen == ['431[{"nack":"no van","retry_in":0}]', "432[2]", "433[2]", "434[3]", "435[4]"]


async def test_what_comes_again_while_it_is_handled_is_handled_once() -> None:
    acks = Acks()
    async with playing(accepts(delivery(1, 7), delivery(2, 7), then=acks.then(2))) as url:
        client = waypost.Client(url)
        runs: list[int] = []

        @client.event
        async def job() -> None:
            runs.append(1)
            await asyncio.sleep(0.02)

        async with client:
            await until(lambda: len(acks.seen) == 2, "both acknowledgements")
    assert (acks.seen, runs) == (["431[]", "432[]"], [1])


async def test_a_message_without_a_handler_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with playing(accepts(delivery(1, 7), '42["plain"]')) as url, waypost.Client(url):
        await until(lambda: bool(caplog.records), "the warning")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "event 'job' has no handler: expected one for this message of a queue, which stays unacknowledged until its "
        "lease ends; register handlers, or call events(), before connecting"
    ]


async def test_the_queue_of_a_real_server_is_handled_exactly_once(io: waypost.Server, link: Link) -> None:
    @io.event
    async def begin(socket: waypost.Socket) -> None:
        await socket.consume("jobs")

    for n in range(20):
        await io.queue("jobs").emit("job", n)
    client = waypost.Client(link.url, reconnection_delay_s=0.02)
    handled: list[int] = []

    @client.on("connect")
    async def connect() -> None:
        await client.emit("begin")

    @client.event
    async def job(n: int) -> None:
        handled.append(n)
        if n % 5 == 0:  # the acknowledgement of these is lost, and they are delivered again
            link.cut()
            await until(lambda: not client.connected, "the cut")

    async with client:
        await until(lambda: handled[-1:] == [19], "all jobs")
    assert handled == list(range(20))
