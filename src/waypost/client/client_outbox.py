"""What an application can see of its client's durable outbox."""

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
        id: Its id; the server's handler sees it as ``socket.message_id``.
        event: Its name.
        args: Its arguments.
        since: When it was emitted, in seconds since 1970.
        failures: How often it was tried in vain since the client was made: its handler raised, or nothing came back
            in time. A lost connection is not counted.
    """

    id: str
    event: str
    args: tuple[Any, ...]
    since: float
    failures: int


class ClientOutbox:
    """The events of one namespace that wait to be acknowledged. Made by `waypost.Client`, see its ``outbox``."""

    __slots__ = ("_outbox", "_sender")

    def __init__(self, sender: OutboxSender) -> None:
        self._outbox = sender.outbox
        self._sender = sender

    async def pending(self, *, max_events: int = 1_000) -> list[PendingEvent]:
        """Return the oldest events that wait, in order.

        Args:
            max_events: The most to return.

        Raises:
            StorageError: The file can't be read, or another process has it.
        """
        check("max_events", max_events, COUNT)
        found = []
        for event in await self._outbox.first(max_events=max_events, max_bytes=1 << 62):
            name, *args = event.values
            failures = self._sender.failures(event)
            found.append(PendingEvent(event.id, str(name), tuple(args), event.since, failures))
        return found

    async def count(self) -> int:
        """Return how many events wait.

        Raises:
            StorageError: The file can't be read, or another process has it.
        """
        return await self._outbox.count()

    async def discard(self, event_id: str) -> bool:
        """Remove an event, so that it is not sent any more; one that was sent already may be handled all the same.

        Args:
            event_id: The event's id.

        Returns:
            Whether it was there.

        Raises:
            StorageError: The file can't be written, or another process has it.
        """
        is_gone = await self._outbox.discard(as_name("event_id", event_id))
        self._sender.note_change()
        return is_gone

    async def drained(self) -> None:
        """Wait until no event waits: all were acknowledged, given up or discarded. May be cancelled.

        Raises:
            StorageError: The file can't be read, or another process has it.
        """
        await self._sender.drained()
