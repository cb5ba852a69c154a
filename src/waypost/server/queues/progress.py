"""The progress of one consumer: its place in the queue, and the outcomes of its deliveries."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from math import inf
from typing import Protocol

from waypost.logs import fields, get_logger
from waypost.protocol.rejections import Rejection
from waypost.server.queues.options import Order, QueueOptions
from waypost.server.queues.orders.delivery_order import DeliveryOrder, Read, ReadRetries
from waypost.server.queues.orders.making import make_order
from waypost.server.queues.pages import Pages
from waypost.server.queues.probing import Probing
from waypost.server.queues.settler import Settler
from waypost.server.queues.verdict import UNDELIVERABLE, Blame, Verdict, backoff_of, judge
from waypost.server.services import Services
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Attempt, ConsumerRow, MessageRow

__all__ = ["Listener", "Progress"]

logger = get_logger("waypost.queue")

_TELLING_FAILURES = 5
"""After so many failures of the message that all others wait for, the log tells how many these are."""

_FAILURES = frozenset({Blame.REJECTED, Blame.EXPIRED})


class Listener(Protocol):
    """The runner that learns of changes in its consumer's progress."""

    def wake(self) -> None:
        """Run a round of deliveries: more may be possible now."""
        ...

    def begin_anew(self) -> None:
        """Take back all messages: the consumer was moved, or its queue was deleted and made anew."""
        ...

    def report_loss(self) -> None:
        """Report that the consumer's losses to the queue's limits have changed."""
        ...

    def report_death(self, message: MessageRow, attempt: Attempt) -> None:
        """Report a message that was given up, with its last attempt."""
        ...


class Progress:
    """One consumer's place in its queue.

    Args:
        queue: The stored queue.
        row: The consumer, as it was just found.
        order: The kind of delivery order.
        services: What the server's parts share.
        listener: Learns of changes.

    Attributes:
        row: The consumer, as it was last seen in the store.
        upcoming: The order of the next messages; ``None`` until `look` has found the consumer's place.
        probing: The consumer's failures in a row, and whether they make it probe.
    """

    __slots__ = (
        "_acknowledged",
        "_awaits_retries",
        "_blocking",
        "_clock",
        "_decided",
        "_generation",
        "_is_stale",
        "_late",
        "_listener",
        "_order",
        "_pages",
        "_queue",
        "_queue_paused_until",
        "_random",
        "_settler",
        "probing",
        "row",
        "upcoming",
    )

    def __init__(
        self,
        queue: StoredQueue,
        row: ConsumerRow,
        order: Order,
        services: Services,
        listener: Listener,
    ) -> None:
        self.row = row
        self.upcoming: DeliveryOrder | None = None
        self._queue = queue
        self._order: Order = order
        self._clock = services.store.clock
        self._random = services.environment.random
        self._listener = listener
        self._generation = row.generation
        self._queue_paused_until = 0.0
        self._settler = Settler(queue, row.name, row.epoch, self._stored, listener.wake, services.keep_task)
        self._pages = Pages(queue, row.name)
        # What was acknowledged late, and is read again as long as the store does not know that.
        self._late: set[int] = set()
        # What is decided while retries are read: the store may answer as it was before.
        self._decided: set[int] | None = None
        self._is_stale = False
        self._awaits_retries = False
        self.probing = Probing()
        # The messages that the consumer has ever acknowledged, stored or not.
        self._acknowledged = row.settled
        # The message that has just failed so often that the log shall tell, with the reason.
        self._blocking: tuple[MessageRow, str] | None = None

    @property
    def epoch(self) -> int:
        """The epoch in which the messages were read."""
        return self._settler.epoch

    # -- the place in the queue -----------------------------------------------------------------------------

    def resume(self, out: Collection[MessageRow]) -> None:
        """Begin at the consumer's place with messages that are in hand already; `look` reads the rest."""
        self.upcoming = make_order(self._order, self.row.cursor, out)
        self._is_stale = True

    @property
    def has_more(self) -> bool:
        """Whether messages may wait that are not in hand."""
        return self.upcoming is None or self.upcoming.has_more

    def look_again(self) -> None:
        """Let the next `look` ask the store: the consumer may have changed, or the queue may have new messages."""
        self._is_stale = True

    async def look(self) -> DeliveryOrder:
        """Read the consumer from the store, if it may have changed there.

        Returns:
            The order of the next messages.

        Raises:
            StorageError: The store did not answer.
        """
        if self._is_stale:
            self._is_stale = False
            self._queue_paused_until = (await self._queue.info()).paused_until or 0.0
            self._stored(await self._queue.add_consumer(self.row.name))
            if self.upcoming is not None:
                self.upcoming.look_again()
        return self.upcoming or await self._begin()

    async def _begin(self) -> DeliveryOrder:
        """Read the consumer's place from the store, and begin there."""
        await self._settler.flush()
        self._queue_paused_until = (await self._queue.info()).paused_until or 0.0
        row = await self._queue.add_consumer(self.row.name)
        if row.epoch != self._settler.epoch:
            self._late.clear()
        self._generation, self._settler.epoch = row.generation, row.epoch
        self._acknowledged = row.settled
        self.upcoming = upcoming = make_order(self._order, row.cursor)
        self._stored(row)
        return upcoming

    def pause_s(self) -> float:
        """Return for how many seconds of the wall clock the consumer is still paused; 0 or less if it is not."""
        paused_until = max(self._queue_paused_until, self.row.paused_until or 0.0)
        return paused_until - self._clock.wall() if paused_until else 0.0

    @property
    def must_wait(self) -> bool:
        """True until the next `look`, and while too much waits for the store, the end of which wakes the listener."""
        return self._is_stale or self._settler.is_behind

    @property
    def due_at(self) -> float:
        """The time at which the next message that waits for its next attempt may go; infinity if none does."""
        return inf if self.upcoming is None else self.upcoming.due_at

    async def read(self, upcoming: DeliveryOrder, read: Read) -> None:
        """Read the messages that a delivery order wants, and hand them to it.

        Raises:
            StorageError: The store did not answer.
        """
        if self._late:
            self._late &= self._settler.pending
        if isinstance(read, ReadRetries):
            # The store can't know failures that are not stored yet. As soon as they are, they may be due.
            self._awaits_retries = self._settler.has_retries
            read = replace(read, excluding=read.excluding | self._settler.pending)
            self._decided = set()
        try:
            messages, due_at = await self._pages.read(read)
            done = self._late | (self._decided or set())
        except Exception:
            upcoming.not_read(read)
            raise
        finally:
            self._decided = None
        upcoming.take(read, messages, self._clock.now(), complete=not messages, due_at=due_at, done=done)

    async def flush(self) -> None:
        """Wait until everything is stored."""
        await self._settler.flush()

    @property
    def unstored(self) -> dict[int, str | None]:
        """The positions of the acks that are not stored yet, with the keys of their messages."""
        return self._settler.acknowledged

    def hurry(self) -> None:
        """Store without waiting for more: the server stops."""
        self._settler.hurry()

    def forget(self) -> None:
        """Forget the consumer's place: `look` begins anew."""
        self.upcoming = None
        self.probing = Probing()

    def drop(self) -> None:
        """Drop what is not stored yet: the consumer was deleted."""
        self._settler.drop()

    async def forget_loss(self, upto: int) -> None:
        """Note that the consumer knows of its losses up to a position.

        Raises:
            StorageError: The store could not write that.
        """
        self._stored(await self._queue.forget_loss(self.row.name, upto))

    # -- outcomes -------------------------------------------------------------------------------------------

    def acknowledge(self, message: MessageRow) -> None:
        """Settle a message that was out."""
        upcoming = self.upcoming
        assert upcoming is not None  # see _coming
        upcoming.done(message)
        self._succeeded(message)

    def acknowledge_late(self, message: MessageRow) -> None:
        """Settle a message that was put back, waits for its next attempt, or is not read yet."""
        self._late.add(message.position)
        if self.upcoming is not None:
            self.upcoming.withdraw(message)
        self._succeeded(message)

    def _succeeded(self, message: MessageRow) -> None:
        self._note_decided(message)
        self._settler.settle(message.position, message.key)
        self._acknowledged += 1
        if self.probing.failures and self.probing.succeeded():
            logger.info(
                "queue %r, consumer %r: a message succeeded, and all go out again",
                self._queue.name,
                self.row.name,
                extra=fields(queue=self._queue.name, consumer=self.row.name, message_id=message.id),
            )
            self._listener.wake()

    def put_back(self, message: MessageRow) -> None:
        """Let a message go out again whose delivery ended without a fault."""
        self.probing.returned(message.position)
        self._coming().put_back(message)

    def reject(self, message: MessageRow, rejection: Rejection, options: QueueOptions, in_hand: int) -> bool:
        """Count a nack; the other arguments and the result are as for `fail`."""
        reason, wanted_s = _cut(rejection.reason, options.max_reason_characters), rejection.retry_in_s
        verdict = self._judge(message, Blame.REJECTED, options, retry_in_s=wanted_s, is_final=rejection.is_final)
        if rejection.is_final:
            # The message is at fault, and not what its handler depends on.
            self.probing.returned(message.position)
        else:
            self._count_failure(message, reason, options, in_hand)
        return self._go_on(message, verdict, Blame.REJECTED, reason, rejection.exception)

    def fail(self, message: MessageRow, blame: Blame, reason: str, options: QueueOptions, in_hand: int) -> bool:
        """Count a delivery that ended without an answer, and schedule the next attempt or give the message up.

        Args:
            message: The message.
            blame: The cause of the delivery's end.
            reason: The reason, in words.
            options: The queue's options.
            in_hand: The number of messages that the consumer had in hand, this one included.

        Returns:
            True if there is a next attempt; False if the message is a dead letter now.
        """
        verdict = self._judge(message, blame, options)
        if blame is Blame.EXPIRED:
            self._count_failure(message, reason, options, in_hand)
        else:
            self.probing.returned(message.position)
        return self._go_on(message, verdict, blame, UNDELIVERABLE if verdict.is_undeliverable else reason)

    def _judge(
        self,
        message: MessageRow,
        blame: Blame,
        options: QueueOptions,
        *,
        retry_in_s: float | None = None,
        is_final: bool = False,
    ) -> Verdict:
        return judge(
            blame,
            message,
            acknowledged=self._acknowledged,
            retry_in_s=retry_in_s,
            is_final=is_final,
            options=options,
            chance=self._random(),
        )

    def _count_failure(self, message: MessageRow, reason: str, options: QueueOptions, in_hand: int) -> None:
        """Count a failure among those in a row."""
        begins = self.probing.failed(
            message.position,
            in_hand=in_hand,
            now=self._clock.now(),
            backoff=backoff_of(options),
            chance=self._random(),
        )
        if begins:
            logger.warning(
                "queue %r, consumer %r: %d failures in a row, the last: %s; until one message succeeds, they go out "
                "one at a time, with growing pauses",
                self._queue.name, self.row.name, self.probing.failures, reason,
                extra=fields(
                    queue=self._queue.name, consumer=self.row.name,
                    message_id=message.id, count=self.probing.failures,
                ),
            )  # fmt: skip

    def _go_on(
        self, message: MessageRow, verdict: Verdict, blame: Blame, reason: str, exception: str | None = None
    ) -> bool:
        """Have a verdict stored, and act by it."""
        now = self._clock.now()
        self._note_decided(message)
        changed = message._replace(
            failures=verdict.failures,
            losses=verdict.losses,
            # A message that may go at once waits for no clock.
            retry_at=now + verdict.delay_s if verdict.delay_s else 0.0,
            breaks=verdict.breaks,
            breaks_since=self._acknowledged,
        )
        attempt = _attempt(changed, blame, reason, now, exception)
        if verdict.delay_s is None:
            self._bury(message, attempt)
            return False
        logger.info(
            "queue %r, consumer %r, message %s: %s (%s), again in %.1f s",
            self._queue.name, self.row.name, message.id, blame.value, reason, verdict.delay_s,
            extra=fields(
                queue=self._queue.name, consumer=self.row.name,
                message_id=message.id, seconds=verdict.delay_s,
            ),
        )  # fmt: skip
        if self._order == "strict" and blame in _FAILURES and verdict.failures == _TELLING_FAILURES:
            self._blocking = message, reason
        self._settler.retry(attempt)
        if verdict.delay_s:
            self._coming().park(changed)
        else:
            self._coming().put_back(changed)
        return True

    def give_up_unsent(self, message: MessageRow, now: float) -> None:
        """Make a message a dead letter without a further delivery."""
        count = message.failures + message.losses
        reason = f"given up after {count} deliveries, the last of which were lost when the server ended"
        self._bury(message, _attempt(message, Blame.LOST, reason, now))

    def give_up_damaged(self, message: MessageRow, now: float) -> None:
        """Make a message a dead letter that is not what was emitted."""
        reason = "damaged: the store's file has changed since it was emitted"
        self._bury(message, _attempt(message, Blame.REJECTED, reason, now))

    def _bury(self, message: MessageRow, attempt: Attempt) -> None:
        self._note_decided(message)
        self._coming().done(message)
        self._settler.bury(attempt)
        self._listener.report_death(message, attempt)

    def _note_decided(self, message: MessageRow) -> None:
        if self._decided is not None:
            self._decided.add(message.position)

    def _stored(self, row: ConsumerRow) -> None:
        """Take the consumer's row as the store has it now."""
        # A queue that was deleted and made anew has another generation, and positions that mean other messages.
        was_moved = (row.generation, row.epoch) != (self._generation, self._settler.epoch)
        has_lost = row.lost != self.row.lost
        self.row = row
        if self._blocking is not None:
            (message, reason), self._blocking = self._blocking, None
            logger.warning(
                "queue %r, consumer %r: message %s has failed %d times, and %d messages wait behind it: %s",
                self._queue.name, row.name, message.id, _TELLING_FAILURES, max(row.waiting - 1, 0), reason,
                extra=fields(queue=self._queue.name, consumer=row.name, message_id=message.id),
            )  # fmt: skip
        if self._awaits_retries and self.upcoming is not None:
            self._awaits_retries = False
            self.upcoming.look_for_retries(self._clock.now())
            self._listener.wake()
        if has_lost:
            self._listener.report_loss()
        if was_moved:
            self._listener.begin_anew()

    def _coming(self) -> DeliveryOrder:
        # The messages in flight came from this order: `Runner.begin_anew` drops both together.
        assert self.upcoming is not None
        return self.upcoming


def _attempt(message: MessageRow, blame: Blame, reason: str, now: float, exception: str | None = None) -> Attempt:
    """Make the record of a delivery that ended, of the message with its counts by now."""
    return Attempt(
        message.position,
        message.failures,
        message.losses,
        blame.kind,
        reason,
        at=now,
        retry_at=message.retry_at,
        breaks=message.breaks,
        breaks_since=message.breaks_since,
        deaths=message.deaths,
        exception=exception,
    )


def _cut(reason: str, most: int) -> str:
    return reason if len(reason) <= most else f"{reason[:most]}…" if most else ""
