"""One consumer's messages, to whoever is attached to it: what goes out when, and what becomes of it.

A consumer that has sockets or workers attached has a runner; one that has none costs nothing but its row on disk.
A runner works when there is something to do, in a task of its own, and is a plain object for the rest of the time.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from math import inf
from typing import Any

from waypost.errors import StorageError, StoreClosed
from waypost.server.queues.delivery import Attachment, Delivery
from waypost.server.queues.leases import Leases
from waypost.server.queues.line import Line, Read, ReadRetries, make_line
from waypost.server.queues.meter import ConsumerMeter
from waypost.server.queues.options import Order, QueueOptions
from waypost.server.queues.pages import Pages
from waypost.server.queues.settler import Settler
from waypost.server.queues.surroundings import Surroundings
from waypost.server.queues.takers import Takers
from waypost.server.queues.verdict import Blame, Rejection, judge
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Attempt, ConsumerRow, MessageRow

__all__ = ["Runner"]

logger = logging.getLogger("waypost.queue")

_FIRST_HALT_S = 0.5
_LONGEST_HALT_S = 30.0


class Runner:
    """One consumer that has sockets or workers attached.

    Args:
        queue: The stored queue.
        info: The consumer, as it was just found.
        order: In which order its messages go out.
        options: The queue's.
        surroundings: What it shares with others.

    Attributes:
        info: The consumer, as it was last seen.
        order: In which order its messages go out.
        options: The queue's; may be replaced at any time.
        meter: What it counts.
        takers: Who is attached.
    """

    def __init__(
        self, queue: StoredQueue, info: ConsumerRow, order: Order, options: QueueOptions, surroundings: Surroundings
    ) -> None:
        self.info = info
        self.order = order
        self.options = options
        self.meter = ConsumerMeter(asyncio.get_running_loop().time)
        self.takers = Takers(newest_only=order == "strict")
        self._queue = queue
        self._surroundings = surroundings
        self._loop = asyncio.get_running_loop()
        self._generation = info.generation
        # None: where the consumer stands has to be read anew.
        self._line: Line | None = None
        self._queue_paused_until = 0.0
        self._flight: dict[int, Delivery] = {}
        # Deliveries that are over; their ack still counts until the message is handed out again.
        self._late: dict[int, Delivery] = {}
        self._settler = Settler(queue, info.name, info.epoch, self._stored, surroundings.keep_task)
        self._leases = Leases(self._loop, self._flight, self._lease_ended)
        # Those whose oldest message may be another one than the store knows.
        self._with_news: dict[Attachment, None] = {}
        self._pages = Pages(queue, info.name)
        # What is being read for, and whether handing out meanwhile is on its way.
        self._reading: Line | None = None
        self._hands_out_soon = False
        self._working: asyncio.Task[None] | None = None
        self._has_work = False
        self._is_stopped = False
        self._alarm: asyncio.TimerHandle | None = None
        self._halts = 0
        self._must_look = False
        self._awaits_retries = False

    @property
    def queue_name(self) -> str:
        """The queue's name."""
        return self._queue.name

    @property
    def in_flight(self) -> int:
        """How many messages are in somebody's hands."""
        return len(self._flight)

    # -- who is there ---------------------------------------------------------------------------------------

    def attach(self, attachment: Attachment) -> None:
        """Let a socket or worker take messages."""
        self.takers.add(attachment)
        self.wake()

    def enliven(self, attachment: Attachment) -> None:
        """Note that a socket or worker may be able to take messages now, or has given a sign of life."""
        attachment.is_silent = False
        self.takers.line_up(attachment)
        self.wake()

    def retire(self, attachment: Attachment) -> None:
        """Give a socket or worker nothing more; what it has in hand it may still acknowledge."""
        attachment.is_leaving = True
        if not attachment.in_hand:
            self.detach(attachment, to_blame=False)

    def detach(self, attachment: Attachment, *, to_blame: bool) -> None:
        """Take a socket or worker away; what it had in hand goes to others.

        Args:
            attachment: The socket or worker.
            to_blame: Whether it was lost, so that the oldest message it had is counted as a lost delivery.
        """
        if attachment not in self.takers:
            return
        self.takers.remove(attachment)
        self._take_all(attachment, "the connection was lost" if to_blame else None)
        for delivery in [one for one in self._late.values() if one.attachment is attachment]:
            del self._late[delivery.message.position]
        self._with_news.pop(attachment, None)
        self._queue.hold(self.info.name, attachment.carrier.label, None)
        self.wake()

    def stop(self) -> None:
        """Hand out nothing any more; what is in hand may still be answered."""
        self._is_stopped = True
        self._settler.hurry()
        self._cancel_alarm()
        self._leases.cancel()

    def keep_task(self, task: asyncio.Task[Any]) -> None:
        """Hold on to a task until it is done."""
        self._surroundings.keep_task(task)

    # -- what is told of the queue --------------------------------------------------------------------------

    def arrive(self, message: MessageRow) -> None:
        """Take a message that has just been stored."""
        if self._line is not None:
            self._line.arrive(message, self._now())
            self.wake()

    def reset(self) -> None:
        """Begin anew where the consumer stands in the store: what is in hand does not count any more.

        What is not stored yet still will be, in the epoch it belongs to; the store ignores it if that is over.
        """
        for delivery in [*self._flight.values(), *self._late.values()]:
            delivery.attachment.carrier.forget(delivery)
            delivery.attachment.release(delivery)
        self._flight.clear()
        self._late.clear()
        self._line = None
        self.takers.line_all_up()
        self.wake()

    def abandon(self) -> None:
        """Let go of a consumer that is no more, and of everybody attached to it."""
        self._settler.drop()
        self.reset()
        for attachment in list(self.takers):
            self.detach(attachment, to_blame=False)

    def look(self) -> None:
        """Look at the consumer in the store: it may have been moved, paused or resumed, or there are messages."""
        self._must_look = True
        self.wake()

    async def forget_loss(self, upto: int) -> None:
        """Note that the consumer knows what it lost, up to a position.

        Raises:
            StorageError: The store did not take it.
        """
        self._stored(await self._queue.forget_loss(self.info.name, upto))

    # -- what becomes of messages ---------------------------------------------------------------------------

    def acknowledge(self, delivery: Delivery) -> bool:
        """Take an ack; returns whether it counts."""
        message = delivery.message
        if self._flight.get(message.position) is delivery:
            self._release(delivery)
            self._require_line().done(message)
        elif self._late.get(message.position) is delivery:
            del self._late[message.position]
            self._require_line().withdraw(message)
        else:
            return False
        self.meter.acknowledged.add()
        self._settler.settle(message.position)
        self.wake()
        return True

    def reject(self, delivery: Delivery, rejection: Rejection) -> bool:
        """Take a nack; returns whether it counts."""
        if self._flight.get(delivery.message.position) is not delivery:
            return False
        self._release(delivery)
        self._fail(delivery.message, Blame.REJECTED, rejection.reason, rejection.retry_in_s)
        self.wake()
        return True

    def _lease_ended(self, delivery: Delivery) -> None:
        attachment = delivery.attachment
        if attachment.carrier.owes_heartbeat:
            attachment.is_silent = True
            self._take_all(attachment, "no sign of life")
        else:
            held_s = self._loop.time() - delivery.handed_at
            self._release(delivery)
            self._late[delivery.message.position] = delivery
            self._fail(delivery.message, Blame.EXPIRED, f"not acknowledged within {held_s:.1f} s", None)
        self.wake()

    def _take_all(self, attachment: Attachment, blame: str | None) -> None:
        """Take back what somebody has in hand; only the oldest is blamed, if any: the others were only waiting."""
        for delivery in list(attachment.in_hand.values()):
            self._release(delivery)
            self._late[delivery.message.position] = delivery
            if blame is None:
                self._require_line().put_back(delivery.message)
            else:
                self._fail(delivery.message, Blame.LOST, blame, None)
                blame = None

    def _release(self, delivery: Delivery) -> None:
        attachment = delivery.attachment
        del self._flight[delivery.message.position]
        attachment.release(delivery)
        self._with_news[attachment] = None
        self.takers.line_up(attachment)
        if attachment.is_leaving and not attachment.in_hand:
            self.detach(attachment, to_blame=False)

    def _fail(self, message: MessageRow, blame: Blame, reason: str, retry_in_s: float | None) -> None:
        """Count a failure; try the message again later, or give it up."""
        line, now = self._require_line(), self._now()
        verdict = judge(
            blame,
            failures=message.failures,
            losses=message.losses,
            retry_in_s=retry_in_s,
            options=self.options,
            chance=self._surroundings.environment.random(),
        )
        # What may go at once must not wait for a clock that is set back.
        retry_at = now + verdict.delay_s if verdict.delay_s else 0.0
        attempt = Attempt(
            message.position, verdict.failures, verdict.losses, blame.value, reason, at=now, retry_at=retry_at
        )
        if verdict.delay_s is None:
            self._bury(message, attempt)
            return
        logger.info(
            "queue %r, consumer %r, message %s: %s (%s), again in %.1f s",
            self.queue_name, self.info.name, message.id, blame.value, reason, verdict.delay_s,
        )  # fmt: skip
        self.meter.redelivered.add()
        self._settler.retry(attempt)
        changed = message._replace(failures=verdict.failures, losses=verdict.losses, retry_at=retry_at)
        if verdict.delay_s:
            line.park(changed)
        else:
            line.put_back(changed)

    def _give_up_unsent(self, message: MessageRow, now: float) -> None:
        """Make a message a dead letter that must not be delivered once more."""
        count = message.failures + message.losses
        reason = f"given up after {count} deliveries, the last of which were lost when the server ended"
        attempt = Attempt(message.position, message.failures, message.losses, Blame.LOST.value, reason, at=now)
        self._bury(message, attempt)

    def _bury(self, message: MessageRow, attempt: Attempt) -> None:
        self._require_line().done(message)
        self._settler.bury(attempt)
        self._late.pop(message.position, None)
        self._surroundings.buried(self, message, attempt)

    def _stored(self, info: ConsumerRow) -> None:
        """Look at what the store says of the consumer."""
        # A queue that was deleted and made anew has another generation, and positions that mean other messages.
        moved = (info.generation, info.epoch) != (self._generation, self._settler.epoch)
        has_lost = info.lost != self.info.lost
        self.info = info
        if self._awaits_retries and self._line is not None:
            self._awaits_retries = False
            self._line.look_for_retries(self._now())
            self.wake()
        if has_lost:
            self._surroundings.lost(self)
        if moved:
            self.reset()

    # -- work -----------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have a look at what can be done."""
        self._has_work = True
        if self._is_stopped:
            return
        if self._working is None:
            self._working = self._loop.create_task(self._work())
            self._surroundings.keep_task(self._working)
        elif self._reading is not None and not self._hands_out_soon:
            self._hands_out_soon = True
            self._loop.call_soon(self._hand_out_meanwhile)

    async def _work(self) -> None:
        try:
            while self._has_work and not self._is_stopped:
                self._has_work = False
                try:
                    await self._work_once()
                    self._halts = 0
                except StoreClosed:
                    return
                except StorageError as problem:
                    self._halt(problem)
        finally:
            self._working = None

    async def _work_once(self) -> None:
        if not self.takers:
            await self._settler.flush()
            if not self.takers:
                self._cancel_alarm()
                self._leases.cancel()
                self._line = None
                self._surroundings.idle(self)
                return
        if self._must_look:
            self._must_look = False
            await self._look()
        line = self._line or await self._begin()
        # One time for everything in a round: what falls due after it is the alarm's.
        while self._may_hand_out(now := self._now()):
            self._hand_out(line, now)
            # Also if nobody has credit: what they have in hand is soon done, and what comes next is there then.
            read = line.wants(now)
            if read is None:
                break
            await self._read(line, read)
            if self._line is not line:
                return
        self._note_news()
        self._set_alarm(line, now)

    async def _look(self) -> None:
        """Find out what has changed."""
        self._queue_paused_until = (await self._queue.info()).paused_until or 0.0
        self._stored(await self._queue.add_consumer(self.info.name))
        if self._line is not None:
            self._line.look_again()

    async def _begin(self) -> Line:
        """Find out where the consumer stands, and begin there."""
        await self._settler.flush()
        self._queue_paused_until = (await self._queue.info()).paused_until or 0.0
        info = await self._queue.add_consumer(self.info.name)
        self._generation, self._settler.epoch = info.generation, info.epoch
        self._line = make_line(self.order, info.cursor)
        self._stored(info)
        return self._line

    def _may_hand_out(self, now: float) -> bool:
        return not (self._is_stopped or self._settler.is_behind or self._paused_until() > now)

    def _paused_until(self) -> float:
        return max(self._queue_paused_until, self.info.paused_until or 0.0)

    async def _read(self, line: Line, read: Read) -> None:
        """Read what a line wants and give it to it; what it has already is handed out meanwhile."""
        self._reading = line
        if isinstance(read, ReadRetries):
            # What is not stored yet is not asked for; as soon as it is, it may be due.
            self._awaits_retries = self._settler.has_retries
            read = replace(read, excluding=read.excluding | self._settler.pending)
        try:
            messages, due_at = await self._pages.read(read)
        finally:
            self._reading = None
        line.take(read, messages, self._now(), complete=not messages, due_at=due_at)
        # A store in memory answers at once; others want to be served, too.
        await asyncio.sleep(0)

    # -- handing out ----------------------------------------------------------------------------------------

    def _hand_out_meanwhile(self) -> None:
        """Give out what is there while more is being read."""
        self._hands_out_soon = False
        line, now = self._line, self._now()
        if line is not None and line is self._reading and self._may_hand_out(now):
            self._hand_out(line, now)

    def _hand_out(self, line: Line, now: float) -> None:
        """Give out what may go to those who have credit."""
        if self.order == "strict":
            self._take_over()
        while self.takers.any() and (message := line.next(now)) is not None:
            if message.expires_at is not None and message.expires_at <= now:
                line.done(message)
                continue
            if message.failures + message.losses >= self.options.max_deliveries:
                # Only a server that ended with it in hand, or other options, can have brought it so far.
                self._give_up_unsent(message, now)
                continue
            taker = self.takers.take(len(message.record))
            if taker is None:
                line.put_back(message)
                break
            self._hand(message, taker)
        self._note_news()

    def _hand(self, message: MessageRow, taker: Attachment) -> None:
        late = self._late.pop(message.position, None)
        if late is not None:
            late.attachment.carrier.forget(late)
        delivery = taker.hand(message, self._loop.time())
        # Before it is sent: its ack counts however soon it comes.
        self._flight[message.position] = delivery
        taker.carrier.send(delivery)
        self._leases.watch(self.options)
        self.meter.delivered.add()
        self._with_news[taker] = None
        self.takers.line_up(taker)

    def _note_news(self) -> None:
        """Have the store note what everybody's oldest message is by now."""
        for attachment in self._with_news:
            oldest = attachment.oldest
            position = None if oldest is None else oldest.message.position
            self._queue.hold(self.info.name, attachment.carrier.label, position)
        self._with_news.clear()

    def _take_over(self) -> None:
        """In strict order, take the message from whoever is not served any more."""
        served = self.takers.served()
        if served is None:
            return
        for delivery in list(self._flight.values()):
            if delivery.attachment is not served:
                self._take_all(delivery.attachment, "another socket took over")

    # -- time -----------------------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._surroundings.environment.wall_time()

    def _set_alarm(self, line: Line, now: float) -> None:
        """Wake up when a pause ends that had not at ``now``: that of the consumer, else that of the next message."""
        paused_until = self._paused_until()
        due_at = paused_until if paused_until > now else line.due_at
        self._cancel_alarm()
        if now < due_at < inf:
            self._alarm = self._loop.call_later(max(due_at - self._now(), 0.0), self._ring)

    def _halt(self, problem: StorageError) -> None:
        """Wait for a store that does not answer."""
        delay_s = min(_FIRST_HALT_S * 2.0 ** min(self._halts, 16), _LONGEST_HALT_S)
        self._halts += 1
        self._must_look = True
        logger.error(
            "queue %r: delivery to %r halts for %.1f s: %s", self.queue_name, self.info.name, delay_s, problem
        )
        self._cancel_alarm()
        self._alarm = self._loop.call_later(delay_s, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.wake()

    def _cancel_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _require_line(self) -> Line:
        # Whatever is in flight was given out by the line of now: `reset` drops both together.
        assert self._line is not None
        return self._line
