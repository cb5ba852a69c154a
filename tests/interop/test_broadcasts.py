"""Broadcasts that ask for acks, and disconnects of many, with official clients."""

from __future__ import annotations

import asyncio

import pytest

from tests.interop.conftest import Connect

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

ROOM = "asked"


async def test_who_answered_and_who_did_not(connect: Connect, mode: str) -> None:
    asking = await connect(mode)
    auth = {"rooms": [ROOM]}
    one = await connect(mode, auth=auth, rules={"question": ["one", b"binary"]})
    nothing = await connect(mode, auth=auth, rules={"question": "ack"})
    silent = await connect(mode, auth=auth, rules={"question": "hold"})
    [answers] = await asking.call("ask_room", ROOM, 0.5, "now?", {"with": b"bytes"})
    assert answers == {
        "answers": {one.connects[0].id: ["one", b"binary"], nothing.connects[0].id: None},
        "missing": [silent.connects[0].id],
        "left": [],
    }
    # The question reached all three, whole; a late answer harms nobody.
    for client in (one, nothing, silent):
        assert await client.gets("question") == [("now?", {"with": b"bytes"})]
    await silent.ack(silent.received["question"][0], "too late")
    assert await silent.call("echo", 1) == [1]


async def test_who_leaves_is_not_waited_for(connect: Connect, mode: str) -> None:
    asking = await connect(mode)
    leaving = await connect(mode, auth={"rooms": [ROOM]}, rules={"question": "hold"})
    sid = leaving.connects[0].id
    answers = asyncio.ensure_future(asking.call("ask_room", ROOM, 60))
    await leaving.gets("question")
    await leaving.disconnect()
    assert await answers == [{"answers": {}, "missing": [], "left": [sid]}]


async def test_nobody_answers_at_once(connect: Connect, mode: str) -> None:
    asking = await connect(mode)
    assert await asking.call("ask_room", "nobody is in it", 60) == [{"answers": {}, "missing": [], "left": []}]


async def test_answers_come_one_by_one(connect: Connect, mode: str) -> None:
    asking = await connect(mode)
    auth = {"rooms": [ROOM]}
    answering = await connect(mode, auth=auth, rules={"question": ["yes"]})
    silent = await connect(mode, auth=auth, rules={"question": "hold"})
    assert await asking.call("ask_room_one_by_one", ROOM) == [[silent.connects[0].id]]
    assert await asking.gets("answered") == [(answering.connects[0].id, "yes")]


@pytest.mark.parametrize("close", [False, True])
async def test_a_whole_room_is_disconnected(connect: Connect, mode: str, close: bool) -> None:
    asking = await connect(mode)
    clients = [await connect(mode, auth={"rooms": [ROOM]}) for _ in range(2)]
    [disconnected] = await asking.call("disconnect_room", ROOM, close)
    assert set(disconnected) == {client.connects[0].id for client in clients}
    for client in clients:
        assert await client.disconnected() == "io server disconnect"
    assert await asking.call("echo", "still here") == ["still here"]
