"""The durable outbox: emitted events in a client's file, until the server has acknowledged them."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass

from waypost.client.state_file import StateFile
from waypost.errors import OutboxFull
from waypost.protocol.codec import EncodedEvent
from waypost.protocol.extension import OutboxMark
from waypost.protocol.records import read_values

__all__ = ["Outbox", "StoredEvent"]

_ID_BYTES = 15


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event in the outbox.

    Attributes:
        number: Its place; rising, and never given twice.
        id: Its id, which it has for ever.
        since: When it was put in, in seconds since 1970.
        record: Its name and arguments.
    """

    number: int
    id: str
    since: float
    record: bytes

    @property
    def values(self) -> list[object]:
        """Its name and its arguments; raises `MalformedPacket` if they can't be read."""
        return read_values(self.record)


class Outbox:
    """One namespace's events in a client's file; all namespaces share its limits.

    Args:
        file: The file.
        namespace: The namespace.
        max_events: How many events the file holds.
        max_bytes: How many bytes of them; a single event may be larger.
    """

    __slots__ = ("_client", "_file", "_max_bytes", "_max_events", "_namespace")

    def __init__(self, file: StateFile, namespace: str, *, max_events: int, max_bytes: int) -> None:
        self._file = file
        self._namespace = namespace
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._client = ""

    async def append(self, event: EncodedEvent) -> None:
        """Put an event at the end; returns when it is on disk.

        Raises:
            OutboxFull: There is no room.
            EncodingFailed: It can't be stored.
            StorageError: The file can't be written.
        """
        record, name = event.to_record(), event.event

        def work(connection: sqlite3.Connection) -> None:
            ((events, size),) = connection.execute("SELECT events, bytes FROM total").fetchall()
            if events and (events >= self._max_events or size + len(record) > self._max_bytes):
                raise OutboxFull(self._file.name, name, events, size, self._max_events, self._max_bytes)
            connection.execute(
                "INSERT INTO event (namespace, id, at, record) VALUES (?, ?, ?, ?)",
                (self._namespace, secrets.token_urlsafe(_ID_BYTES), time.time(), record),
            )

        await self._file.run(work)

    async def first(self, *, max_events: int, max_bytes: int) -> list[StoredEvent]:
        """Return the oldest events, in order.

        Args:
            max_events: The most to return.
            max_bytes: Stop before their records exceed this; the first one is always returned.
        """

        def work(connection: sqlite3.Connection) -> list[StoredEvent]:
            found: list[StoredEvent] = []
            rows = connection.execute(
                "SELECT number, id, at, record FROM event WHERE namespace = ? ORDER BY number LIMIT ?",
                (self._namespace, max_events),
            )
            left = max_bytes
            for row in rows:
                event = StoredEvent(*row)
                left -= len(event.record)
                if found and left < 0:
                    break
                found.append(event)
            if not self._client:
                ((self._client,),) = connection.execute("SELECT client FROM identity").fetchall()
            return found

        return await self._file.run(work)

    async def remove(self, numbers: Iterable[int]) -> None:
        """Remove events; returns when that is on disk."""
        rows = [(number,) for number in numbers]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM event WHERE number = ?", rows)

        if rows:
            await self._file.run(work)

    async def discard(self, event_id: str) -> bool:
        """Remove an event by its id; return whether it was there."""

        def work(connection: sqlite3.Connection) -> bool:
            deleting = "DELETE FROM event WHERE namespace = ? AND id = ?"
            return connection.execute(deleting, (self._namespace, event_id)).rowcount > 0

        return await self._file.run(work)

    async def count(self) -> int:
        """Return how many events wait."""

        def work(connection: sqlite3.Connection) -> int:
            counting = "SELECT count(*) FROM event WHERE namespace = ?"
            ((count,),) = connection.execute(counting, (self._namespace,)).fetchall()
            return int(count)

        return await self._file.run(work)

    def mark(self, event: StoredEvent, settled: int) -> OutboxMark:
        """Make the mark of an event that `first` has returned.

        Args:
            event: The event.
            settled: Up to where all events of this namespace are gone from the file.
        """
        return OutboxMark(client=self._client, message=event.id, sequence=event.number, settled=settled)
