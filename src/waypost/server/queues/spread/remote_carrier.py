"""Brings a consumer's messages to a socket or function of another node, by messages between the nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import count

from waypost.server.queues.delivery import Attachment, Delivery, DeliverySource
from waypost.server.queues.options import QueueOptions
from waypost.server.queues.spread.letters import (
    Body,
    Deliver,
    Forget,
    Held,
    Moved,
    Taken,
    TakerState,
    TellLoss,
)
from waypost.server.queues.spread.post import Post
from waypost.server.queues.verdict import is_spent
from waypost.server.watching.queue_events import MessagesLost
from waypost.storage.queue_records import MessageRow

__all__ = ["RemoteCarrier"]


class RemoteCarrier:
    """One socket or function of another node at one consumer. See `Carrier`.

    Args:
        node: The other node.
        state: What that node said of it.
        source: The consumer.
        post: Sends messages to nodes.
        now: Returns the time on the store's clock.

    Attributes:
        node: The other node; ``""`` if the socket has left that.
        number: Its number there.
        session: The session of a socket; ``None`` for a function.
        label: Its name in logs and in the store.
        is_in_process: True for a function.
        is_noted: Always False: the node of a function tells the store what it holds.
        answers_late: True for a socket.
        is_live: True while messages can go out to it.
        owes_heartbeat: True while a heartbeat is unanswered.
    """

    __slots__ = (
        "_ack_ids",
        "_deliveries",
        "_heard_at",
        "_losses",
        "_max_losses",
        "_now",
        "_numbers",
        "_post",
        "_source",
        "_untaken",
        "answers_late",
        "is_in_process",
        "is_live",
        "is_noted",
        "label",
        "node",
        "number",
        "owes_heartbeat",
        "session",
    )

    def __init__(
        self, node: str, state: TakerState, source: DeliverySource, post: Post, now: Callable[[], float]
    ) -> None:
        self.node = node
        self.number = state.number
        self.session = state.session
        self.label = state.label
        self.is_in_process = state.session is None
        self.answers_late = not self.is_in_process
        self.is_live = state.is_live
        self.is_noted = False
        self.owes_heartbeat = False
        self._max_losses = state.max_losses
        self._source = source
        self._post = post
        self._now = now
        self._heard_at = now()
        self._untaken = count(max((one.number for one in state.held), default=0) + 1)
        self._deliveries: dict[int, Delivery] = {}
        self._numbers: dict[Delivery, int] = {}
        # What was said at the loss of the connection: the ack id, and whether the message has perhaps not arrived.
        self._ack_ids: dict[Delivery, tuple[int | None, bool]] = {}
        self._losses: dict[int, asyncio.Future[bool]] = {}

    # -- the `Carrier` --------------------------------------------------------------------------------------

    @property
    def heard_at(self) -> float:
        """The time of the last sign of life; for a function the present, as its node is alive."""
        return self._now() if self.is_in_process else self._heard_at

    def is_too_much(self, message: MessageRow, options: QueueOptions) -> bool:
        """Return whether a message was lost so often that it is given up instead of sent."""
        return is_spent(message, options, in_process=self.is_in_process, max_losses=self._max_losses)

    def can_take(self, size: int) -> bool:
        """Return True: the node keeps a message until its connection has room."""
        return True

    def send(self, delivery: Delivery) -> None:
        """Send a message to the node."""
        number = next(self._untaken)
        self._add(number, delivery)
        row = self._source.row
        self._say(
            Deliver(self.number, number, delivery.message, delivery.handed_at, row.generation, row.epoch, row.cursor)
        )

    def forget(self, delivery: Delivery) -> None:
        """Tell the node that no answer to a delivery counts."""
        number = self.drop(delivery)
        if number is not None:
            self._say(Forget(self.number, number))

    def taken_back(self, delivery: Delivery) -> None:
        """Tell the node that a message is not in hand any more."""
        number = self._numbers.get(delivery)
        if number is not None:
            self._say(Taken(self.number, number))

    async def tell_loss(self, notice: MessagesLost) -> bool:
        """Have lost messages told of; returns True once the receiver has acknowledged it."""
        number = next(self._untaken)
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._losses[number] = answer
        self._say(TellLoss(self.number, number, notice))
        try:
            return await answer
        finally:
            del self._losses[number]

    # -- what its node says ---------------------------------------------------------------------------------

    def give_sign(self) -> None:
        """Note a sign of life."""
        self._heard_at = self._now()
        self.owes_heartbeat = False

    def find(self, number: int) -> Delivery | None:
        """Return the delivery with a number; ``None`` if no answer to it is expected any more."""
        return self._deliveries.get(number)

    def drop(self, delivery: Delivery) -> int | None:
        """Expect no answer to a delivery any more; returns its number, or ``None`` if none was expected."""
        number = self._numbers.pop(delivery, None)
        self._ack_ids.pop(delivery, None)
        if number is not None:
            del self._deliveries[number]
        return number

    def loss_told(self, number: int, *, is_told: bool) -> None:
        """Take the answer to a notice of lost messages."""
        answer = self._losses.get(number)
        if answer is not None and not answer.done():
            answer.set_result(is_told)

    def leave_node(self) -> None:
        """Note that the socket was cut off again before its node had what its session holds."""
        self.node = ""

    def cut_off(self, held: Iterable[tuple[int, int | None, bool]]) -> None:
        """Note that the connection is lost, with the ack id of each delivery, and whether it is doubtful."""
        self.is_live = False
        self._ack_ids = {
            self._deliveries[number]: (ack_id, is_doubtful)
            for number, ack_id, is_doubtful in held
            if number in self._deliveries
        }

    def unsent(self, attachment: Attachment, held: Iterable[int]) -> list[Delivery]:
        """Return the messages in hand that have not reached the socket or function, which holds others."""
        numbers = set(held)
        return [one for one in attachment.in_hand.values() if self._numbers.get(one) not in numbers]

    def end(self) -> None:
        """Note that the node is gone."""
        self.is_live = False
        for number in list(self._losses):
            self.loss_told(number, is_told=False)

    # -- what goes from one carrier to another --------------------------------------------------------------

    def held(self, delivery: Delivery) -> tuple[int | None, bool]:
        """Return the ack id of a delivery that was in hand at the cut, and whether it is doubtful."""
        return self._ack_ids.get(delivery, (None, False))

    def adopt(self, attachment: Attachment, held: Held) -> Delivery:
        """Put into the hand of an attachment what the socket or function has there already."""
        delivery = attachment.hand(held.message, held.handed_at)
        delivery.extended_until, delivery.returned_at = held.extended_until, held.returned_at
        self._add(held.number, delivery)
        if held.ack_id is not None:
            self._ack_ids[delivery] = held.ack_id, held.is_doubtful
        return delivery

    def take_over(self, delivery: Delivery, held: tuple[int | None, bool]) -> int:
        """Expect the answer to a delivery of another carrier, of which that says `held`; returns its number here."""
        number = next(self._untaken)
        self._add(number, delivery)
        self._ack_ids[delivery] = held
        return number

    def say_moved(self) -> None:
        """Tell the node that its socket's session went on elsewhere."""
        self._say(Moved(self.number))

    def _add(self, number: int, delivery: Delivery) -> None:
        self._deliveries[number] = delivery
        self._numbers[delivery] = number

    def _say(self, body: Body) -> None:
        self._post.send(self.node, (self._source.queue_name, self._source.row.name), body)
