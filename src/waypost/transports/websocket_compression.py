"""Turns off the compression of WebSocket messages where uvicorn would agree to it.

A kilobyte can become a megabyte of JSON when it is inflated, and uvicorn inflates a whole read before Waypost sees
its first message. An ASGI application has no say in it. But uvicorn looks into its configuration for each
connection, and that can be reached from the functions that it passes to applications.
"""

from __future__ import annotations

from typing import Any

from waypost.logs import get_logger
from waypost.transports.http_answer import Receive

__all__ = ["turn_off_compression"]

logger = get_logger("waypost.asgi")


def turn_off_compression(receive: Receive) -> None:
    """Turn the compression of WebSockets off for the server that calls, if it is uvicorn and has it on.

    It logs one warning then. Connections that are open already keep what they agreed to.

    Args:
        receive: ASGI's receive, as the server passed it.
    """
    config: Any = getattr(getattr(receive, "__self__", None), "config", None)
    if getattr(config, "ws_per_message_deflate", None) is True:
        config.ws_per_message_deflate = False
        logger.warning(
            "uvicorn would have compressed WebSocket messages (its default); turned off, because a small message may"
            " become a huge one. Say so yourself with --ws-per-message-deflate false, or allow it with"
            " websocket_compression=True."
        )
