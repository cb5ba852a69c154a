"""For programs without asyncio: ``waypost.sync.Client``, ``waypost.sync.Emitter`` and ``waypost.sync.Api``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from waypost.client.client_outbox import PendingEvent
from waypost.client.sync import Client, ClientOutbox, VolatileEmitter
from waypost.client.sync_streams import EventStream, ReceivedEvent

if TYPE_CHECKING:
    from waypost.outside.api.blocking import Api, ApiConsumer, ApiQueue, ApiTarget
    from waypost.outside.blocking import Emitter, EmitterQueue, EmitterTarget

__all__ = [
    "Api",
    "ApiConsumer",
    "ApiQueue",
    "ApiTarget",
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


_HOMES = {
    **dict.fromkeys(("Emitter", "EmitterQueue", "EmitterTarget"), "waypost.outside.blocking"),
    **dict.fromkeys(("Api", "ApiConsumer", "ApiQueue", "ApiTarget"), "waypost.outside.api.blocking"),
}


def __getattr__(name: str) -> Any:
    """Import the emitter or the API at its first use: a client does not load what belongs to servers."""
    if name not in _HOMES:
        raise AttributeError(f"module 'waypost.sync' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
