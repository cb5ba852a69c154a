"""The client for programs without asyncio: ``waypost.sync.Client``."""

from __future__ import annotations

from waypost.client.sync import Client, EventStream, ReceivedEvent, VolatileEmitter

__all__ = ["Client", "EventStream", "ReceivedEvent", "VolatileEmitter"]
