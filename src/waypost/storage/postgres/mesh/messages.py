"""The frames of a connection for messages, once both nodes have proven themselves."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

__all__ = ["FROM_RECEIVER", "FROM_SENDER", "Ack", "Message", "Ping", "Pong"]


class Message(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=1):
    """A message.

    Attributes:
        number: Its number in the stream; higher than that of the one before.
        topic: Selects the function that receives it.
        content: The message.
        ticks: What the sender has applied, by journal, as far as it has changed since the message before.
    """

    number: int
    topic: str
    content: bytes
    ticks: dict[int, int] | None = None


class Ping(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Asks whether the line still carries something."""


class Ack(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=3):
    """All messages up to a number were handled.

    Attributes:
        number: The number.
    """

    number: int


class Pong(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """Answers a ping."""


FROM_SENDER: Final = msgspec.msgpack.Decoder(list[Message | Ping])
"""Decodes a frame of the node whose messages these are."""

FROM_RECEIVER: Final = msgspec.msgpack.Decoder(list[Ack | Pong])
"""Decodes a frame of the node that receives them."""

FromSender: TypeAlias = Message | Ping
FromReceiver: TypeAlias = Ack | Pong
