"""Ways to break queues on purpose: the histories that are about a queue must show each of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.sim.mutations import Mutate, forget_what_was_lost, hand_out_too_early, settle_unacknowledged
from waypost.server.namespaces.channel import Channel
from waypost.server.queues import progress, verdict
from waypost.server.queues.delivery import Delivery
from waypost.server.queues.dispatch import Dispatch
from waypost.server.queues.due import DueTimer
from waypost.server.queues.flight import Flight
from waypost.server.queues.leases import Leases
from waypost.server.queues.losses import LosingConsumer, Losses
from waypost.server.queues.options import QueueOptions
from waypost.server.queues.orders.delivery_order import Read
from waypost.server.queues.orders.keyed_order import KeyedOrder
from waypost.server.queues.pages import Pages
from waypost.server.queues.probing import Probing
from waypost.server.queues.progress import Progress
from waypost.server.queues.runner import Runner
from waypost.server.queues.settler import Settler
from waypost.server.queues.socket_carrier import SocketCarrier
from waypost.server.queues.verdict import Blame, judge
from waypost.server.watching.queue_events import MessagesLost
from waypost.storage.clock import StoreClock
from waypost.storage.memory.backlog import Backlog
from waypost.storage.memory.records import Scheduled
from waypost.storage.ordered import Ordered
from waypost.storage.queue_records import ConsumerRow, MessageRow

__all__ = ["QUEUE_MUTATIONS"]

_MANY = 1_000_000


def never_give_up(patch: pytest.MonkeyPatch) -> None:
    """Count failures, and let none be the last."""
    _change_options(patch, max_failures=_MANY)


def count_no_losses(patch: pytest.MonkeyPatch) -> None:
    """Give up for failures only."""
    _change_options(patch, max_losses=None)


def _change_options(patch: pytest.MonkeyPatch, **changes: Any) -> None:
    def judge_by_others(blame: Blame, message: MessageRow, *, options: QueueOptions, **counted: Any) -> Any:
        return judge(blame, message, options=replace(options, **changes), **counted)

    patch.setattr(progress, "judge", judge_by_others)


def ignore_the_pause_asked_for(patch: pytest.MonkeyPatch) -> None:
    """Let a rejected message pause as the queue says, whatever its client has asked for."""

    def judge_by_the_queue(blame: Blame, message: MessageRow, *, retry_in_s: float | None, **counted: Any) -> Any:
        return judge(blame, message, retry_in_s=None, **counted)

    patch.setattr(progress, "judge", judge_by_the_queue)


def redrive_to_everyone(patch: pytest.MonkeyPatch) -> None:
    """Let a dead letter of one consumer be a message for all."""
    original = Backlog.append
    patch.setattr(Backlog, "append", lambda self, one, now: original(self, _for_all(one), now))


def _for_all(one: Scheduled) -> Scheduled:
    return replace(one, only=None)


def ignore_a_seek(patch: pytest.MonkeyPatch) -> None:
    """Do not see that a consumer was moved."""
    original = Progress._stored

    def stored(self: Progress, info: ConsumerRow) -> None:
        original(self, replace(info, epoch=self._settler.epoch))

    patch.setattr(Progress, "_stored", stored)


def ignore_pauses(patch: pytest.MonkeyPatch) -> None:
    """Hand out whatever is paused."""
    patch.setattr(Progress, "pause_s", lambda self: 0.0)


def sleep_through_the_end_of_a_pause(patch: pytest.MonkeyPatch) -> None:
    """Set no alarm for when a pause ends."""
    patch.setattr(Dispatch, "_set_alarm", lambda self, *given: None)


def blame_all(patch: pytest.MonkeyPatch) -> None:
    """Count the loss of a connection against everything it had in hand."""

    def take_back(self: Runner, deliveries: list[Delivery], blame: str | None, *, answers: bool = True) -> None:
        for delivery in deliveries:
            self._release(delivery)
            if answers:
                self._flight.expect_late_ack(delivery)
            self._fail(delivery.message, Blame.LOST, blame or "nothing")

    patch.setattr(Runner, "_take_back", take_back)


def blame_the_newest(patch: pytest.MonkeyPatch) -> None:
    """Count the loss of a connection against what it was sent last."""
    original = Runner._take_back

    def take_back(self: Runner, deliveries: list[Delivery], blame: str | None, *, answers: bool = True) -> None:
        original(self, deliveries[::-1], blame, answers=answers)

    patch.setattr(Runner, "_take_back", take_back)


def ignore_late_acks(patch: pytest.MonkeyPatch) -> None:
    """Let only the last delivery of a message be acknowledged."""
    patch.setattr(Flight, "end_late", lambda self, delivery: False)


def lose_what_was_in_hand(patch: pytest.MonkeyPatch) -> None:
    """Keep what a client had in hand at a cut from everybody, for ever."""
    patch.setattr(Runner, "_lease_ended", lambda self, delivery: None)


def blame_sockets_for_a_kill(patch: pytest.MonkeyPatch) -> None:
    """Count a kill of the server against what sockets had in hand."""
    patch.setattr(SocketCarrier, "is_noted", True)


def blame_who_leaves(patch: pytest.MonkeyPatch) -> None:
    """Take a client that disconnects for one whose connection broke."""
    patch.setattr(Channel, "was_cut", True)


def never_undeliverable(patch: pytest.MonkeyPatch) -> None:
    """Send a message for ever, however many connections break."""
    patch.setattr(verdict, "MOST_BREAKS", _MANY)


def forget_the_delayed(patch: pytest.MonkeyPatch) -> None:
    """Set no timer for messages with a delay."""
    patch.setattr(DueTimer, "arm", lambda self, due_at: None)


def let_nothing_expire(patch: pytest.MonkeyPatch) -> None:
    """Deliver what has outlived its time to live."""
    original, arrive = Pages.read, Runner.arrive

    async def read(self: Pages, wanted: Read) -> tuple[list[MessageRow], float]:
        messages, due_at = await original(self, wanted)
        return [message._replace(expires_at=None) for message in messages], due_at

    patch.setattr(Pages, "read", read)
    patch.setattr(Runner, "arrive", lambda self, message: arrive(self, message._replace(expires_at=None)))


def tell_of_no_loss(patch: pytest.MonkeyPatch) -> None:
    """Tell no consumer what it has lost."""
    patch.setattr(Losses, "tell", lambda self, consumer: None)


def take_a_notice_for_read(patch: pytest.MonkeyPatch) -> None:
    """Take a consumer for told before it says so."""
    original = SocketCarrier.tell_loss

    async def tell_loss(self: SocketCarrier, notice: MessagesLost) -> bool:
        self._services.keep_task(self._loop.create_task(original(self, notice)))
        return True

    patch.setattr(SocketCarrier, "tell_loss", tell_loss)


def tell_of_the_first_loss_only(patch: pytest.MonkeyPatch) -> None:
    """Tell nobody of what is lost while a notice is on its way."""
    original = Losses.tell

    def tell(self: Losses, consumer: LosingConsumer) -> None:
        if consumer.row.lost is None or consumer not in self._told:
            original(self, consumer)

    patch.setattr(Losses, "tell", tell)


def ignore_keys(patch: pytest.MonkeyPatch) -> None:
    """Let messages with the same key not wait for each other."""
    patch.setattr(KeyedOrder, "_key", lambda self, message: None)


def wait_for_who_is_gone(patch: pytest.MonkeyPatch) -> None:
    """Let a key wait for ever for a paused message that a limit has ended."""
    patch.setattr(KeyedOrder, "_free_ended", lambda self, read: None)


def miss_what_was_stored_late(patch: pytest.MonkeyPatch) -> None:
    """Forget a retry whose time came before it was stored."""
    patch.setattr(KeyedOrder, "look_for_retries", lambda self, now: None)


def end_no_lease(patch: pytest.MonkeyPatch) -> None:
    """Let a client keep a message for ever."""
    patch.setattr(Leases, "watch", lambda self, options: None)


def end_leases_early(patch: pytest.MonkeyPatch) -> None:
    """Let each lease be half as long as it should be."""
    original = Delivery.lease_until

    def lease_until(self: Delivery, options: QueueOptions) -> float:
        return original(self, replace(options, lease_s=options.lease_s / 2, max_lease_s=options.max_lease_s / 2))

    patch.setattr(Delivery, "lease_until", lease_until)


def read_wrongly_after_a_move(patch: pytest.MonkeyPatch) -> None:
    """Search among what was removed as if it were in order, after a consumer was moved back."""

    def pop(self: Ordered[Any], position: int) -> Any:
        return self._values.pop(position, None)

    patch.setattr(Ordered, "pop", pop)
    patch.setattr(Ordered, "first", lambda self: min(self._values, default=None))


def sleep_on_after_the_store_caught_up(patch: pytest.MonkeyPatch) -> None:
    """Stop deliveries while the store is behind, and wake nobody when it is not any more."""
    original = Settler.__init__

    def make(self: Settler, *given: Any) -> None:
        queue, consumer, epoch, stored, _caught_up, keep_task = given
        original(self, queue, consumer, epoch, stored, lambda: None, keep_task)

    patch.setattr(Settler, "__init__", make)


def follow_the_wall_clock(patch: pytest.MonkeyPatch) -> None:
    """Measure durations on a clock that somebody may set."""
    patch.setattr(StoreClock, "now", StoreClock.wall)


def begin_with_the_wall_clock(patch: pytest.MonkeyPatch) -> None:
    """Let the store's clock go back at an opening."""
    original = StoreClock.begin
    patch.setattr(StoreClock, "begin", lambda self, _noted=0.0, ahead_s=0.0: original(self, 0.0, ahead_s))


def measure_pauses_on_the_store_s_clock(patch: pytest.MonkeyPatch) -> None:
    """Let a pause last for so long, and not to a time of day."""

    def pause_s(self: Progress) -> float:
        paused_until = max(self._queue_paused_until, self.row.paused_until or 0.0)
        return paused_until - self._clock.now() if paused_until else 0.0

    patch.setattr(Progress, "pause_s", pause_s)


def never_probe(patch: pytest.MonkeyPatch) -> None:
    """Send all that waits into a dependency that is away."""
    patch.setattr(Probing, "may_hand_out", lambda self, now: True)


def probe_two_at_a_time(patch: pytest.MonkeyPatch) -> None:
    """Send the next probe although one is out."""
    patch.setattr(Probing, "may_hand_out", lambda self, now: not self.is_active or self._ready_at <= now)


def probe_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Wait for a probe that is out, although its connection was lost."""
    patch.setattr(Probing, "returned", lambda self, position: None)


QUEUE_MUTATIONS: tuple[Mutate, ...] = (
    settle_unacknowledged,
    hand_out_too_early,
    forget_what_was_lost,
    never_give_up,
    count_no_losses,
    ignore_the_pause_asked_for,
    redrive_to_everyone,
    ignore_a_seek,
    ignore_pauses,
    sleep_through_the_end_of_a_pause,
    blame_all,
    blame_the_newest,
    ignore_late_acks,
    lose_what_was_in_hand,
    blame_sockets_for_a_kill,
    blame_who_leaves,
    never_undeliverable,
    forget_the_delayed,
    let_nothing_expire,
    tell_of_no_loss,
    take_a_notice_for_read,
    tell_of_the_first_loss_only,
    ignore_keys,
    wait_for_who_is_gone,
    miss_what_was_stored_late,
    end_no_lease,
    end_leases_early,
    read_wrongly_after_a_move,
    sleep_on_after_the_store_caught_up,
    follow_the_wall_clock,
    begin_with_the_wall_clock,
    measure_pauses_on_the_store_s_clock,
    never_probe,
    probe_two_at_a_time,
    probe_for_ever,
)
