"""The client for programs without asyncio: ``waypost.sync.Client``."""

from __future__ import annotations

from waypost.client.client_outbox import PendingEvent
from waypost.client.sync import Client, ClientOutbox, VolatileEmitter
from waypost.client.sync_streams import EventStream, ReceivedEvent

__all__ = ["Client", "ClientOutbox", "EventStream", "PendingEvent", "ReceivedEvent", "VolatileEmitter"]
