"""Steps of the engine's clock, seen from a steady one."""

from __future__ import annotations

import pytest

from waypost.storage.postgres.nodes.clock_watch import ClockWatch
from waypost.storage.postgres.nodes.observing import Beat


def _beat(steady: float, store: float, took_s: float = 0.01) -> Beat:
    return Beat(steady - took_s / 2, steady + took_s / 2, 1, False, store, store, 0.0, 1, ())


def test_a_clock_that_goes_on_has_made_no_step() -> None:
    watch = ClockWatch()
    for second in range(0, 3600, 2):
        assert watch.look(_beat(second, 1_700_000_000 + second * 1.0005)) == 0.0  # adjusted by 500 ppm


@pytest.mark.parametrize("step_s", [10.0, -10.0, 3600.0])
def test_a_step_is_seen_until_it_is_taken_back(step_s: float) -> None:
    watch = ClockWatch()
    assert watch.look(_beat(100.0, 5000.0)) == 0.0
    assert watch.look(_beat(102.0, 5002.0 + step_s)) == pytest.approx(step_s)
    assert watch.look(_beat(104.0, 5004.0 + step_s)) == pytest.approx(step_s)
    assert watch.look(_beat(106.0, 5006.0)) == 0.0


def test_a_step_while_the_engine_was_away_is_seen() -> None:
    watch = ClockWatch()
    watch.look(_beat(100.0, 5000.0))
    assert watch.look(_beat(160.0, 5070.0)) == pytest.approx(10.0)


def test_an_answer_that_was_slow_is_no_step() -> None:
    watch = ClockWatch()
    watch.look(_beat(100.0, 5000.0))
    assert watch.look(Beat(102.0, 105.0, 1, False, 5004.9, 5004.9, 0.0, 1, ())) == 0.0


def test_a_difference_that_nobody_takes_back_was_this_nodes_own() -> None:
    watch = ClockWatch()
    watch.look(_beat(100.0, 5000.0))
    seen = [watch.look(_beat(100.0 + passed, 5010.0 + passed)) for passed in range(2, 40, 2)]
    assert seen[0] == pytest.approx(10.0)
    assert seen[-1] == 0.0
