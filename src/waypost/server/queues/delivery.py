"""A delivery, and its two ends: the consumer it comes from, and the socket or worker that it goes to."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol, TypeAlias

from waypost.protocol.rejections import Rejection
from waypost.server.queues.options import QueueOptions
from waypost.server.watching.queue_events import MessagesLost
from waypost.storage.queue_records import ConsumerRow, MessageRow

__all__ = ["Attachment", "Carrier", "Delivery", "DeliverySource", "Session"]

Session: TypeAlias = tuple[str, str]
"""The namespace and the id of a socket: what a client keeps when its session recovers."""

_QUICK_SHARE = 0.25


class Delivery:
    """One delivery of a message. The object is the token by which an answer finds its message.

    Attributes:
        message: The message.
        attachment: The socket or worker that has the message.
        handed_at: The time of the delivery, on the store's clock.
        extended_until: The time up to which the taker extended the lease; may be set from any thread.
        returned_at: The time of the first return of its client, on the store's clock; infinity before that.
    """

    __slots__ = ("attachment", "extended_until", "handed_at", "message", "returned_at")

    def __init__(self, message: MessageRow, attachment: Attachment, handed_at: float) -> None:
        self.message = message
        self.attachment = attachment
        self.handed_at = handed_at
        self.extended_until = -inf
        self.returned_at = inf

    @property
    def attempt(self) -> int:
        """The number of this delivery of the message, from 1. Deliveries that ended without a fault don't count."""
        return self.message.failures + self.message.losses + 1

    def extend(self, until: float) -> None:
        """Extend the lease up to a time on the store's clock. Safe to call from any thread."""
        self.extended_until = max(self.extended_until, until)
        if self.attachment.when_extended is not None:
            self.attachment.when_extended(self)

    def is_overdue(self, options: QueueOptions, now: float) -> bool:
        """Return whether a client that is there has not answered within one lease, and asked for no more time.

        False after a return of the client: then its answer may be lost.
        """
        carrier = self.attachment.carrier
        is_late = now - self.handed_at >= options.lease_s and self.extended_until == -inf and self.returned_at == inf
        is_there = not (self.attachment.is_away or carrier.is_in_process or carrier.owes_heartbeat)
        return is_late and is_there

    def lease_until(self, options: QueueOptions) -> float:
        """Return the time at which the lease ends, on the store's clock."""
        heard_at = max(self.handed_at, self.attachment.carrier.heard_at)
        # An ack may be lost with its connection, and the client does not know. So heartbeats prove no work after it.
        renewed_until = min(min(heard_at, self.returned_at) + options.lease_s, self.handed_at + options.max_lease_s)
        return max(renewed_until, self.extended_until)

    def is_unanswered(self, options: QueueOptions, now: float) -> bool:
        """Return whether its lease has ended after a return of its client, whose ack may be lost."""
        return self.returned_at < inf and self.lease_until(options) <= now


class Carrier(Protocol):
    """Brings messages to one socket or worker."""

    @property
    def label(self) -> str:
        """The name of the socket or worker in logs and in the store."""
        ...

    @property
    def session(self) -> Session | None:
        """The session of a socket; ``None`` for a function."""
        ...

    @property
    def heard_at(self) -> float:
        """The time of its last sign of life, on the store's clock."""
        ...

    @property
    def owes_heartbeat(self) -> bool:
        """True while a heartbeat is unanswered."""
        ...

    @property
    def is_live(self) -> bool:
        """True while messages can go out to it at all."""
        ...

    @property
    def answers_late(self) -> bool:
        """True if a delivery may still be acknowledged after its message went out again."""
        ...

    @property
    def is_in_process(self) -> bool:
        """True for a function of a server's process, which dies with it."""
        ...

    @property
    def is_noted(self) -> bool:
        """True for a function of this process: the store is told what it holds."""
        ...

    def is_too_much(self, message: MessageRow, options: QueueOptions) -> bool:
        """Return whether a message was lost so often that it is given up instead of sent."""
        ...

    def can_take(self, size: int) -> bool:
        """Return whether a message of ``size`` bytes can go out now. If not, the carrier calls `enliven` later."""
        ...

    def send(self, delivery: Delivery) -> None:
        """Send a message. The answer goes to the carrier's `DeliverySource`."""
        ...

    def forget(self, delivery: Delivery) -> None:
        """Stop waiting for the answer to a delivery."""
        ...

    def taken_back(self, delivery: Delivery) -> None:
        """Note that a message is not in hand any more. The answer to its delivery may still come."""
        ...

    async def tell_loss(self, notice: MessagesLost) -> bool:
        """Tell of lost messages; returns True once the receiver has acknowledged it."""
        ...


class DeliverySource(Protocol):
    """The consumer whose messages a carrier brings, and which takes the answers."""

    @property
    def queue_name(self) -> str:
        """The queue's name."""
        ...

    @property
    def row(self) -> ConsumerRow:
        """The consumer, as it was last seen in the store."""
        ...

    @property
    def options(self) -> QueueOptions:
        """The queue's options as they are now."""
        ...

    def acknowledge(self, delivery: Delivery) -> bool:
        """Take an ack; returns whether it counts."""
        ...

    def reject(self, delivery: Delivery, rejection: Rejection) -> bool:
        """Take a nack; returns whether it counts."""
        ...

    def lose(self, delivery: Delivery) -> None:
        """Note that a delivery will never be answered: its session has ended."""
        ...

    def enliven(self, attachment: Attachment) -> None:
        """Note that a carrier may take messages again, or has given a sign of life."""
        ...


class Attachment:
    """A socket or worker that takes a consumer's messages, and what it has in hand.

    Args:
        carrier: Brings the messages there.
        prefetch: The largest number of messages in hand.
        prefetch_bytes: The size of messages in hand, in bytes, from which on it gets no more.
        adapts: True if it begins with one message in hand, and gets more while it acknowledges them quickly.

    Attributes:
        adapts: As above.
        attached_at: The time at which it was attached, on the store's clock.
        carrier: Brings the messages there.
        in_hand: The deliveries without an answer, by position, oldest first.
        is_blamed: True after its connection was counted as broken for a message.
        is_silent: True after a lease ended without a sign of life. It gets no messages until the next one.
        is_leaving: True if it only finishes the messages in hand, and gets no more.
        to_blame: True if its last connection broke.
        is_away: True while its connection is lost and its session may recover. It keeps what it has in hand.
        when_extended: Called with each delivery whose lease was extended, perhaps in another thread; or ``None``.
    """

    __slots__ = (
        "_bytes",
        "_prefetch",
        "_prefetch_bytes",
        "_window",
        "adapts",
        "attached_at",
        "carrier",
        "in_hand",
        "is_away",
        "is_blamed",
        "is_leaving",
        "is_silent",
        "to_blame",
        "when_extended",
    )

    def __init__(self, carrier: Carrier, *, prefetch: int, prefetch_bytes: int, adapts: bool = False) -> None:
        self.adapts = adapts
        self.attached_at = 0.0
        self.carrier = carrier
        self.in_hand: dict[int, Delivery] = {}
        self.is_blamed = False
        self.is_silent = False
        self.is_leaving = False
        self.is_away = False
        self.to_blame = False
        self.when_extended: Callable[[Delivery], None] | None = None
        self._prefetch = prefetch
        self._prefetch_bytes = prefetch_bytes
        self._window = 1 if adapts else prefetch
        self._bytes = 0

    @property
    def has_credit(self) -> bool:
        """True if it may get another message."""
        return (
            not self.is_silent
            and not self.is_leaving
            and len(self.in_hand) < self._window
            and self._bytes < self._prefetch_bytes
            and self.carrier.is_live
        )

    @property
    def limits(self) -> tuple[int, int]:
        """The largest number of messages in hand, and their size in bytes."""
        return self._prefetch, self._prefetch_bytes

    @property
    def oldest(self) -> Delivery | None:
        """The delivery that it has had for longest; ``None`` with nothing in hand."""
        return next(iter(self.in_hand.values()), None)

    def note_pace(self, took_s: float, lease_s: float) -> None:
        """Adapt the number of messages in hand to how fast it acknowledges them.

        One more for each message acknowledged within a quarter of a lease doubles the number with each round. A
        message that took longer halves it: what waits behind it in the client's hand would outlast its lease.
        """
        if took_s <= lease_s * _QUICK_SHARE:
            self._window = min(self._window + 1, self._prefetch)
        else:
            self._window = max(self._window // 2, 1)

    def take_limits(self, other: Attachment) -> None:
        """Take the limits of another attachment of the same client."""
        if other.adapts:
            self._window = min(self._window, other._prefetch) if self.adapts else 1
        else:
            self._window = other._prefetch
        self.is_leaving = other.is_leaving
        self.adapts, self._prefetch, self._prefetch_bytes = other.adapts, other._prefetch, other._prefetch_bytes

    def hand(self, message: MessageRow, now: float) -> Delivery:
        """Put a message in hand. The caller sends the delivery by the carrier."""
        delivery = self.in_hand[message.position] = Delivery(message, self, now)
        self._bytes += len(message.record)
        return delivery

    def come_back(self, now: float) -> None:
        """Note that the client has come back, with what it had in hand before."""
        self.is_away, self.attached_at = False, now
        for delivery in self.in_hand.values():
            delivery.returned_at = min(delivery.returned_at, now)

    def unanswered(self, options: QueueOptions, now: float) -> list[Delivery]:
        """Return the deliveries whose leases have ended after a return of the client, oldest first."""
        return [delivery for delivery in self.in_hand.values() if delivery.is_unanswered(options, now)]

    def release(self, delivery: Delivery) -> None:
        """Take a message out of hand."""
        if self.in_hand.pop(delivery.message.position, None) is not None:
            self._bytes -= len(delivery.message.record)
