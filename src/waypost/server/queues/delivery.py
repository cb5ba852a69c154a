"""A message in somebody's hands, and who takes messages: a socket, or a worker of this process."""

from __future__ import annotations

from math import inf
from typing import Protocol

from waypost.protocol.rejections import Rejection
from waypost.server.queues.options import QueueOptions
from waypost.server.watching.queue_events import MessagesLost
from waypost.storage.queue_records import ConsumerRow, MessageRow

__all__ = ["Attachment", "Carrier", "Delivery", "DeliverySource"]


class Delivery:
    """One handing-out of a message. The object is the token: an ack counts for the delivery it belongs to.

    Attributes:
        message: The message.
        attachment: Who has it.
        handed_at: Since when, on the loop's clock.
        extended_until: Until when its holder asked to keep it; may be set from any thread.
    """

    __slots__ = ("attachment", "extended_until", "handed_at", "message")

    def __init__(self, message: MessageRow, attachment: Attachment, handed_at: float) -> None:
        self.message = message
        self.attachment = attachment
        self.handed_at = handed_at
        self.extended_until = -inf

    @property
    def attempt(self) -> int:
        """Which delivery of the message it is, from 1; those that were not its own fault are not counted."""
        return self.message.failures + self.message.losses + 1

    def lease_until(self, options: QueueOptions) -> float:
        """Tell until when the message is its holder's, on the loop's clock."""
        heard_at = max(self.handed_at, self.attachment.carrier.heard_at)
        renewed_until = min(heard_at + options.lease_s, self.handed_at + options.max_lease_s)
        return max(renewed_until, self.extended_until)


class Carrier(Protocol):
    """What brings messages to one socket or worker."""

    @property
    def label(self) -> str:
        """How the log names it."""
        ...

    @property
    def heard_at(self) -> float:
        """When it last gave a sign of life, on the loop's clock."""
        ...

    @property
    def owes_heartbeat(self) -> bool:
        """Whether it was asked for a sign of life and has not given one yet."""
        ...

    @property
    def is_live(self) -> bool:
        """Whether messages can go out to it at all."""
        ...

    def can_take(self, size: int) -> bool:
        """Tell whether a message of so many bytes can go out now; if not, it says itself when one can."""
        ...

    def send(self, delivery: Delivery) -> None:
        """Send a message; its answer goes to the runner."""
        ...

    def forget(self, delivery: Delivery) -> None:
        """Wait no longer for a delivery's answer."""
        ...

    async def tell_loss(self, notice: MessagesLost) -> bool:
        """Tell of lost messages; returns whether it was taken note of."""
        ...


class DeliverySource(Protocol):
    """The consumer that a carrier brings the messages of; it takes the answers."""

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

    def enliven(self, attachment: Attachment) -> None:
        """Note that a carrier may be able to take messages now, or has given a sign of life."""
        ...


class Attachment:
    """A socket or worker that takes a consumer's messages, and what it has in hand.

    Args:
        carrier: What brings them there.
        prefetch: How many it may have in hand.
        prefetch_bytes: How many bytes of them; the message that reaches it is the last one.

    Attributes:
        in_hand: Its deliveries by position, the oldest first.
        is_silent: Whether it let a lease end without a sign of life; it gets nothing until it gives one.
        is_leaving: Whether it takes nothing more, and only finishes what it has.
        in_rotation: Whether it is among those that are handed messages in turn.
    """

    __slots__ = (
        "_bytes",
        "_prefetch",
        "_prefetch_bytes",
        "carrier",
        "in_hand",
        "in_rotation",
        "is_leaving",
        "is_silent",
    )

    def __init__(self, carrier: Carrier, *, prefetch: int, prefetch_bytes: int) -> None:
        self.carrier = carrier
        self.in_hand: dict[int, Delivery] = {}
        self.is_silent = False
        self.is_leaving = False
        self.in_rotation = False
        self._prefetch = prefetch
        self._prefetch_bytes = prefetch_bytes
        self._bytes = 0

    @property
    def has_credit(self) -> bool:
        """Whether it may have another message in hand."""
        return (
            not self.is_silent
            and not self.is_leaving
            and len(self.in_hand) < self._prefetch
            and self._bytes < self._prefetch_bytes
            and self.carrier.is_live
        )

    @property
    def oldest(self) -> Delivery | None:
        """What it has had for longest."""
        return next(iter(self.in_hand.values()), None)

    def hand(self, message: MessageRow, now: float) -> Delivery:
        """Note that it has a message in hand, which its carrier is to be given now."""
        delivery = self.in_hand[message.position] = Delivery(message, self, now)
        self._bytes += len(message.record)
        return delivery

    def release(self, delivery: Delivery) -> None:
        """Note that it no longer has a message in hand."""
        if self.in_hand.pop(delivery.message.position, None) is not None:
            self._bytes -= len(delivery.message.record)
