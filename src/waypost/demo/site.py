"""Serves the built page, reports the process's state, and kills the process on request."""

from __future__ import annotations

import asyncio
import mimetypes
import os
import signal
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import orjson

from waypost.demo.supervision import Supervision

__all__ = ["STATIC", "Site"]

STATIC = Path(__file__).parent / "static"
"""The directory into which `make web` builds the page."""

_NOT_BUILT = b"The page is not built: run `make web` (needs Node), or `waypost demo --headless` (needs none).\n"
_KILL_HEADER = (b"x-waypost-demo", b"kill")
_SECURITY_HEADERS = (
    (b"content-security-policy", b"default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache"),
)

_TEXT = b"text/plain; charset=utf-8"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Site:
    """The ASGI application for all requests other than Socket.IO's.

    Args:
        supervision: Tells that a supervisor restarts this process; ``None`` disables the kill request.
        describe_store: Returns a description of the store in words.
        static: The directory of the built page.
    """

    def __init__(
        self, supervision: Supervision | None, describe_store: Callable[[], str], static: Path = STATIC
    ) -> None:
        self._supervision = supervision
        self._describe_store = describe_store
        self._static = static

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            raise NotImplementedError(f"the demo's site serves http, not {scope['type']}")
        match scope["method"], scope["path"]:
            case "GET", "/demo/state":
                await _answer(send, 200, b"application/json", self._state())
            case "POST", "/demo/kill":
                await self._kill(scope, send)
            case "GET" | "HEAD", path:
                await self._file(path, send)
            case _:
                await _answer(send, 405, _TEXT, b"no such method here\n")

    def _state(self) -> bytes:
        run = self._supervision.run if self._supervision else 0
        return orjson.dumps({"pid": os.getpid(), "run": run, "store": self._describe_store()})

    async def _kill(self, scope: Message, send: Send) -> None:
        # A page of a foreign origin needs a preflight to send this header, and the preflight is refused.
        if self._supervision is None or _KILL_HEADER not in scope["headers"]:
            await _answer(send, 403, _TEXT, b"only the demo's page, under the demo's supervisor, may do this\n")
            return
        os.kill(os.getpid(), signal.SIGKILL)

    async def _file(self, path: str, send: Send) -> None:
        if not (self._static / "index.html").is_file():
            await _answer(send, 503, _TEXT, _NOT_BUILT)
            return
        file = (self._static / (path.lstrip("/") or "index.html")).resolve()
        if not (file.is_relative_to(self._static.resolve()) and file.is_file()):
            await _answer(send, 404, _TEXT, b"not found\n")
            return
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        await _answer(send, 200, kind.encode(), await asyncio.to_thread(file.read_bytes))


async def _answer(send: Send, status: int, kind: bytes, body: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *_SECURITY_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
