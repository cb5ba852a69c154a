"""For programs without asyncio: the client ``waypost.sync.Client``, and the emitter ``waypost.sync.Emitter``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from waypost.client.client_outbox import PendingEvent
from waypost.client.sync import Client, ClientOutbox, VolatileEmitter
from waypost.client.sync_streams import EventStream, ReceivedEvent

if TYPE_CHECKING:
    from waypost.outside.blocking import Emitter, EmitterQueue, EmitterTarget

__all__ = [
    "Client",
    "ClientOutbox",
    "Emitter",
    "EmitterQueue",
    "EmitterTarget",
    "EventStream",
    "PendingEvent",
    "ReceivedEvent",
    "VolatileEmitter",
]


def __getattr__(name: str) -> Any:
    """Import the emitter at its first use: a client does not load what belongs to servers."""
    if name not in ("Emitter", "EmitterQueue", "EmitterTarget"):
        raise AttributeError(f"module 'waypost.sync' has no attribute {name!r}")
    value = getattr(import_module("waypost.outside.blocking"), name)
    globals()[name] = value
    return value
