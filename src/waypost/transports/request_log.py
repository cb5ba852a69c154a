"""Logs each request that an application answers: ``waypost serve --access-log``."""

from __future__ import annotations

import time
from typing import Any

from waypost.logs import fields, get_logger
from waypost.masking import mask_url
from waypost.transports.http_answer import AsgiApplication, Message, Receive, Scope, Send

__all__ = ["RequestLog"]

logger = get_logger("waypost.access")


class RequestLog:
    """An ASGI application around another one, that logs each request with its status and its time.

    The line of a WebSocket comes when it is accepted, with the status 101. Session ids and other secrets in queries
    are hidden.

    Args:
        app: The application. Polls that the server would answer past ASGI pass through it, too.
    """

    def __init__(self, app: AsgiApplication) -> None:
        self._app = app
        direct = getattr(app, "_direct_polling", None)
        self._direct_polling = None if direct is None else _ThroughAsgi(direct)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        is_logged = False

        async def pass_on(message: Message) -> None:
            nonlocal is_logged
            status = _status(message)
            if status is not None and not is_logged:
                is_logged = True
                _log(scope, status, time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, pass_on)


class _ThroughAsgi:
    """The limits on network connections of a server whose polls take no shorter way.

    Args:
        direct: The shorter way, which has them.
    """

    def __init__(self, direct: Any) -> None:
        self.network = direct.network
        self.descriptors = direct.descriptors

    def take(self, exchange: object) -> None:
        """Leave each request to ASGI."""


def _status(message: Message) -> int | None:
    kind = message["type"]
    if kind in ("http.response.start", "websocket.http.response.start"):
        return int(message["status"])
    if kind == "websocket.accept":
        return 101
    # Before an acceptance, which would have been logged.
    return 403 if kind == "websocket.close" else None


def _log(scope: Scope, status: int, seconds: float) -> None:
    query = scope["query_string"].decode("latin-1")
    url = mask_url(f"{scope['path']}?{query}" if query else scope["path"])
    client = scope.get("client")
    address = client[0] if client else "-"
    logger.info(
        '%s "%s %s" %d %.1f ms',
        *(address, scope.get("method", "GET"), url.strip("'"), status, seconds * 1000),
        extra=fields(address=address, code=str(status), seconds=seconds),
    )
