"""Nothing that may go out stands still: whenever the server waits, no consumer has work that nothing will wake.

`stand_still` is asked each time before virtual time moves on, as the server has done by then all that it is going to
do at that moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

from waypost.server.hub import Hub
from waypost.server.queues import settler
from waypost.server.queues.delivery import Carrier
from waypost.server.queues.orders.delivery_order import DeliveryOrder
from waypost.server.queues.orders.keyed_order import KeyedOrder
from waypost.server.queues.orders.strict_order import StrictOrder
from waypost.server.queues.runner import Runner
from waypost.server.queues.socket_carrier import SocketCarrier
from waypost.server.queues.work_loop import _State
from waypost.storage.queue_records import MessageRow

__all__ = ["small_limits", "stand_still"]

_MOST_PENDING = 3
_MOMENT_S = 1e-5


@contextmanager
def small_limits() -> Iterator[None]:
    """Let deliveries pause for a store that is behind by a few outcomes: a history never has thousands."""
    usual = settler._MOST_PENDING
    settler._MOST_PENDING = _MOST_PENDING
    try:
        yield
    finally:
        settler._MOST_PENDING = usual


def stand_still(hub: Hub, *, clock_was_set: bool) -> list[str]:
    """Name the consumers that have something to hand out, somebody to take it, and nothing that wakes them.

    Args:
        hub: The server.
        clock_was_set: Whether the wall clock was set so lately that a timer may still sleep which does not know.
    """
    found: list[str] = []
    for queue, runners in hub.deliveries._runners.items():
        for name, runner in runners.items():
            assert isinstance(runner, Runner), "without other nodes there is nothing else"
            will_look = clock_was_set and runner._dispatch._work._alarm is not None
            if not will_look and _stands_still(runner):
                found.append(f"{queue}/{name} stands still")
    return found


def _stands_still(runner: Runner) -> bool:
    dispatch, progress = runner._dispatch, runner._progress
    work = dispatch._work
    # A round that runs, or one that begins again after the store failed, will come to what waits.
    if work._state is not _State.IDLE or work._backoff.failures:
        return False
    now = runner._now()
    # Nearly always there is nothing to do: that is asked first, as it takes least.
    if progress.upcoming is not None and not _may_have_work(progress.upcoming, now):
        return False
    if not runner.takers.any():
        return False
    # The wall time is rounded more roughly than that of the loop: what is due now may ring in the next moment.
    if work._alarm is not None and work._alarm.when() - work._loop.time() < _MOMENT_S:
        return False
    if not (dispatch._may_hand_out(progress.pause_s()) and progress.probing.may_hand_out(now)):
        return False
    if progress.upcoming is None:
        return True
    # What the order would give out is asked of a copy, since asking changes it.
    upcoming = deepcopy(progress.upcoming)
    message = upcoming.next(now)
    if message is not None:
        return any(one.has_credit and _has_room(one.carrier, message) for one in runner.takers)
    return upcoming.wants(now) is not None


def _may_have_work(order: DeliveryOrder, now: float) -> bool:
    """Tell roughly whether an order has something to give out or to read: a copy of it takes long."""
    if isinstance(order, KeyedOrder):
        return bool(order._ready or order._freed or order._due_at <= now or not order._at_end)
    return not isinstance(order, StrictOrder) or not order._at_end or bool(order._ahead and not order._in_hand)


def _has_room(carrier: Carrier, message: MessageRow) -> bool:
    if not isinstance(carrier, SocketCarrier):
        return True
    return carrier.member is not None and carrier.member.out.has_room(len(message.record))
