"""What a meter says at a time: a rate over the last ten to twenty seconds."""

from __future__ import annotations

import pytest

from waypost.server.queues.meter import Meter


@pytest.mark.parametrize(
    ("later_s", "per_second"),
    [(0.5, 30), (4, 30 / 4), (10, 30 / 10), (15, 30 / 15), (19.9, 30 / 19.9), (20, 0), (35, 0)],
)
def test_a_rate_is_of_this_window_and_the_one_before(later_s: float, per_second: float) -> None:
    now = 100.0
    meter = Meter(lambda: now)
    meter.add(30)
    now += later_s
    assert meter.per_second == pytest.approx(per_second)
    assert meter.total == 30


def test_what_is_counted_in_a_later_window_comes_on_top() -> None:
    now = 0.0
    meter = Meter(lambda: now)
    meter.add(10)
    now = 12.0
    meter.add(20)
    assert meter.per_second == pytest.approx(30 / 12)
    now = 24.0
    assert meter.per_second == pytest.approx(20 / 14)
    assert meter.total == 30
