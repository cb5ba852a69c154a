"""HTTP answers over ASGI, and their compression.

Source: RFC 9110, sections 12.5.3 ("Accept-Encoding") and 8.4 ("Content-Encoding").
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["TEXT", "Headers", "Message", "Receive", "Scope", "Send", "choose_encoding", "compress", "respond"]

logger = logging.getLogger("waypost.asgi")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[str, str]]

TEXT = "text/plain; charset=UTF-8"

_WINDOW_BITS = {"gzip": 31, "deflate": 15}
"""What `zlib` must be told to write each format; the first is preferred."""

_LEVEL = 4
"""Twice as fast as zlib's own choice, for a few percent more bytes."""

_IN_A_THREAD_BYTES = 32_768
"""From this size on compressing takes so long that others would notice if the event loop did it."""


def choose_encoding(accept_encoding: str) -> str | None:
    """Choose how to compress an answer.

    Args:
        accept_encoding: The request's ``Accept-Encoding`` header, ``""`` if there is none.

    Returns:
        ``"gzip"`` or ``"deflate"``, whichever the client likes better; ``None`` if it takes neither.
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
    """
    if len(body) < _IN_A_THREAD_BYTES:
        return _compress(body, encoding)
    return await asyncio.to_thread(_compress, body, encoding)


def _compress(body: bytes, encoding: str) -> bytes:
    compressor = zlib.compressobj(_LEVEL, wbits=_WINDOW_BITS[encoding])
    return compressor.compress(body) + compressor.flush()


async def respond(send: Send, status: int, body: bytes, headers: Headers, *, is_head: bool = False) -> bool:
    """Send an HTTP answer, whole.

    Args:
        send: ASGI's send.
        status: The status.
        body: The body; ``b""`` for none.
        headers: Names and values; the length is added.
        is_head: Whether the request was a HEAD, which gets the headers alone.

    Returns:
        Whether there was still somebody to send it to, as far as the server says so.
    """
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    if status not in (204, 304):
        encoded.append((b"content-length", str(len(body)).encode()))
    try:
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": b"" if is_head else body})
    except (OSError, RuntimeError) as problem:
        # Servers differ in how they say that the client has just gone; uvloop's transports raise RuntimeError.
        logger.debug("an answer found nobody: %r", problem)
        return False
    return True
