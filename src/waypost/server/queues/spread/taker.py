"""A socket or function of this node at a consumer that another node owns."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TypeAlias

from waypost.server.queues.delivery import Attachment, Delivery
from waypost.server.queues.options import Order
from waypost.server.queues.socket_carrier import SocketCarrier
from waypost.server.queues.spread.letters import Held, TakerState
from waypost.server.queues.worker import WorkerCarrier

__all__ = ["LocalCarrier", "Taker"]

LocalCarrier: TypeAlias = SocketCarrier | WorkerCarrier
"""A socket or a function of this process."""


@dataclass(slots=True, eq=False)
class Taker:
    """A socket or function of this node.

    Attributes:
        number: Its number, by which the owner knows it.
        attachment: What it has in hand.
        out: The deliveries whose answer the owner expects, by number.
        numbers: The same, by delivery.
        waiting: The deliveries that have to wait until the connection has room.
        is_told_live: Whether the owner knows that messages can go out to it.
        owes_told: Whether the owner knows of a heartbeat that is not answered.
        sign_at: The time of the last sign of life that the owner knows of, on the store's clock.
        is_attached: Set once the owner has answered.
        wanted: The order that was asked for; ``None`` for any.
        is_refused: Whether the owner serves the consumer in another order.
    """

    number: int
    attachment: Attachment
    out: dict[int, Delivery] = field(default_factory=dict)
    numbers: dict[Delivery, int] = field(default_factory=dict)
    waiting: deque[Delivery] = field(default_factory=deque)
    is_told_live: bool = False
    owes_told: bool = False
    sign_at: float = 0.0
    is_attached: asyncio.Event = field(default_factory=asyncio.Event)
    wanted: Order | None = None
    is_refused: bool = False

    def add(self, number: int, delivery: Delivery) -> None:
        """Expect the answer to a delivery."""
        self.out[number] = delivery
        self.numbers[delivery] = number

    def drop(self, delivery: Delivery) -> None:
        """Expect no answer any more, and take the message out of hand."""
        number = self.numbers.pop(delivery, None)
        if number is not None:
            del self.out[number]
        if delivery in self.waiting:
            self.waiting.remove(delivery)
        if self.holds(delivery):
            self.attachment.release(delivery)

    def holds(self, delivery: Delivery) -> bool:
        """Return whether a message is in hand."""
        return self.attachment.in_hand.get(delivery.message.position) is delivery

    @property
    def held(self) -> list[tuple[int, Delivery]]:
        """The deliveries in hand that have gone out, by number."""
        return [(number, one) for number, one in self.out.items() if self.holds(one) and one not in self.waiting]

    @property
    def state(self) -> TakerState:
        """The record of it for the owner."""
        attachment, carrier = self.attachment, self.attachment.carrier
        return TakerState(
            self.number,
            carrier.label,
            carrier.session,
            *attachment.limits,
            attachment.adapts,
            carrier.max_losses if isinstance(carrier, WorkerCarrier) else None,
            attachment.attached_at,
            carrier.is_live,
            attachment.is_leaving,
            attachment.is_away,
            attachment.to_blame,
            tuple(
                Held(number, one.message, one.handed_at, one.extended_until, *self.sent(one), one.returned_at)
                for number, one in self.held
            ),
        )

    def sent(self, delivery: Delivery) -> tuple[int | None, bool]:
        """Return the ack id of a delivery in a client's hand, and whether it has perhaps not arrived."""
        carrier = self.attachment.carrier
        return carrier.held(delivery) if isinstance(carrier, SocketCarrier) else (None, False)
