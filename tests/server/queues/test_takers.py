"""Who gets the next message, and what is kept of those who took messages and have left."""

from __future__ import annotations

import weakref

import pytest

from waypost.server.queues.delivery import Attachment, Delivery
from waypost.server.queues.takers import Takers
from waypost.server.watching.queue_counters import QueueLoad


class _Carrier:
    """Something that can take messages at any time."""

    is_live = True

    def __init__(self, room: int = 1) -> None:
        self.room = room

    def can_take(self, size: int) -> bool:
        return size <= self.room

    def carry(self, delivery: Delivery) -> None:
        raise AssertionError("nothing is carried here")


@pytest.mark.parametrize("newest_only", [False, True])
def test_nothing_is_kept_of_one_that_left(newest_only: bool) -> None:
    takers = Takers(QueueLoad(), newest_only=newest_only)
    stays = _attachment(_Carrier())
    takers.add(stays)
    leaving = _Carrier()
    left = weakref.ref(leaving)
    attachment = _attachment(leaving)
    takers.add(attachment)
    takers.remove(attachment)
    del attachment, leaving
    assert left() is None
    assert takers.take(1) is stays


@pytest.mark.parametrize("newest_only", [False, True])
def test_nobody_gets_what_it_can_not_take(newest_only: bool) -> None:
    takers = Takers(QueueLoad(), newest_only=newest_only)
    carrier = _Carrier(room=10)
    only = _attachment(carrier)
    takers.add(only)
    assert takers.take(11) is None
    # When there is room, the carrier says so.
    carrier.room = 11
    takers.enter_rotation(only)
    assert takers.take(11) is only


def test_one_without_credit_does_not_hide_the_next() -> None:
    takers = Takers(QueueLoad(), newest_only=False)
    first, second = _attachment(_Carrier()), _attachment(_Carrier())
    takers.add(first)
    takers.add(second)
    first.is_silent = True
    assert takers.any()
    assert takers.take(1) is second


def _attachment(carrier: _Carrier) -> Attachment:
    return Attachment(carrier, prefetch=1, prefetch_bytes=1)  # type: ignore[arg-type]
