"""The deliveries of one consumer that are out: their takers, their leases, and the late acks that still count."""

from __future__ import annotations

from collections.abc import Callable

from waypost.server.queues.delivery import Attachment, Delivery
from waypost.server.queues.leases import Leases
from waypost.server.queues.options import QueueOptions
from waypost.server.watching.queue_counters import QueueLoad
from waypost.storage.queue_records import MessageRow

__all__ = ["Flight"]


class Flight:
    """One consumer's messages that are in the hands of sockets and workers.

    A delivery is *out* from `hand` to `end`: an ack and a nack count. It may be *late* afterwards, from
    `expect_late_ack` until the message is settled: only an ack counts, also while the message is in other hands.
    Otherwise the message is settled, or not the consumer's any more: no answer counts.

    Args:
        now: Returns the time on the store's clock.
        lease_ended: Called with each delivery whose lease has ended.
        overdue: Called at times with a delivery that a client has not answered within one lease.
        note_oldest: Called with the label of a function of this process and the position of its oldest message, or
            ``None``, when the store may know another one: the message may be what ends the process.
        load: The present numbers with which the consumer's queue is counted.
    """

    __slots__ = ("_changed", "_late", "_leases", "_load", "_note_oldest", "_now", "_out")

    def __init__(
        self,
        now: Callable[[], float],
        lease_ended: Callable[[Delivery], None],
        overdue: Callable[[Delivery], None],
        note_oldest: Callable[[str, int | None], None],
        load: QueueLoad,
    ) -> None:
        self._now = now
        self._load = load
        self._out: dict[int, Delivery] = {}
        # By position, and in the order in which they went out.
        self._late: dict[int, list[Delivery]] = {}
        self._leases = Leases(now, self._out, lease_ended, overdue)
        self._changed: dict[Attachment, None] = {}
        self._note_oldest = note_oldest

    def __len__(self) -> int:
        return len(self._out)

    def overdue(self, options: QueueOptions) -> int:
        """Return the number of deliveries that clients have not answered within one lease."""
        now = self._now()
        return sum(delivery.is_overdue(options, now) for delivery in self._out.values())

    def held_by_others(self, attachment: Attachment) -> list[Attachment]:
        """Return the takers other than one that have something in hand."""
        return list(dict.fromkeys(one.attachment for one in self._out.values() if one.attachment is not attachment))

    def hand(self, message: MessageRow, taker: Attachment, options: QueueOptions, now: float) -> None:
        """Send a message to a taker, and watch the lease, which begins now."""
        if message.position in self._late:
            self._drop_those_that_end(message.position)
        delivery = taker.hand(message, now)
        # Before the send, so that an ack counts however soon it comes.
        self._out[message.position] = delivery
        self._load.in_flight += 1
        taker.carrier.send(delivery)
        self._leases.watch(options)
        if taker.carrier.is_noted:
            self._changed[taker] = None

    def resume(self, delivery: Delivery, options: QueueOptions) -> None:
        """Go on with a delivery that was out at another runner; its attachment has it in hand."""
        self._out[delivery.message.position] = delivery
        self._load.in_flight += 1
        self._leases.watch(options)
        if delivery.attachment.carrier.is_noted:
            self._changed[delivery.attachment] = None

    def yield_up(self) -> None:
        """Forget all deliveries, which go on at another runner."""
        for attachment in {one.attachment: None for one in self._out.values()}:
            self.leave(attachment)
        self._empty()
        self._late.clear()
        self._changed.clear()
        self.stop_watching()

    def end(self, delivery: Delivery) -> bool:
        """End a delivery that is out; no answer counts any more. Returns False if it is not out."""
        position = delivery.message.position
        if self._out.get(position) is not delivery:
            return False
        del self._out[position]
        self._load.in_flight -= 1
        attachment = delivery.attachment
        attachment.release(delivery)
        if attachment.carrier.is_noted:
            self._changed[attachment] = None
        return True

    def out(self, position: int) -> Delivery | None:
        """Return the delivery of a message that is out; ``None`` if the message is in nobody's hands."""
        return self._out.get(position)

    def expect_late_ack(self, delivery: Delivery) -> None:
        """Let a late ack of an ended delivery count until its message is settled."""
        self._late.setdefault(delivery.message.position, []).append(delivery)
        delivery.attachment.carrier.taken_back(delivery)

    def end_late(self, delivery: Delivery) -> bool:
        """End a late delivery; no answer counts any more. Returns False if it is not late."""
        position = delivery.message.position
        late = self._late.get(position, [])
        if delivery not in late:
            return False
        late.remove(delivery)
        if not late:
            del self._late[position]
        return True

    def drop_late(self, position: int) -> None:
        """Let no late ack of a message count any more: it is settled."""
        # For nearly each message that is settled nothing is late at all.
        for delivery in self._late.pop(position, ()) if self._late else ():
            delivery.attachment.carrier.forget(delivery)

    def leave(self, attachment: Attachment) -> None:
        """Forget a taker that has left and has nothing in hand. Its late acks count as long as it can send them."""
        self._changed.pop(attachment, None)
        if attachment.carrier.is_noted:
            self._note_oldest(attachment.carrier.label, None)

    def clear(self) -> None:
        """Take back all messages; no answer to any delivery so far counts any more."""
        for delivery in self._out.values():
            delivery.attachment.carrier.forget(delivery)
            delivery.attachment.release(delivery)
        self._empty()
        for position in list(self._late):
            self.drop_late(position)

    def note_oldest(self) -> None:
        """Report the oldest message of each function of this process where it may have changed."""
        for attachment in self._changed:
            oldest = attachment.oldest
            self._note_oldest(attachment.carrier.label, None if oldest is None else oldest.message.position)
        self._changed.clear()

    def stop_watching(self) -> None:
        """Stop watching the leases."""
        self._leases.cancel()

    def _empty(self) -> None:
        self._load.in_flight -= len(self._out)
        self._out.clear()

    def _drop_those_that_end(self, position: int) -> None:
        """Drop the late deliveries of a message that goes out again, where the carrier ends them."""
        late = self._late.pop(position)
        for delivery in late:
            if not delivery.attachment.carrier.answers_late:
                delivery.attachment.carrier.forget(delivery)
        kept = [delivery for delivery in late if delivery.attachment.carrier.answers_late]
        if kept:
            self._late[position] = kept
