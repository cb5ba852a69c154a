"""The writes for sessions as they are sent to the engine, and the journal that their senders need."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from enum import IntEnum
from typing import Protocol

from waypost.storage.postgres.engine import Engine
from waypost.storage.postgres.journals.log import Done, Operation

__all__ = ["Kind", "Ordered", "name_from", "names_from", "names_of", "operation"]


class Kind(IntEnum):
    """The kinds of writes for sessions; see ``session_operation_1`` in sql/40_sessions.sql."""

    OPEN = 10
    ATTACH = 11
    DETACH = 12
    END = 13
    SAVE = 14
    NOTE_STUCK = 15
    JOIN = 16
    LEAVE = 17
    JOIN_MATCHING = 18
    LEAVE_MATCHING = 19
    END_MATCHING = 20
    CLAIM = 21
    RELEASE = 22
    PROVE = 23


class Ordered(Protocol):
    """The journal to which sessions belong, which keeps all its writes and rows in one order."""

    @property
    def engine(self) -> Engine:
        """The engine."""
        ...

    @property
    def number(self) -> int:
        """The journal's number there."""
        ...

    @property
    def name(self) -> str:
        """The journal's name."""
        ...

    def write(self, words: str, operation: Operation, applied: Callable[[Done], None]) -> asyncio.Future[Done]:
        """Ask for a write.

        Args:
            words: What it does, in words, for errors.
            operation: The write.
            applied: Called in the loop when it takes effect, in the order of the log. It must not raise.

        Raises:
            StorageError: It can't be asked for.
        """
        ...

    def settled(self) -> Awaitable[object]:
        """Wait until all writes that were asked for are done, or have failed. May be cancelled."""
        ...

    def caught_up(self, tick: int) -> Awaitable[object]:
        """Wait until this node has applied the log up to a row. May be cancelled."""
        ...


def operation(kind: Kind, key: bytes = b"", record: bytes = b"", **arguments: object) -> Operation:
    """Return a write.

    Args:
        kind: What it does.
        key: The session's key, if it concerns one.
        record: The session's data, or what is handed over.
        arguments: The other arguments; an underscore at the end of a name is left out.
    """
    return Operation(kind, key, record, json.dumps({name.rstrip("_"): value for name, value in arguments.items()}))


def names_of(names: Collection[str] | None) -> list[str] | None:
    """Return names of rooms as arguments have them: a text of the engine's can't hold every character."""
    return None if names is None else [name.encode("utf-8", "surrogatepass").hex() for name in names]


def name_from(encoded: str) -> str:
    """Return a name that `names_of` has encoded; one that was damaged since is another one."""
    content = bytes.fromhex(encoded)
    try:
        return content.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return content.decode(errors="replace")


def names_from(encoded: Collection[str] | None) -> list[str] | None:
    """Return names that `names_of` has encoded."""
    return None if encoded is None else [name_from(one) for one in encoded]
