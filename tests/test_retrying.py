"""Pauses before further attempts: doubling, spread by chance, never above the limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.retrying import STORE_RETRIES, Backoff, RetryPolicy


def test_pauses_double_up_to_the_limit() -> None:
    backoff = Backoff(RetryPolicy(first_s=1, longest_s=30, jitter=0.5))
    assert [backoff.next_s(0.5) for _ in range(7)] == [1, 2, 4, 8, 16, 20, 20]
    assert backoff.failures == 7
    backoff.reset()
    assert backoff.next_s(0.5) == 1


def test_without_jitter_the_limit_is_reached() -> None:
    backoff = Backoff(RetryPolicy(first_s=1, longest_s=5))
    assert [backoff.next_s(chance) for chance in (0, 1, 0.3, 0.7)] == [1, 2, 4, 5]


def test_a_store_is_asked_again_without_end() -> None:
    backoff = Backoff(STORE_RETRIES)
    pauses = [backoff.next_s() for _ in range(2000)]
    assert pauses[:7] == [0.5, 1, 2, 4, 8, 16, 30]
    assert set(pauses[7:]) == {30}


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=80),
    st.floats(0.01, 100),
    st.floats(0.01, 100),
    st.floats(0, 1),
)
def test_a_pause_is_never_negative_nor_above_the_limit(
    chances: list[float], first_s: float, longest_s: float, jitter: float
) -> None:
    backoff = Backoff(RetryPolicy(first_s, longest_s, jitter))
    assert all(0 <= backoff.next_s(chance) <= longest_s * 1.000001 for chance in chances)


def test_the_jitter_spreads_the_longest_pause_too() -> None:
    policy = RetryPolicy(first_s=1, longest_s=5, jitter=0.5)
    assert policy.pause_s(2000, 0) == pytest.approx(5 / 3)
    assert policy.pause_s(2000, 1) == pytest.approx(5)
