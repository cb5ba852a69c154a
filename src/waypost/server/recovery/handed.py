"""The form of what goes from a session's home to the next node, and of messages about sessions."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

__all__ = [
    "Answered",
    "CallsLost",
    "Handed",
    "HandedAck",
    "Message",
    "SessionsEnded",
    "WorkEnded",
    "read_handed",
    "read_message",
]


class HandedAck(msgspec.Struct, frozen=True, array_like=True):
    """An event that the client has not acknowledged.

    Attributes:
        ack_id: Its ack id.
        node: The node that waits for the answer.
        record: The event, if the next node is to send it again; ``None`` if the client may have it.
        left_s: For how many more seconds somebody waits; ``None`` for no limit.
    """

    ack_id: int
    node: str
    record: bytes | None
    left_s: float | None


class Handed(msgspec.Struct, frozen=True, array_like=True):
    """The things that a node hands over with a session whose life it has ended.

    Attributes:
        node: The node.
        next_id: The next ack id; 0 if it has used none.
        acks: The events without an answer, in order.
        works: The name of the handlers that go on there and wait for an answer of this client; empty for none.
    """

    node: str
    next_id: int
    acks: tuple[HandedAck, ...] = ()
    works: str = ""


class Answered(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The client of a session has acknowledged an event of the receiver.

    Attributes:
        namespace: The session's namespace.
        key: The session's key.
        ack_id: The event's ack id.
        record: The answer, as the record of an event; ``None`` if none will ever come.
    """

    namespace: str
    key: bytes
    ack_id: int
    record: bytes | None


class SessionsEnded(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Sessions have ended for good.

    Attributes:
        sids: The ids of their sockets, by namespace.
    """

    sids: dict[str, list[str]]


class WorkEnded(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The last of the handlers has ended that went on when their client left.

    Attributes:
        namespace: The session's namespace.
        works: Their name.
        data: The session's state at its end, as it would be stored; ``None`` if it can't be.
    """

    namespace: str
    works: str
    data: bytes | None


class CallsLost(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The clients of sessions are at the sender, and nobody has handed over what they have not answered.

    Attributes:
        keys: The keys of the sessions, by namespace.
    """

    keys: dict[str, list[bytes]]


Message: TypeAlias = Answered | SessionsEnded | WorkEnded | CallsLost

_handed = msgspec.msgpack.Decoder(Handed)
_messages: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def read_handed(handed: bytes) -> Handed:
    """Decode what was handed over.

    Raises:
        msgspec.DecodeError: It is nothing of this version.
    """
    return _handed.decode(handed)


def read_message(message: bytes) -> Message:
    """Decode a message.

    Raises:
        msgspec.DecodeError: It is no message of this version.
    """
    return _messages.decode(message)
