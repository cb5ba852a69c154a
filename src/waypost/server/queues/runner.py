"""Serves one consumer: attaches sockets and workers, and decides what becomes of each message by their answers.

Only a consumer with sockets or workers attached has a runner; any other costs no more than its row in the store. The
runner has a task only while there is work. When messages go out, and to whom, is in `dispatch.py`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from waypost.errors import StorageError
from waypost.protocol.rejections import Rejection
from waypost.server.queues.delivery import Attachment, Delivery, Session
from waypost.server.queues.dispatch import Dispatch
from waypost.server.queues.flight import Flight
from waypost.server.queues.meter import ConsumerMeter
from waypost.server.queues.options import Order, QueueOptions
from waypost.server.queues.progress import Progress
from waypost.server.queues.serving import Watcher
from waypost.server.queues.takers import Takers
from waypost.server.queues.verdict import Blame
from waypost.server.services import Services
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Attempt, ConsumerRow, MessageRow

__all__ = ["Runner"]

_LOST = "the connection was lost"


class Runner:
    """Runs one consumer that has sockets or workers attached.

    Args:
        queue: The stored queue.
        row: The consumer, as it was just found in the store.
        order: The kind of delivery order.
        options: The queue's options.
        services: What the server's parts share.
        watcher: Learns what happens.

    Attributes:
        order: The kind of delivery order.
        options: The queue's options; may be replaced at any time.
        meter: Counts deliveries and acks.
        takers: The sockets and workers that are attached.
    """

    __slots__ = (
        "_away",
        "_dispatch",
        "_flight",
        "_is_idle",
        "_now",
        "_progress",
        "_queue",
        "_watcher",
        "meter",
        "options",
        "order",
        "takers",
    )

    def __init__(
        self,
        queue: StoredQueue,
        row: ConsumerRow,
        order: Order,
        options: QueueOptions,
        services: Services,
        watcher: Watcher,
    ) -> None:
        self.order: Order = order
        self.options = options
        load = services.queues.load(queue.name)
        self.meter = ConsumerMeter(asyncio.get_running_loop().time, services.queues.totals(queue.name))
        self.takers = Takers(load, newest_only=order == "strict")
        self._away: dict[Session, Attachment] = {}
        self._is_idle = False
        self._queue = queue
        self._now = services.store.clock.now
        self._watcher = watcher
        self._progress = Progress(queue, row, order, services, self)
        self._flight = Flight(self._now, self._lease_ended, self._report_overdue, self._note_oldest, load)
        self._dispatch = Dispatch(self, self._progress, self._flight, self._now, services.keep_task)

    @property
    def queue_name(self) -> str:
        """The queue's name."""
        return self._queue.name

    @property
    def row(self) -> ConsumerRow:
        """The consumer, as it was last seen in the store."""
        return self._progress.row

    @property
    def attached(self) -> int:
        """The number of sockets and workers that are attached and connected."""
        return sum(not attachment.is_away for attachment in self.takers)

    @property
    def in_flight(self) -> int:
        """The number of messages in the hands of sockets and workers."""
        return len(self._flight)

    @property
    def overdue(self) -> int:
        """The number of messages that clients have not acknowledged within one lease."""
        return self._flight.overdue(self.options)

    # -- attachments ----------------------------------------------------------------------------------------

    def attach(self, attachment: Attachment) -> None:
        """Attach a socket or worker: it gets messages from now on."""
        attachment.attached_at = self._now()
        self.takers.add(attachment)
        self.wake()

    def enliven(self, attachment: Attachment) -> None:
        """Note that a socket or worker may take messages again, or has given a sign of life."""
        attachment.is_silent = False
        self.takers.enter_rotation(attachment)
        self.wake()

    def heartbeat_sent(self, attachment: Attachment) -> None:
        """Do nothing: the carrier knows it."""

    def heartbeat_answered(self, attachment: Attachment) -> None:
        """Note a sign of life: a socket that was silent gets messages again."""
        if attachment.is_silent:
            self.enliven(attachment)

    def retire(self, attachment: Attachment) -> None:
        """Send a socket or worker no more messages. It may still acknowledge those it has."""
        attachment.is_leaving = True
        if not attachment.in_hand:
            self.detach(attachment, to_blame=False)

    def detach(self, attachment: Attachment, *, to_blame: bool, answers: bool = True) -> None:
        """Detach a socket or worker. Its messages go to others. See `Serving.detach`."""
        if attachment not in self.takers:
            return
        self.takers.remove(attachment)
        self._take_back(list(attachment.in_hand.values()), _LOST if to_blame else None, answers=answers)
        self._flight.leave(attachment)
        self.wake()

    def give_up(self, attachment: Attachment, reason: str) -> None:
        """Detach a worker that is not waited for any longer. Each message in its hand counts a lost delivery."""
        if attachment not in self.takers:
            return
        for delivery in list(attachment.in_hand.values()):
            self._release(delivery)
            self._flight.expect_late_ack(delivery)
            self._fail(delivery.message, Blame.STOPPED, reason)
        self.detach(attachment, to_blame=False)

    def park(self, attachment: Attachment, session: Session, *, to_blame: bool) -> None:
        """Leave its messages in the hand of a socket that was cut off. See `Serving.park`."""
        if attachment not in self.takers:
            return
        attachment.is_away, attachment.to_blame = True, to_blame
        if attachment.in_hand:
            self._away[session] = attachment
            # In strict order another socket takes over.
            self.wake()
        else:
            self.detach(attachment, to_blame=False)

    def take_home(self, session: Session) -> Attachment | None:
        """Return what a socket of this session had in hand when it was cut off. See `Serving.take_home`."""
        attachment = self._away.pop(session, None)
        if attachment is None or attachment not in self.takers:
            return None
        attachment.come_back(self._now())
        self.takers.remove(attachment)
        self.takers.add(attachment)
        return attachment

    def take_back(self, attachment: Attachment, deliveries: list[Delivery]) -> None:
        """Take messages back from a socket that did not arrive before its connection was lost."""
        self._take_back(deliveries, _LOST if attachment.to_blame else None)
        attachment.is_blamed = False
        self.wake()

    def stop(self) -> None:
        """Stop deliveries. Messages in hand may still be answered."""
        self._dispatch.stop()
        self._progress.hurry()
        self._flight.stop_watching()

    # -- changes of the owner -------------------------------------------------------------------------------

    def resume(self, held: dict[Attachment, list[Delivery]]) -> None:
        """Go on, before anything else, with attachments in their order and what each has in hand."""
        for attachment, deliveries in held.items():
            self.takers.add(attachment)
            for delivery in deliveries:
                self._flight.resume(delivery, self.options)
            if attachment.is_away and attachment.carrier.session is not None:
                self._away[attachment.carrier.session] = attachment
        self._progress.resume([one.message for deliveries in held.values() for one in deliveries])
        self.wake()

    def expect_late_ack(self, delivery: Delivery) -> None:
        """Let an ack count of a message that its taker held at another runner, and does not hold any more."""
        self._flight.expect_late_ack(delivery)

    def find_away(self, session: Session) -> Attachment | None:
        """Return the attachment of a session that is away, which stays away; ``None`` if there is none."""
        attachment = self._away.get(session)
        return attachment if attachment is not None and attachment in self.takers else None

    async def yield_up(self) -> list[Attachment]:
        """End, and store everything. Returns the sockets and workers, which keep what they hold."""
        self.stop()
        await self._progress.flush()
        attachments = list(self.takers)
        self.takers.yield_up()
        self._flight.yield_up()
        self._is_idle = True
        return attachments

    def lose_office(self) -> tuple[list[Attachment], dict[int, str | None]]:
        """End at once, because another node may own the consumer by now.

        Returns:
            The sockets and workers, which keep what they hold; and the acks that the store perhaps does not have: the
            positions of their messages, with the keys.
        """
        self.stop()
        attachments, unstored = list(self.takers), self._progress.unstored
        self.takers.yield_up()
        self._flight.yield_up()
        # The store takes nothing of a node that is not the owner.
        self._progress.drop()
        self._is_idle = True
        return attachments, unstored

    def lose_process(self, attachment: Attachment) -> None:
        """Detach a taker whose process has ended. For a function its message counts that, as it may be the cause."""
        for delivery in list(attachment.in_hand.values()) if attachment.carrier.is_in_process else ():
            self._release(delivery)
            message = delivery.message
            # The store has counted it by itself.
            self._progress.put_back(message._replace(losses=message.losses + 1, deaths=message.deaths + 1))
            self.meter.redeliver()
        self.detach(attachment, to_blame=False, answers=False)

    # -- changes of the queue -------------------------------------------------------------------------------

    def arrive(self, message: MessageRow) -> None:
        """Take a message that was just stored."""
        upcoming = self._progress.upcoming
        # Without a place in the queue yet, the message will be read from the store.
        if upcoming is not None:
            upcoming.arrive(message, message.enqueued_at)
            self._dispatch.wake()

    def begin_anew(self) -> None:
        """Take back all messages, and begin anew at the consumer's place in the store."""
        # Outcomes that are not stored yet will be, with their epoch; the store ignores them if it has ended.
        self._flight.clear()
        self._progress.forget()
        for attachment in list(self._away.values()):
            self.detach(attachment, to_blame=False)
        self._away.clear()
        self.takers.all_enter_rotation()
        self.wake()

    def abandon(self) -> None:
        """End the runner of a deleted consumer, and detach all its sockets and workers."""
        self._progress.drop()
        self.begin_anew()
        for attachment in list(self.takers):
            self.detach(attachment, to_blame=False)

    def look(self) -> None:
        """Read the consumer from the store: it may have been moved, paused or resumed, or have new messages."""
        self._progress.look_again()
        self.wake()

    def look_for_losses(self) -> None:
        """Read the consumer from the store if messages wait: the store may have removed some by their age."""
        if self._progress.has_more:
            self.look()

    async def forget_loss(self, upto: int) -> None:
        """Note that the consumer knows of its losses up to a position. See `LosingConsumer.forget_loss`."""
        await self._progress.forget_loss(upto)

    # -- answers --------------------------------------------------------------------------------------------

    def acknowledge(self, delivery: Delivery) -> bool:
        """Take an ack; returns whether it counts. It does for the message, whichever delivery it answers."""
        took_s = self._now() - delivery.handed_at
        if delivery.attachment.adapts:
            delivery.attachment.note_pace(took_s, self.options.lease_s)
        if self._release(delivery):
            self._progress.acknowledge(delivery.message)
            self._flight.drop_late(delivery.message.position)
            self.meter.acknowledge(took_s)
            self._dispatch.wake()
            return True
        if self._is_idle:
            # What it had in hand is in the store, or with the next runner of the same consumer.
            counts = self._watcher.late_ack(self, delivery.message, self._progress.epoch)
            return self.acknowledge_late(delivery.message, self._progress.epoch) if counts is None else counts
        return self._flight.end_late(delivery) and self.acknowledge_late(delivery.message, self._progress.epoch)

    def acknowledge_late(self, message: MessageRow, epoch: int) -> bool:
        """Take an ack of a delivery that has ended; see `Serving.acknowledge_late`."""
        if epoch != self._progress.epoch:
            return False
        other = self._flight.out(message.position)
        if other is None:
            self._progress.acknowledge_late(message)
        else:
            self._release(other)
            other.attachment.carrier.forget(other)
            self._progress.acknowledge(other.message)
        self._flight.drop_late(message.position)
        self.meter.acknowledge(None)
        self.wake()
        return True

    def reject(self, delivery: Delivery, rejection: Rejection) -> bool:
        """Take a nack; returns whether it counts."""
        if not self._release(delivery):
            return False
        self._note_attempt(
            delivery.message,
            goes_on=self._progress.reject(delivery.message, rejection, self.options, len(self._flight) + 1),
        )
        self.wake()
        return True

    def lose(self, delivery: Delivery) -> None:
        """Note that a delivery will never be answered: its session has ended."""
        attachment = delivery.attachment
        if not self._flight.end_late(delivery) and attachment.is_away:
            self.detach(attachment, to_blame=attachment.to_blame, answers=False)

    def _lease_ended(self, delivery: Delivery) -> None:
        attachment, now = delivery.attachment, self._now()
        if delivery.is_unanswered(self.options, now):
            unanswered = attachment.unanswered(self.options, now)
            self._take_back(unanswered, _LOST if attachment.to_blame else None)
            attachment.is_blamed = False
        elif attachment.is_away:
            self.detach(attachment, to_blame=attachment.to_blame)
        elif attachment.carrier.owes_heartbeat:
            attachment.is_silent = True
            self._take_back(list(attachment.in_hand.values()), "no sign of life")
        else:
            held_s = now - delivery.handed_at
            self._release(delivery)
            self._flight.expect_late_ack(delivery)
            if attachment.adapts:
                attachment.note_pace(held_s, self.options.lease_s)
            self._fail(delivery.message, Blame.EXPIRED, f"not acknowledged within {held_s:.1f} s")
        self.wake()

    def _take_back(self, deliveries: list[Delivery], blame: str | None, *, answers: bool = True) -> None:
        """Take messages back from one attachment. Only the oldest counts a lost delivery: the others just waited."""
        for delivery in deliveries:
            self._release(delivery)
            if answers:
                self._flight.expect_late_ack(delivery)
            if blame is None:
                self._progress.put_back(delivery.message)
            else:
                attachment = delivery.attachment
                self._fail(delivery.message, Blame.SILENT if attachment.is_blamed else Blame.LOST, blame)
                attachment.is_blamed, blame = True, None

    def _release(self, delivery: Delivery) -> bool:
        """Take a message back from its taker; returns False if the taker does not have it any more."""
        if not self._flight.end(delivery):
            return False
        attachment = delivery.attachment
        self.takers.enter_rotation(attachment)
        if (attachment.is_leaving or attachment.is_away) and not attachment.in_hand:
            self.detach(attachment, to_blame=False)
        return True

    def _fail(self, message: MessageRow, blame: Blame, reason: str) -> None:
        goes_on = self._progress.fail(message, blame, reason, self.options, len(self._flight) + 1)
        self._note_attempt(message, goes_on=goes_on)

    def _note_attempt(self, message: MessageRow, *, goes_on: bool) -> None:
        if goes_on:
            self.meter.redeliver()
        else:
            self._flight.drop_late(message.position)

    # -- rounds ---------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Run a round now. During a read, deliver what is there already."""
        self._dispatch.wake()

    def displace(self, served: Attachment) -> None:
        """In strict order, take the message back from an attachment that is not the newest one any more."""
        for attachment in self._flight.held_by_others(served):
            is_lost = attachment.is_away and attachment.to_blame
            self._take_back(list(attachment.in_hand.values()), _LOST if is_lost else None)

    def became_idle(self) -> None:
        """End: nothing is attached any more, and everything is stored."""
        self._flight.stop_watching()
        self._progress.forget()
        self._is_idle = True
        self._watcher.became_idle(self)

    # -- reports --------------------------------------------------------------------------------------------

    def report_loss(self) -> None:
        """Tell the watcher that what the consumer lost has changed."""
        self._watcher.loss_changed(self)

    def report_death(self, message: MessageRow, attempt: Attempt) -> None:
        """Tell the watcher of a message that was given up."""
        self._watcher.message_died(self, message, attempt)

    def _report_overdue(self, delivery: Delivery) -> None:
        self._watcher.message_overdue(self, delivery)

    def _note_oldest(self, label: str, position: int | None) -> None:
        # Without a store nothing is lost by the end of the process but what it has lost already.
        with suppress(StorageError):
            self._queue.hold(self.row.name, label, position)
