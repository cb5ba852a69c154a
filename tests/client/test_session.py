"""A namespace across connections, at the points that a whole client rarely meets."""

from __future__ import annotations

import asyncio

import waypost
from tests.client.serving import accepts, playing, says, serving
from tests.support.waiting import until
from waypost.client.answers import Answers, MemoryHandledMessages
from waypost.protocol.extension import DeliveryMark


async def test_events_that_wait_for_a_handler_are_dropped_when_the_client_leaves() -> None:
    frames = [f'42["n",{n}]' for n in range(10)]
    async with playing(accepts(*frames)) as url:
        client = waypost.Client(url)
        seen: list[int] = []
        may_go_on = asyncio.Event()

        @client.event
        async def n(number: int) -> None:
            seen.append(number)
            await may_go_on.wait()

        await client.connect()
        await until(lambda: seen == [0], "the first event")
        await client.disconnect()
        may_go_on.set()
        await client.wait_closed()
    assert seen == [0]


async def test_other_namespaces_do_not_answer_for_ours() -> None:
    server = playing(says('40/other,{"sid":"theirs"}', '40{"sid":"ours"}'))
    async with server as url, waypost.Client(url) as client:
        assert client.id == "ours"


async def test_sent_away_for_a_while_it_comes_back_to_its_session() -> None:
    io = waypost.Server(drain_s=0)
    news: list[int] = []

    @io.event
    async def renew(socket: waypost.Socket) -> None:
        await socket.disconnect(resumable=True)

    async with serving(io) as port:
        client = waypost.Client(f"http://127.0.0.1:{port}")
        client.on("news", news.append)
        await client.connect()
        before = client.id
        await client.emit("renew")
        await until(lambda: not client.connected, "the goodbye")
        await io.emit("news", 1)
        await client.connect()
        assert client.recovered
        assert client.id == before
        await until(lambda: news == [1], "what it missed")
        await client.disconnect()


def test_answers_are_kept_for_their_session_only() -> None:
    answers = Answers()
    answers.begin("a")
    answers.keep(1, [], "a")
    answers.keep(2, ["x"], "another")
    assert (answers.get(1, "a"), answers.get(2, "a"), answers.get(1, "another")) == ([], None, None)
    answers.begin("a")
    assert answers.get(1, "a") == []
    answers.begin("b")
    assert answers.get(1, "b") is None


def test_only_the_latest_answers_are_kept() -> None:
    answers = Answers()
    answers.begin("a")
    for n in range(1500):
        answers.keep(n, [n], "a")
    assert answers.get(1499, "a") == [1499]
    assert answers.get(0, "a") is None


def mark(position: int, *, epoch: str = "g.1", cursor: int = 0, queue: str = "q") -> DeliveryMark:
    return DeliveryMark(
        queue=queue, consumer="c", id=f"m{position}", epoch=epoch, position=position, cursor=cursor, attempt=1
    )


async def test_handled_messages_are_remembered_until_they_are_settled() -> None:
    handled = MemoryHandledMessages()
    for position in (1, 2, 3):
        assert await handled.find(mark(position)) is None
        await handled.remember(mark(position), [position])
    assert await handled.find(mark(2)) == [2]
    assert await handled.find(mark(2, queue="other")) is None
    assert await handled.find(mark(4, cursor=2)) is None
    assert [await handled.find(mark(position)) for position in (1, 2, 3)] == [None, None, [3]]


async def test_another_epoch_is_another_message() -> None:
    handled = MemoryHandledMessages()
    await handled.remember(mark(1), [])
    assert await handled.find(mark(1, epoch="g.2")) is None
    await handled.remember(mark(1, epoch="g.2"), ["again"])
    assert await handled.find(mark(1, epoch="g.2")) == ["again"]
    assert await handled.find(mark(1)) is None
