"""The messages by which the nodes of a store tell each other of queues, and their form on the link."""

from __future__ import annotations

from math import inf
from typing import TypeAlias

import msgspec

from waypost.protocol.rejections import Rejection
from waypost.server.queues.delivery import Session
from waypost.server.queues.load import Load
from waypost.server.queues.options import Order
from waypost.server.watching.queue_events import MessagesLost
from waypost.storage.queue_records import MessageRow

__all__ = [
    "TOPIC",
    "Answer",
    "Attach",
    "Attached",
    "Body",
    "Changed",
    "Declined",
    "Deliver",
    "Detach",
    "Extend",
    "Forget",
    "GiveUp",
    "Hands",
    "Held",
    "Inherit",
    "LateAck",
    "Letter",
    "Live",
    "Loads",
    "LoadsAsked",
    "LossTold",
    "Moved",
    "NotOwner",
    "Owns",
    "Park",
    "Retire",
    "Sign",
    "TakeBack",
    "Taken",
    "TakerState",
    "TellLoss",
    "decode",
    "encode",
]

TOPIC = "queue"
"""The topic of these messages; see `Nodes.send`."""


class Held(msgspec.Struct, array_like=True, frozen=True):
    """A message in a taker's hand.

    Attributes:
        number: The delivery's number, unique for its taker.
        message: The message, as it was delivered.
        handed_at: The time of the delivery, on the store's clock.
        extended_until: The time up to which the taker extended the lease.
        ack_id: The id by which the client acknowledges; ``None`` for a function, or if it is not known here.
        is_doubtful: Whether it has perhaps not arrived over a connection that was lost.
        returned_at: The time of the first return of its client, on the store's clock; infinity before that.
    """

    number: int
    message: MessageRow
    handed_at: float
    extended_until: float
    ack_id: int | None = None
    is_doubtful: bool = False
    returned_at: float = inf


class TakerState(msgspec.Struct, array_like=True, frozen=True):
    """A socket or function of another node.

    Attributes:
        number: Its number, unique on its node.
        label: Its name in logs and in the store.
        session: The namespace and the id of a socket; ``None`` for a function.
        prefetch: The largest number of messages in hand.
        prefetch_bytes: The size of messages in hand, in bytes, from which on it gets no more.
        adapts: Whether it begins with one message in hand.
        max_losses: As in `WorkerPlan`.
        attached_at: The time at which it attached, on the store's clock.
        is_live: Whether messages can go out to it.
        is_leaving: Whether it only finishes what it has in hand.
        is_away: Whether its connection is lost, and its session may recover.
        to_blame: Whether that connection broke.
        held: What it has in hand.
    """

    number: int
    label: str
    session: Session | None
    prefetch: int
    prefetch_bytes: int
    adapts: bool
    max_losses: int | None
    attached_at: float
    is_live: bool
    is_leaving: bool = False
    is_away: bool = False
    to_blame: bool = False
    held: tuple[Held, ...] = ()


# -- from the node of a taker to the owner -----------------------------------------------------------------------


class Attach(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """A socket or function attaches; the answer is `Attached` or `NotOwner`."""

    taker: TakerState
    order: Order | None


class Live(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """A taker can get messages from now on, or again; with its limits."""

    taker: int
    prefetch: int
    prefetch_bytes: int
    adapts: bool
    is_leaving: bool


class Answer(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """A taker has acknowledged a message, or rejected it."""

    taker: int
    number: int
    message: LateAck
    rejection: Rejection | None = None


class Extend(msgspec.Struct, tag=4, array_like=True, frozen=True):
    """A taker needs more time for a message."""

    taker: int
    number: int
    until: float


class Sign(msgspec.Struct, tag=5, array_like=True, frozen=True):
    """A taker has been sent a heartbeat, or has answered one."""

    taker: int
    owes: bool


class Park(msgspec.Struct, tag=6, array_like=True, frozen=True):
    """A socket's connection is lost, and its session may recover. What it does not hold never reached it."""

    taker: int
    to_blame: bool
    held: tuple[tuple[int, int | None, bool], ...]


class Detach(msgspec.Struct, tag=7, array_like=True, frozen=True):
    """A taker has left. What it does not hold never reached it."""

    taker: int
    to_blame: bool
    answers: bool
    held: tuple[int, ...]


class GiveUp(msgspec.Struct, tag=8, array_like=True, frozen=True):
    """A function is not waited for any longer."""

    taker: int
    reason: str
    held: tuple[int, ...]


class Retire(msgspec.Struct, tag=9, array_like=True, frozen=True):
    """A taker gets no more messages, and may finish those that it has."""

    taker: int


class TakeBack(msgspec.Struct, tag=10, array_like=True, frozen=True):
    """Messages did not arrive at a socket before its connection was lost."""

    taker: int
    numbers: tuple[int, ...]


class LossTold(msgspec.Struct, tag=11, array_like=True, frozen=True):
    """The answer to `TellLoss`."""

    taker: int
    number: int
    is_told: bool


class Hands(msgspec.Struct, tag=12, array_like=True, frozen=True):
    """The answer to `Owns`: the takers of a node and what they hold, and what they acknowledged last.

    Attributes:
        takers: The takers.
        order: The order in which the consumer was served; ``None`` if the node does not know it.
        generation: As in `ConsumerRow`, at the last delivery.
        epoch: As in `ConsumerRow`, at the last delivery.
        acknowledged: Acks that the owner before has perhaps not stored.
    """

    takers: tuple[TakerState, ...]
    order: Order | None
    generation: str
    epoch: int
    acknowledged: tuple[LateAck, ...]


class LateAck(msgspec.Struct, tag=13, array_like=True, frozen=True):
    """An ack of a delivery that the owner does not know: it counts for the message, if the epoch has not ended."""

    position: int
    key: str | None
    generation: str
    epoch: int


# -- from the owner to the node of a taker -----------------------------------------------------------------------


class Attached(msgspec.Struct, tag=21, array_like=True, frozen=True):
    """A taker is attached, or is refused because of the order.

    Attributes:
        taker: Its number.
        order: The order in which the consumer is served.
        attached_at: The time at which it attached, on the store's clock.
        home: What its session held on another node.
    """

    taker: int
    order: Order
    attached_at: float = 0.0
    home: tuple[Held, ...] = ()


class NotOwner(msgspec.Struct, tag=22, array_like=True, frozen=True):
    """The node does not own the consumer any more."""


class Deliver(msgspec.Struct, tag=23, array_like=True, frozen=True):
    """A message for a taker.

    Attributes:
        taker: Its number.
        number: The delivery's number.
        message: The message.
        handed_at: The time, on the store's clock.
        generation: As in `ConsumerRow`.
        epoch: As in `ConsumerRow`.
        cursor: As in `ConsumerRow`.
    """

    taker: int
    number: int
    message: MessageRow
    handed_at: float
    generation: str
    epoch: int
    cursor: int


class Taken(msgspec.Struct, tag=24, array_like=True, frozen=True):
    """A message is not in a taker's hand any more. An ack still counts."""

    taker: int
    number: int


class Forget(msgspec.Struct, tag=25, array_like=True, frozen=True):
    """No answer to a delivery counts any more."""

    taker: int
    number: int


class TellLoss(msgspec.Struct, tag=26, array_like=True, frozen=True):
    """A taker is to be told of lost messages; the answer is `LossTold`."""

    taker: int
    number: int
    notice: MessagesLost


class Moved(msgspec.Struct, tag=27, array_like=True, frozen=True):
    """The session of a socket that was cut off has come back elsewhere, with all that it held."""

    taker: int


# -- to everybody, and between any two ---------------------------------------------------------------------------


class Owns(msgspec.Struct, tag=31, array_like=True, frozen=True):
    """The sender owns the consumer from now on; each node answers with `Hands`."""


class Inherit(msgspec.Struct, tag=32, array_like=True, frozen=True):
    """The receiver shall own the consumer, because the sender stops, and its takers hold messages."""


class Declined(msgspec.Struct, tag=33, array_like=True, frozen=True):
    """The answer to `Inherit` of a node that stops, too."""


class Changed(msgspec.Struct, tag=34, array_like=True, frozen=True):
    """A node has changed a queue, or one consumer.

    Attributes:
        what: ``"changed"``, ``"emptied"``, ``"removed"`` or ``"configured"``; see the methods of `Deliveries`.
        consumer: The consumer; ``None`` for all.
    """

    what: str
    consumer: str | None = None


class LoadsAsked(msgspec.Struct, tag=35, array_like=True, frozen=True):
    """A question for the numbers of the consumers that a node owns."""

    number: int
    queues: tuple[str, ...]


class Loads(msgspec.Struct, tag=36, array_like=True, frozen=True):
    """The answer to `LoadsAsked`."""

    number: int
    loads: tuple[Load, ...]


FromGuest: TypeAlias = (
    Attach | Live | Answer | Extend | Sign | Park | Detach | GiveUp | Retire | TakeBack | LossTold | Hands | LateAck
)
FromOwner: TypeAlias = Attached | NotOwner | Deliver | Taken | Forget | TellLoss | Moved
Body: TypeAlias = FromGuest | FromOwner | Owns | Inherit | Declined | Changed | LoadsAsked | Loads


class Letter(msgspec.Struct, array_like=True, frozen=True):
    """A message about a consumer.

    Attributes:
        queue: The queue's name; ``""`` if it is about none.
        consumer: The consumer's name; ``""`` if it is about none.
        body: What it says.
    """

    queue: str
    consumer: str
    body: Body


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Letter)


def encode(letter: Letter) -> bytes:
    """Return a message in the form in which it is sent."""
    return _encoder.encode(letter)


def decode(message: bytes) -> Letter:
    """Read a message; raises `msgspec.ValidationError` if another version has sent something else."""
    return _decoder.decode(message)
