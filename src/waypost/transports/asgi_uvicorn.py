"""Asks uvicorn for what ASGI does not offer. The functions that it passes to an application lead to it.

Compression: a kilobyte can become a megabyte of JSON when it is inflated, and uvicorn inflates a whole read before
Waypost sees its first message. But uvicorn looks into its configuration for each connection.

The end of a WebSocket: uvicorn's ``send`` waits until the client has read what was sent before, also to close. A
client that reads nothing would be held for ever.
"""

from __future__ import annotations

from typing import Any

from waypost.logs import get_logger
from waypost.transports.http_answer import Receive

__all__ = ["abort_transport", "turn_off_compression"]

logger = get_logger("waypost.asgi")


def turn_off_compression(receive: Receive) -> None:
    """Turn the compression of WebSockets off for the server that calls, if it is uvicorn and has it on.

    It logs one warning then. Connections that are open already keep what they agreed to.

    Args:
        receive: ASGI's receive, as the server passed it.
    """
    config: Any = getattr(_protocol(receive), "config", None)
    if getattr(config, "ws_per_message_deflate", None) is True:
        config.ws_per_message_deflate = False
        logger.warning(
            "uvicorn would have compressed WebSocket messages (its default); turned off, because a small message may"
            " become a huge one. Say so yourself with --ws-per-message-deflate false, or allow it with"
            " websocket_compression=True."
        )


def abort_transport(receive: Receive) -> bool:
    """Drop the network connection of a WebSocket with all that waits in its buffer, if the server is uvicorn.

    Args:
        receive: ASGI's receive, as the server passed it.

    Returns:
        Whether it was dropped.
    """
    transport: Any = getattr(_protocol(receive), "transport", None)
    if not hasattr(transport, "abort"):
        return False
    transport.abort()
    return True


def _protocol(receive: Receive) -> object:
    """Return the object whose bound method ``receive`` is: uvicorn's protocol."""
    return getattr(receive, "__self__", None)
