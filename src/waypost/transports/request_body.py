"""Reads the body of a POST with limits on its size and its time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from waypost.transports.http_answer import Receive

__all__ = ["discard_body", "read_body"]

_SLOWEST_BYTES_PER_S = 1_000
"""The slowest acceptable sender, after the first seconds. A slower one only occupies a connection."""

_DISCARD_BYTES = 10_000_000
_DISCARD_S = 1.0


async def read_body(
    receive: Receive, headers: Mapping[str, str], *, limit_bytes: int, timeout_s: float, longest_s: float
) -> bytes | int:
    """Read a whole body. May be cancelled.

    Args:
        receive: ASGI's receive.
        headers: The request's headers, with lower-case names.
        limit_bytes: The largest body that is accepted.
        timeout_s: Seconds that an empty body may take; each kilobyte received adds one second.
        longest_s: The most seconds that any body may take.

    Returns:
        The body. If it is refused, the HTTP status: 413 for too large, 408 for too slow, 400 for a lost connection.
    """
    length = headers.get("content-length", "")
    if length.isascii() and length.isdigit() and (len(length) > 15 or int(length) > limit_bytes):
        return 413
    chunks: list[bytes] = []
    size = 0
    began = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(min(timeout_s, longest_s)) as patience:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return 400
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit_bytes:
                    return 413
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
                patience.reschedule(began + min(timeout_s + size / _SLOWEST_BYTES_PER_S, longest_s))
    except TimeoutError:
        return 408


async def discard_body(receive: Receive) -> None:
    """Read and drop the rest of a body, within limits.

    A server that closes a socket with unread data resets it, and the client may lose the response.
    """
    left = _DISCARD_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
