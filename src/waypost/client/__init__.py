"""The asyncio client."""

from __future__ import annotations

from waypost.client.client import Client
from waypost.client.engine import DisconnectDetails
from waypost.client.options import ClientOptions, Options

__all__ = ["Client", "ClientOptions", "DisconnectDetails", "Options"]
