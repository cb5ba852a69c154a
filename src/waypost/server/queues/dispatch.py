"""Hands out one consumer's messages to its sockets and workers, in rounds that run while there is work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any, Protocol

from waypost.logs import fields, get_logger
from waypost.server.queues.delivery import Attachment
from waypost.server.queues.flight import Flight
from waypost.server.queues.meter import ConsumerMeter
from waypost.server.queues.options import Order, QueueOptions
from waypost.server.queues.orders.delivery_order import DeliveryOrder
from waypost.server.queues.progress import Progress
from waypost.server.queues.takers import Takers
from waypost.server.queues.work_loop import WorkLoop
from waypost.storage.clock import LONGEST_SLEEP_S

__all__ = ["Dispatch"]

logger = get_logger("waypost.queue")


class Served(Protocol):
    """The runner of the consumer. See `Runner`."""

    order: Order
    options: QueueOptions
    meter: ConsumerMeter
    takers: Takers

    @property
    def queue_name(self) -> str:
        """The queue's name."""
        ...

    def displace(self, served: Attachment) -> None:
        """In strict order, take the message back from an attachment that is not the newest one any more."""
        ...

    def became_idle(self) -> None:
        """End: nothing is attached any more, and everything is stored."""
        ...


class Dispatch:
    """Decides when the messages of one consumer go out, and to whom.

    A round looks at the consumer's place, reads what is wanted, and hands out what may go to takers that have credit.
    Between rounds it waits for `wake`, or for the moment at which the next message may go.

    Args:
        runner: The consumer's runner.
        progress: The consumer's place in the queue.
        flight: The deliveries that are out.
        now: Returns the time on the store's clock.
        keep_task: Holds on to a task until it is done.

    Attributes:
        wake: Runs a round now. During a read, delivers what is there already.
        stop: Lets the present round be the last one.
    """

    __slots__ = ("_flight", "_now", "_progress", "_runner", "_work", "stop", "wake")

    def __init__(
        self,
        runner: Served,
        progress: Progress,
        flight: Flight,
        now: Callable[[], float],
        keep_task: Callable[[asyncio.Task[Any]], None],
    ) -> None:
        self._runner = runner
        self._progress = progress
        self._flight = flight
        self._now = now
        self._work = WorkLoop(self._run_round, self._halted, keep_task)
        # Each ack wakes it: one call less is felt.
        self.wake, self.stop = self._work.wake, self._work.stop

    async def _run_round(self) -> None:
        takers = self._runner.takers
        if not takers:
            await self._progress.flush()
            if not takers:
                self._work.cancel_alarm()
                self._runner.became_idle()
                return
        upcoming = await self._progress.look()
        # One time for everything in a round: the alarm covers what falls due after it.
        now, pause_s = self._now(), self._progress.pause_s()
        while self._may_hand_out(pause_s):
            self._hand_out(upcoming, now)
            # Read ahead even if no taker has credit: the takers will soon be done with what they have.
            read = upcoming.wants(now)
            if read is None:
                break
            await self._work.wait_for(self._progress.read(upcoming, read), self._hand_out_meanwhile)
            # A store in memory answers at once; other tasks have to run, too.
            await asyncio.sleep(0)
            if self._progress.upcoming is not upcoming:
                return
            now, pause_s = self._now(), self._progress.pause_s()
        self._flight.note_oldest()
        self._set_alarm(now, pause_s)

    def _halted(self, problem: Exception, pause_s: float) -> None:
        """Let the next round read the consumer again after this one failed."""
        self._progress.look_again()
        logger.error(
            "queue %r: delivery to %r halts for %.1f s: %s",
            self._runner.queue_name, self._progress.row.name, pause_s, problem,
            extra=fields(queue=self._runner.queue_name, consumer=self._progress.row.name, seconds=pause_s),
        )  # fmt: skip

    def _set_alarm(self, now: float, pause_s: float) -> None:
        """Wake at the end of the next pause after ``now``: of the consumer, its probing, or else of a message."""
        probe_at = self._progress.probing.next_at
        due_at = probe_at if probe_at > now else self._progress.due_at
        if pause_s > 0:
            due_at = now + pause_s
        if now < due_at < inf:
            self._work.wake_in(min(due_at - self._now(), LONGEST_SLEEP_S))
        else:
            self._work.cancel_alarm()

    def _may_hand_out(self, pause_s: float) -> bool:
        return pause_s <= 0 and not self._work.is_stopped and not self._progress.must_wait

    def _hand_out_meanwhile(self) -> None:
        """Deliver the messages that are there while more are being read."""
        upcoming, now = self._progress.upcoming, self._now()
        if upcoming is not None and self._may_hand_out(self._progress.pause_s()):
            self._hand_out(upcoming, now)

    def _hand_out(self, upcoming: DeliveryOrder, now: float) -> None:
        """Deliver messages that may go to takers that have credit."""
        runner, flight, probing = self._runner, self._flight, self._progress.probing
        takers, options = runner.takers, runner.options
        if runner.order == "strict" and (served := takers.served()) is not None:
            runner.displace(served)
        delivered = 0
        while (
            takers.any()
            and (not probing.is_active or probing.may_hand_out(now))
            and (message := upcoming.next(now, probing=probing.is_active)) is not None
        ):
            if message.expires_at is not None and message.expires_at <= now:
                upcoming.done(message)
                continue
            if message.damaged:
                flight.drop_late(message.position)
                self._progress.give_up_damaged(message, now)
                continue
            taker = takers.take(len(message.record))
            if taker is None:
                upcoming.put_back(message)
                break
            was_tried = message.losses or message.failures
            if was_tried and taker.carrier.is_too_much(message, options):
                # The message came so far by crashes during deliveries, or by a change of options.
                flight.drop_late(message.position)
                self._progress.give_up_unsent(message, now)
            else:
                if probing.is_active:
                    probing.handed(message.position)
                if not was_tried:
                    runner.meter.first_delivery(now - message.enqueued_at)
                flight.hand(message, taker, options, now)
                delivered += 1
            takers.enter_rotation(taker)
        if delivered:
            runner.meter.deliver(delivered)
        flight.note_oldest()
