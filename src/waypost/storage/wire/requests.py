"""The messages of a node to its host. The fields are those of the contract's methods; see `waypost.storage.base`.

``call`` is the number under which the host reports what became of a request; numbers of a node are never used twice.
``journal`` is the number that the host has given a journal.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from waypost.storage.options import StoreOptions
from waypost.storage.queue_records import NewMessageRow

__all__ = [
    "REQUESTS",
    "Append",
    "AttachSession",
    "ChangeSession",
    "ClaimConsumer",
    "ClaimSession",
    "Credit",
    "EndMatching",
    "Enqueue",
    "Goodbye",
    "Hello",
    "Hold",
    "MoveMatching",
    "MoveSession",
    "OpenJournal",
    "OpenSession",
    "Plain",
    "Prove",
    "ReleaseConsumer",
    "ReleaseSession",
    "Request",
    "Send",
]


class Hello(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Asks to be a node of the store."""

    call: int
    version: str
    options: StoreOptions


class Goodbye(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Says that nothing more comes, and that no function holds a message."""

    call: int


class Credit(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=3):
    """Says how many more bytes the node has taken in."""

    size: int


class Plain(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """Calls a method whose arguments and result are plain values; see `waypost.storage.wire.calls`."""

    call: int
    target: str | int | None
    method: str
    arguments: msgspec.Raw


class OpenJournal(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """`Store.journal`."""

    call: int
    name: str


class Append(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=6):
    """`Journal.append`."""

    call: int
    journal: int
    record: bytes


class OpenSession(msgspec.Struct, array_like=True, frozen=True, tag=7):
    """`Journal.open_session`."""

    call: int
    journal: int
    key: bytes
    sid: str
    data: bytes


class AttachSession(msgspec.Struct, array_like=True, frozen=True, tag=8):
    """`Journal.attach_session`."""

    call: int
    journal: int
    key: bytes


class ChangeSession(msgspec.Struct, array_like=True, frozen=True, tag=9):
    """A method of a journal that changes one session and has no ``on_commit``, such as `Journal.save_session`."""

    call: int
    journal: int
    key: bytes
    method: str
    arguments: tuple[Any, ...]


class Prove(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=10):
    """`Journal.prove`."""

    journal: int
    key: bytes
    position: int
    last: int


class MoveSession(msgspec.Struct, array_like=True, frozen=True, tag=11):
    """`Journal.join` or `Journal.leave`."""

    call: int
    journal: int
    key: bytes
    rooms: list[str]
    joins: bool


class MoveMatching(msgspec.Struct, array_like=True, frozen=True, tag=12):
    """`Journal.join_matching` or `Journal.leave_matching`."""

    call: int
    journal: int
    rooms: list[str] | None
    except_: list[str]
    moved: list[str]
    joins: bool


class EndMatching(msgspec.Struct, array_like=True, frozen=True, tag=13):
    """`Journal.end_matching`."""

    call: int
    journal: int
    rooms: list[str] | None
    except_: list[str]
    note: bytes


class ClaimSession(msgspec.Struct, array_like=True, frozen=True, tag=14):
    """`Journal.claim_session`."""

    call: int
    journal: int
    key: bytes


class ReleaseSession(msgspec.Struct, array_like=True, frozen=True, tag=15):
    """`Journal.release_session`."""

    call: int
    journal: int
    key: bytes
    handed: bytes


class Enqueue(msgspec.Struct, array_like=True, frozen=True, tag=16):
    """`StoredQueue.enqueue`."""

    call: int
    queue: str
    messages: list[NewMessageRow]
    deduplicate_s: float


class Hold(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=17):
    """`StoredQueue.hold`."""

    queue: str
    consumer: str
    holder: str
    position: int | None


class Send(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=18):
    """`Nodes.send`."""

    receiver: str | None
    topic: str
    message: bytes
    may_drop: bool = False


class ClaimConsumer(msgspec.Struct, array_like=True, frozen=True, tag=19):
    """`Nodes.claim_consumer`."""

    call: int
    queue: str
    consumer: str


class ReleaseConsumer(msgspec.Struct, array_like=True, frozen=True, tag=20):
    """`Nodes.release_consumer`."""

    call: int
    queue: str
    consumer: str


Request: TypeAlias = (
    Hello
    | Goodbye
    | Credit
    | Plain
    | OpenJournal
    | Append
    | OpenSession
    | AttachSession
    | ChangeSession
    | Prove
    | MoveSession
    | MoveMatching
    | EndMatching
    | ClaimSession
    | ReleaseSession
    | Enqueue
    | Hold
    | Send
    | ClaimConsumer
    | ReleaseConsumer
)

REQUESTS = msgspec.msgpack.Decoder(list[Request])
"""Decodes a frame of a node."""
