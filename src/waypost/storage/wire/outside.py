"""Requests of programs without a server to the process that has the store, over a unix socket, and the answers."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from waypost.storage.outside import OutsideWrite
from waypost.storage.queue_records import NewMessageRow
from waypost.storage.wire.reports import Problem

__all__ = ["ANSWERS", "REQUESTS", "Answer", "Done", "Publish", "Refused", "Request", "Write"]


class Write(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Do a write to a journal.

    Attributes:
        call: The number of the request.
        write: The write.
        write_id: Its id; empty for none.
        window_s: The time within which a second write of that id is a repeat, in seconds.
    """

    call: int
    write: OutsideWrite
    write_id: str = ""
    window_s: float = 0.0


class Publish(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Add a message to a queue.

    Attributes:
        call: The number of the request.
        queue: The queue's name.
        message: The message.
        window_s: The time within which a second message of its id is a repeat, in seconds.
    """

    call: int
    queue: str
    message: NewMessageRow
    window_s: float


class Done(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """A request was done."""

    call: int


class Refused(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """A request was refused; nothing was done."""

    call: int
    problem: Problem


Request: TypeAlias = Write | Publish
"""What a program asks for."""

Answer: TypeAlias = Done | Refused
"""What it is answered."""

REQUESTS: Final = msgspec.msgpack.Decoder(list[Request])
"""Decodes a frame of requests."""

ANSWERS: Final = msgspec.msgpack.Decoder(list[Answer])
"""Decodes a frame of answers."""
