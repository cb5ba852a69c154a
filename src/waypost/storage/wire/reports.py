"""The messages of a host to a node: what became of its requests, and what others did, in the order of writes."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from waypost.storage.journal_records import ExpiredSession
from waypost.storage.queue_records import Due, Enqueued, NewMessageRow
from waypost.storage.store_numbers import StoreCounts
from waypost.storage.trouble import Trouble

__all__ = [
    "REPORTS",
    "Answer",
    "Appended",
    "Arrived",
    "Came",
    "Changed",
    "Claimed",
    "Condition",
    "Done",
    "EndedMatching",
    "Failed",
    "Freed",
    "Gone",
    "Kept",
    "Lost",
    "Message",
    "MovedMatching",
    "Opened",
    "Problem",
    "Released",
    "Report",
    "Time",
    "Welcome",
]


class Problem(msgspec.Struct, array_like=True, frozen=True):
    """An error; see `waypost.storage.wire.problems`."""

    kind: str
    arguments: list[Any]
    data: dict[str, Any]


class Welcome(msgspec.Struct, frozen=True):
    """The answer to a `requests.Hello`.

    Attributes:
        name: The node's name.
        others: The names of the other nodes.
        store: The store, as errors name it.
        path: The store's file; ``None`` for one in memory.
        now: The store's time, in seconds.
        ahead_s: As in `StoreClock`.
        credit_bytes: The steps in which the host wants to be told of what the node has taken in, in bytes.
    """

    name: str
    others: list[str]
    store: str
    path: str | None
    now: float
    ahead_s: float
    credit_bytes: int


class Opened(msgspec.Struct, frozen=True):
    """The answer to a `requests.OpenJournal`: the journal's number, and where it stands."""

    number: int
    generation: str
    ends: dict[str, int]
    top: int
    oldest: int
    size_bytes: int


class Done(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=1):
    """A write to a journal has taken effect: its ``on_commit`` is due."""

    call: int
    position: int


class Answer(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=2):
    """The result of a call, encoded."""

    call: int
    result: msgspec.Raw


class Failed(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """A call has failed."""

    call: int
    problem: Problem


class Appended(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=4):
    """Another node has appended an entry."""

    journal: int
    position: int
    record: bytes


class MovedMatching(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """Another node has let all matching sessions join or leave rooms."""

    journal: int
    rooms: list[str] | None
    except_: list[str]
    moved: list[str]
    joins: bool


class EndedMatching(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """Another node has ended all matching sessions."""

    journal: int
    rooms: list[str] | None
    except_: list[str]
    sessions: list[ExpiredSession]
    note: bytes


class Claimed(msgspec.Struct, array_like=True, frozen=True, tag=7):
    """The client of a session of this node has come to another one."""

    journal: int
    key: bytes


class Kept(msgspec.Struct, array_like=True, frozen=True, tag=8):
    """The limits of what a journal keeps, when they have changed otherwise than by an append."""

    journal: int
    oldest: int
    size_bytes: int


class Message(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=9):
    """A message of a node."""

    sender: str
    topic: str
    message: bytes


class Came(msgspec.Struct, array_like=True, frozen=True, tag=10):
    """Another node has come."""

    name: str


class Gone(msgspec.Struct, array_like=True, frozen=True, tag=11):
    """Another node is gone."""

    name: str


class Arrived(msgspec.Struct, array_like=True, frozen=True, tag=12):
    """Another node has added messages to a queue."""

    queue: str
    messages: list[NewMessageRow]
    enqueued: Enqueued


class Released(msgspec.Struct, array_like=True, frozen=True, tag=13):
    """Messages were released because they are due, or another program has changed queues."""

    due: Due


class Freed(msgspec.Struct, array_like=True, frozen=True, tag=14):
    """A consumer has no owner any more."""

    queue: str
    consumer: str


class Changed(msgspec.Struct, array_like=True, frozen=True, tag=15):
    """Another program has written to the store."""


class Lost(msgspec.Struct, array_like=True, frozen=True, tag=16):
    """Nothing can be stored any more."""

    problem: Problem


class Time(msgspec.Struct, array_like=True, frozen=True, tag=17):
    """The store's time, again and again: the welcome may have been under way for long, or the wall clock was set.

    Attributes:
        now: The time, in seconds.
        ahead_s: As in `StoreClock`.
    """

    now: float
    ahead_s: float


class Condition(msgspec.Struct, array_like=True, frozen=True, tag=18):
    """The store's condition, told every second or so.

    Attributes:
        troubles: What keeps it from taking all that it should.
        counts: What was counted since the last time; one node is told, and counts it among its own.
    """

    troubles: list[Trouble]
    counts: StoreCounts | None = None


Report: TypeAlias = (
    Done
    | Answer
    | Failed
    | Appended
    | MovedMatching
    | EndedMatching
    | Claimed
    | Kept
    | Message
    | Came
    | Gone
    | Arrived
    | Released
    | Freed
    | Changed
    | Lost
    | Time
    | Condition
)

REPORTS = msgspec.msgpack.Decoder(list[Report])
"""Decodes a frame of a host."""
