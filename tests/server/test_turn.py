"""What is written in one turn of the event loop goes out at its end, once for whoever wrote."""

from __future__ import annotations

import asyncio

import pytest

from waypost.server.basics.write_turn import WriteTurn

pytestmark = pytest.mark.asyncio


class Writing:
    """Notes its name when it is asked to write."""

    def __init__(self, name: str, written: list[str], again: WriteTurn | None = None) -> None:
        self._name = name
        self._written = written
        self._again = again

    def write_out(self) -> None:
        self._written.append(self._name)
        if self._again is not None:
            turn, self._again = self._again, None
            turn.add(self)


async def test_all_write_in_order_at_the_end_of_the_turn() -> None:
    turn, written = WriteTurn(), list[str]()
    turn.add(Writing("a", written))
    turn.add(Writing("b", written))
    assert written == []
    await asyncio.sleep(0)
    assert written == ["a", "b"]
    await asyncio.sleep(0)
    assert written == ["a", "b"]


async def test_what_is_added_while_others_write_has_a_turn_of_its_own() -> None:
    turn, written = WriteTurn(), list[str]()
    turn.add(Writing("again", written, turn))
    await asyncio.sleep(0)
    assert written == ["again"]
    await asyncio.sleep(0)
    assert written == ["again", "again"]


async def test_a_promised_end_is_waited_for() -> None:
    turn, written = WriteTurn(), list[str]()
    turn.promise_end()
    turn.add(Writing("a", written))
    await asyncio.sleep(0)
    assert written == []
    turn.end()
    assert written == ["a"]
    turn.add(Writing("b", written))
    await asyncio.sleep(0)
    assert written == ["a", "b"]


async def test_one_that_fails_is_reported_and_takes_nothing_from_others() -> None:
    class Failing:
        def write_out(self) -> None:
            raise ValueError("of the writer's own")

    turn, written, reported = WriteTurn(), list[str](), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
    turn.add(Failing())
    turn.add(Writing("a", written))
    await asyncio.sleep(0)
    assert written == ["a"]
    assert [str(each) for each in reported] == ["of the writer's own"]
