"""The store's clock: it begins with the wall clock, goes on by itself, and never goes back."""

from __future__ import annotations

import logging
import sys
import time

import pytest

from tests.storage.backends import Clock
from waypost.storage.clock import StoreClock, steady_clock
from waypost.storage.queue_records import (
    ConsumerRow,
    DeadLetterFilter,
    DeadLetterRow,
    FromTime,
    HistoryItem,
    MessageRow,
    QueueRow,
)
from waypost.storage.wall_times import (
    consumer_on_wall,
    filter_from_wall,
    letter_on_wall,
    message_on_wall,
    place_from_wall,
    queue_on_wall,
)

_HOUR_S = 3600.0


class Clocks:
    """A wall clock and a steady one, which a test moves."""

    def __init__(self) -> None:
        self.wall, self.steady = Clock(), Clock(50.0)
        self.store = StoreClock(self.wall, self.steady)

    def pass_by(self, seconds: float) -> None:
        self.wall.now += seconds
        self.steady.now += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.mark.parametrize("step_s", [8 * 24 * _HOUR_S, -_HOUR_S, 0.5, -0.5])
def test_a_step_of_the_wall_clock_does_not_move_it(clocks: Clocks, step_s: float) -> None:
    began = clocks.store.now()
    clocks.pass_by(10)
    clocks.wall.now += step_s
    assert clocks.store.now() == began + 10
    assert clocks.store.wall() == clocks.wall.now


@pytest.mark.parametrize(("noted_in_s", "begins_in_s"), [(-7.0, 0.0), (7.0, 7.0)])
def test_it_begins_with_the_later_of_the_wall_clock_and_what_was_noted(
    clocks: Clocks, noted_in_s: float, begins_in_s: float
) -> None:
    clocks.store.begin(clocks.wall.now + noted_in_s)
    assert clocks.store.now() == clocks.wall.now + begins_in_s
    clocks.pass_by(1)
    assert clocks.store.now() == clocks.wall.now + begins_in_s


def test_another_process_follows_a_clock_that_is_apart_from_the_wall(clocks: Clocks) -> None:
    clocks.store.begin(noted=clocks.wall.now - 1, ahead_s=-_HOUR_S)
    assert clocks.store.now() == clocks.wall.now - 1
    clocks.store.begin(noted=clocks.wall.now - 2 * _HOUR_S, ahead_s=-_HOUR_S)
    assert clocks.store.now() == clocks.wall.now - _HOUR_S
    assert clocks.store.to_wall(clocks.store.now()) == clocks.wall.now


def test_a_step_is_logged_once_and_so_is_its_end(clocks: Clocks, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "waypost")
    clocks.wall.now += 4.9
    assert not clocks.store.look("here")
    clocks.wall.now += 600
    assert clocks.store.look("here")
    clocks.pass_by(_HOUR_S)
    assert not clocks.store.look("here")
    assert clocks.store.ahead_s == pytest.approx(-604.9)
    clocks.wall.now -= 604
    assert clocks.store.look("here")
    assert not clocks.store.look("here")
    assert clocks.store.ahead_s == 0
    told = [(record.levelname, record.getMessage().split(":")[0]) for record in caplog.records]
    assert told == [("WARNING", "here"), ("INFO", "here")]
    assert "605 s ahead of" in caplog.text


def test_the_machines_clock_goes_on_while_it_sleeps() -> None:
    now = steady_clock()
    first = now()
    assert now() >= first
    if sys.platform == "linux":
        assert now() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=60)


def test_times_are_shown_as_times_of_day_that_are_as_long_ago(clocks: Clocks) -> None:
    clocks.wall.now += _HOUR_S
    clocks.store.look("here")
    at, shown = clocks.store.now() - 10, clocks.wall.now - 10
    history = (HistoryItem(at, "rejected", "no"),)
    letter = DeadLetterRow(1, "c", 1, "m", b"", None, at, at, "no", 1, 0, history)
    assert queue_on_wall(clocks.store, QueueRow("q", oldest_at=at)).oldest_at == shown
    assert consumer_on_wall(clocks.store, ConsumerRow("c", "g", 1, 0, 0, active_at=at)).active_at == shown
    message = message_on_wall(clocks.store, MessageRow(1, "m", b"", at, None, at, retry_at=at))
    assert (message.enqueued_at, message.expires_at, message.retry_at) == (shown, shown, shown)
    letter = letter_on_wall(clocks.store, letter)
    assert (letter.enqueued_at, letter.died_at, letter.history[0].at) == (shown, shown, shown)
    assert place_from_wall(clocks.store, FromTime(shown)) == FromTime(at)
    chosen = filter_from_wall(clocks.store, DeadLetterFilter(died_after=shown, died_before=shown))
    assert (chosen.died_after, chosen.died_before) == (at, at)


def test_nothing_is_converted_while_the_clocks_agree(clocks: Clocks) -> None:
    clocks.wall.now += 3
    clocks.store.look("here")
    row = MessageRow(1, "m", b"", 7.0, None, 8.0)
    assert message_on_wall(clocks.store, row) is row
    assert clocks.store.from_wall(7.0) == clocks.store.to_wall(7.0) == 7.0
