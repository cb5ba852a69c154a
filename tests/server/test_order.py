"""Ordering of emits is the order of the calls, whatever is stored and whatever is not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import waypost
from tests.server.model_client import ModelClient, running, until
from waypost.server.emitting.emit_line import EmitLine


@pytest.fixture
def io(tmp_path: Path) -> waypost.Server:
    # With a store on disk, nothing that is stored is delivered before the loop has turned.
    return waypost.Server(store=str(tmp_path / "store.db"), drain_s=0.0)


async def test_emits_without_waiting_arrive_in_the_order_of_their_calls(io: waypost.Server) -> None:
    sockets: list[waypost.Socket] = []
    io.on("connect", sockets.append)
    async with running(io):
        client, other = ModelClient(io), ModelClient(io)
        await client.connect()
        await other.connect()
        mine, _ = sockets
        emits: list[Awaitable[Any]] = [
            io.emit("0", "plain"),
            mine.call("1", "with an ack"),
            mine.emit("2", b"binary"),
            mine.timeout(5).call("3"),
            mine.join("room"),
            io.to("room").call("4"),
            io.to("room").emit("5", {"in": b"it"}),
            io.except_("room").emit("not for it"),
            mine.leave("room"),
            io.to("room").emit("nobody is in it"),
            io.local.emit("6"),
            io.compress(False).emit("7"),
            io.sockets_join("all"),
            io.to("all").call("8"),
        ]
        await asyncio.gather(*emits)
        await until(lambda: len(client.events) == 9)
        assert [event[0] for event in client.events] == [str(number) for number in range(9)]
        # A volatile one waits for its turn, too: then the one before is on its way, and it is dropped.
        await asyncio.gather(io.emit("9"), io.volatile.emit("overtakes nothing"))
        await client.wait_for(10)
        assert client.events[9] == ["9"]


async def test_a_volatile_event_waits_for_those_before_it(io: waypost.Server) -> None:
    async with running(io):
        client, other = ModelClient(io), ModelClient(io)
        await client.connect()
        await other.connect()
        assert other.sid is not None
        await asyncio.gather(io.to(other.sid).emit("for another"), io.volatile.emit("now"))
        await client.wait_for(1)
        assert client.events == [["now"]]
        assert client.offsets[-1] == other.offsets[-1], "it carries the position that was reached in its turn"


async def test_sockets_are_disconnected_after_what_was_emitted_before(io: waypost.Server) -> None:
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        await asyncio.gather(io.emit("last words"), io.disconnect_sockets())
        await until(lambda: client.disconnected_by_server)
        assert client.events == [["last words"]]


async def test_what_fails_to_be_stored_holds_nobody_up(io: waypost.Server) -> None:
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        cancelled = asyncio.ensure_future(io.emit("cancelled"))
        await asyncio.sleep(0)
        cancelled.cancel()
        answers = await io.call("question")
        assert list(answers.answers) == [client.sid]


async def test_what_an_action_raises_is_its_caller_s_alone() -> None:
    line = EmitLine()
    place = line.enter()

    def fail() -> None:
        raise ValueError("its own fault")

    outcomes = asyncio.gather(line.in_turn(fail), line.in_turn(lambda: "done"), return_exceptions=True)
    await asyncio.sleep(0)
    line.leave(place)
    failed, done = await outcomes
    assert isinstance(failed, ValueError)
    assert done == "done"


@given(st.lists(st.sampled_from(["enter", "leave first", "leave last", "follow", "cancel"]), max_size=30))
async def test_the_line_keeps_the_order(steps: list[str]) -> None:
    line = EmitLine()
    places: list[tuple[int, Any]] = []
    done: list[int] = []
    cancelled: set[int] = set()
    waiting: dict[int, asyncio.Task[None]] = {}
    expected_after: dict[int, list[int]] = {}
    left: set[int] = set()
    for number, step in enumerate(steps):
        if step == "enter":
            places.append((number, line.enter()))
        elif step.startswith("leave") and places:
            left_number, place = places.pop(0 if step == "leave first" else -1)
            line.leave(place)
            line.leave(place)
            left.add(left_number)
        elif step == "follow":
            expected_after[number] = [entered for entered, _ in places]
            waiting[number] = asyncio.ensure_future(line.in_turn(lambda number=number: done.append(number)))  # type: ignore[misc]
            await asyncio.sleep(0)
        elif step == "cancel" and waiting:
            last = max(waiting)
            task = waiting.pop(last)
            if last not in done:
                cancelled.add(last)
            task.cancel()
            await asyncio.sleep(0)
        for number_done in done:
            assert left >= set(expected_after[number_done])
    for left_number, place in reversed(places):
        line.leave(place)
        left.add(left_number)
    assert done == [number for number in expected_after if number not in cancelled]
    await asyncio.gather(*waiting.values(), return_exceptions=True)
