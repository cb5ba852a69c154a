"""HTTP responses over ASGI, and their compression.

Source: RFC 9110, sections 12.5.3 ("Accept-Encoding") and 8.4 ("Content-Encoding").
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from waypost.logs import get_logger

__all__ = [
    "TEXT",
    "AsgiApplication",
    "Headers",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "choose_encoding",
    "compress",
    "respond",
]

logger = get_logger("waypost.asgi")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[str, str]]
AsgiApplication = Callable[[Scope, Receive, Send], Awaitable[None]]

TEXT = "text/plain; charset=UTF-8"

_WINDOW_BITS = {"gzip": 31, "deflate": 15}
"""The value of zlib's ``wbits`` for each format; the first format is preferred."""

_LEVEL = 4
"""Twice as fast as zlib's default level, for a few percent more bytes."""

_IN_A_THREAD_BYTES = 32_768
"""From this size on, a thread compresses: in the event loop it would delay other connections."""


def choose_encoding(accept_encoding: str) -> str | None:
    """Choose the compression of a response.

    Args:
        accept_encoding: The request's ``Accept-Encoding`` header; ``""`` without one.

    Returns:
        ``"gzip"`` or ``"deflate"``, by the client's weights, then gzip first; ``None`` if the client accepts neither.
    """
    weights: dict[str, float] = {}
    for entry in accept_encoding.lower().split(","):
        coding, *parameters = (part.strip() for part in entry.split(";"))
        weights[coding] = _weight(parameters)
    rest = weights.get("*", 0.0)
    best = max(_WINDOW_BITS, key=lambda coding: weights.get(coding, rest))
    return best if weights.get(best, rest) > 0 else None


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


async def compress(body: bytes, encoding: str) -> bytes:
    """Compress a body, in a thread if it is large. May be cancelled.

    Args:
        body: The body.
        encoding: ``"gzip"`` or ``"deflate"``.

    Returns:
        The compressed body.
    """
    if len(body) < _IN_A_THREAD_BYTES:
        return _compress(body, encoding)
    return await asyncio.to_thread(_compress, body, encoding)


def _compress(body: bytes, encoding: str) -> bytes:
    compressor = zlib.compressobj(_LEVEL, wbits=_WINDOW_BITS[encoding])
    return compressor.compress(body) + compressor.flush()


async def respond(send: Send, status: int, body: bytes, headers: Headers, *, is_head: bool = False) -> bool:
    """Send a whole HTTP response.

    Args:
        send: ASGI's send.
        status: The HTTP status.
        body: The body; ``b""`` for none.
        headers: Names and values; ``Content-Length`` is added.
        is_head: Whether the request was a HEAD; the response then has no body.

    Returns:
        False if the server reported that the client has disconnected.
    """
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    if status not in (204, 304):
        encoded.append((b"content-length", str(len(body)).encode()))
    try:
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": b"" if is_head else body})
    except (OSError, RuntimeError) as problem:
        # ASGI servers raise different errors if the client has disconnected; uvloop's transports a RuntimeError.
        logger.debug("an answer found nobody: %r", problem)
        return False
    return True
