"""The asyncio client of any Socket.IO server."""

from __future__ import annotations

from waypost.client.client import Client
from waypost.client.client_outbox import ClientOutbox, PendingEvent
from waypost.client.engine import DisconnectDetails
from waypost.client.options import ClientOptions, Options

__all__ = ["Client", "ClientOptions", "ClientOutbox", "DisconnectDetails", "Options", "PendingEvent"]
