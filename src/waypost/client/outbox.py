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
        number: The event's place; it rises, and is never used twice.
        id: The event's id, which never changes.
        since: The time of its emit, in seconds since 1970.
        record: The event's name and arguments, encoded.
    """

    number: int
    id: str
    since: float
    record: bytes

    @property
    def values(self) -> list[object]:
        """The event's name, then its arguments.

        Raises:
            MalformedPacket: The record is unreadable.
        """
        return read_values(self.record)


class Outbox:
    """The outbox of one namespace in a client's file. All namespaces share the file's limits.

    Args:
        file: The client's file.
        namespace: The namespace.
        max_events: The most events in the file, from 1.
        max_bytes: The most bytes of events in the file; an event that is alone may be larger.
    """

    __slots__ = ("_client", "_file", "_max_bytes", "_max_events", "_namespace")

    def __init__(self, file: StateFile, namespace: str, *, max_events: int, max_bytes: int) -> None:
        self._file = file
        self._namespace = namespace
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._client = ""

    async def append(self, event: EncodedEvent) -> None:
        """Append an event. Returns when the event is on disk.

        Args:
            event: The encoded event.

        Raises:
            OutboxFull: The file's limits leave no room.
            EncodingFailed: The file's form can't carry the event.
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
            max_events: The most events to return, from 1.
            max_bytes: The most bytes of records to return; the first event is returned in any case.

        Raises:
            StorageError: The file can't be read.
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
        """Remove events by their numbers. Returns when the removal is on disk.

        Raises:
            StorageError: The file can't be written.
        """
        rows = [(number,) for number in numbers]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM event WHERE number = ?", rows)

        if rows:
            await self._file.run(work)

    async def discard(self, event_id: str) -> bool:
        """Remove an event by its id.

        Returns:
            Whether the event was in the outbox.

        Raises:
            StorageError: The file can't be written.
        """

        def work(connection: sqlite3.Connection) -> bool:
            deleting = "DELETE FROM event WHERE namespace = ? AND id = ?"
            return connection.execute(deleting, (self._namespace, event_id)).rowcount > 0

        return await self._file.run(work)

    async def count(self) -> int:
        """Return the number of events that wait."""

        def work(connection: sqlite3.Connection) -> int:
            counting = "SELECT count(*) FROM event WHERE namespace = ?"
            ((count,),) = connection.execute(counting, (self._namespace,)).fetchall()
            return int(count)

        return await self._file.run(work)

    def mark(self, event: StoredEvent, settled: int) -> OutboxMark:
        """Return the mark of an event that `first` has returned.

        Args:
            event: The event.
            settled: The place up to which all events of this namespace are removed from the file.
        """
        return OutboxMark(client=self._client, message=event.id, sequence=event.number, settled=settled)
