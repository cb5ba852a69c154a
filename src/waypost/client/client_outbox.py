"""The application's view of its client's durable outbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from waypost.checking.arguments import COUNT, check
from waypost.checking.names import as_name
from waypost.client.outbox_sender import OutboxSender

__all__ = ["ClientOutbox", "PendingEvent"]


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """An event that waits in the outbox.

    Attributes:
        id: The event's id; the server's handler has it as ``socket.message_id``.
        event: The event's name.
        args: The event's arguments.
        since: The time of its emit, in seconds since 1970.
        failures: The number of failed attempts since the client was made: the handler raised, or no answer arrived in
            time. A lost connection does not count.
    """

    id: str
    event: str
    args: tuple[Any, ...]
    since: float
    failures: int


class ClientOutbox:
    """The events of one namespace that wait for their acknowledgement. Made by ``waypost.Client.outbox``."""

    __slots__ = ("_outbox", "_sender")

    def __init__(self, sender: OutboxSender) -> None:
        self._outbox = sender.outbox
        self._sender = sender

    async def pending(self, *, max_events: int = 1_000) -> list[PendingEvent]:
        """Return the oldest events that wait, in order.

        Args:
            max_events: The most events to return, from 1.

        Raises:
            StorageError: The file can't be read, or another process has it open.
        """
        check("max_events", max_events, COUNT)
        found = []
        for event in await self._outbox.first(max_events=max_events, max_bytes=1 << 62):
            name, *args = event.values
            failures = self._sender.failures(event)
            found.append(PendingEvent(event.id, str(name), tuple(args), event.since, failures))
        return found

    async def count(self) -> int:
        """Return the number of events that wait.

        Raises:
            StorageError: The file can't be read, or another process has it open.
        """
        return await self._outbox.count()

    async def discard(self, event_id: str) -> bool:
        """Remove an event, so that it is not sent again. If it was sent already, the server may still handle it.

        Args:
            event_id: The event's id.

        Returns:
            Whether the event was in the outbox.

        Raises:
            ConfigurationError: The id is not valid.
            StorageError: The file can't be written, or another process has it open.
        """
        is_gone = await self._outbox.discard(as_name("event_id", event_id))
        self._sender.note_change()
        return is_gone

    async def drained(self) -> None:
        """Wait until no event waits: all were acknowledged, given up or discarded. May be cancelled.

        Raises:
            StorageError: The file can't be read, or another process has it open.
        """
        await self._sender.drained()
