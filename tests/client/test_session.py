"""A namespace across connections, at the points that a whole client rarely meets."""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection

import waypost
from tests.client.serving import OPEN, accepts, closes, playing, says
from tests.support.waiting import until
from waypost.client.answers import Answers
from waypost.client.connection import Connection
from waypost.client.options import Options
from waypost.client.session import Session

OPTIONS = Options()


async def test_what_a_dead_connection_did_not_take_goes_to_the_next_one_in_order() -> None:
    received: list[str | bytes] = []

    async def opens_and_closes(connection: ServerConnection) -> None:
        await connection.send(OPEN)
        await connection.close()

    async def listens(connection: ServerConnection) -> None:
        await connection.send(OPEN)
        async for frame in connection:
            received.append(frame)

    session = Session(OPTIONS)
    await session.emit("x", [1, b"one"])
    await session.emit("y", [])
    async with playing(opens_and_closes, listens) as url:
        dead = await Connection.open(url, OPTIONS)
        assert await dead.receive() is None
        await session.write(dead)
        alive = await Connection.open(url, OPTIONS)
        writer = asyncio.create_task(session.write(alive))
        await until(lambda: len(received) == 3, "the events")
        writer.cancel()
        await dead.close()
        await alive.close()
    assert received == ['451-["x",1,{"_placeholder":true,"num":0}]', b"one", '42["y"]']


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
    async with playing(says('40/other,{"sid":"theirs"}', '40{"sid":"ours"}', then=closes)) as url:
        client = waypost.Client(url, reconnection=False)
        await client.connect()
        assert client.sid == "ours"
        await client.wait_closed()


def test_answers_are_kept_for_their_session_only() -> None:
    answers = Answers()
    answers.begin("a")
    assert answers.expect(1)
    answers.keep(1, ("431[]",), "another")
    assert answers.get(1) == ()
    answers.keep(1, ("431[]",), "a")
    answers.keep(2, ("432[]",), "a")
    answers.begin("a")
    assert not answers.expect(1)
    assert (answers.get(1), answers.get(2)) == (("431[]",), ())
    answers.begin("b")
    assert answers.expect(1)


def test_only_the_latest_answers_are_kept() -> None:
    answers = Answers()
    answers.begin("a")
    assert all(answers.expect(n) for n in range(1500))
    assert not answers.expect(1499)
    assert answers.expect(0)
