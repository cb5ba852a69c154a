"""Tells probes whether a server lives and is ready, over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from hmac import compare_digest
from typing import Annotated, Any, TypeAlias

import msgspec

from waypost.checking.arguments import check
from waypost.checking.constraints import Matching, Secret
from waypost.checking.rules import rule_of
from waypost.server.watching.readiness import Readiness

__all__ = ["Health"]

_Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def _is_key(text: str) -> bool:
    return len(text) >= 16 and all("!" <= one <= "~" for one in text)


_KEY = rule_of(
    Annotated[str, Secret(), Matching("16 printable ASCII characters or more, without spaces", _is_key)] | None
)
_BEARER = b"bearer "
_NOT_STORED = (b"cache-control", b"no-store")


class Health:
    """An ASGI application with the paths ``/livez`` and ``/readyz``, relative to its mount; made by `Server.health`.

    Args:
        readiness: Returns the server's readiness.
        key: The key with which a probe gets details; ``None`` if nobody gets them.

    Raises:
        ConfigurationError: The key is too short, or has other characters.
    """

    def __init__(self, readiness: Callable[[], Readiness], key: str | None) -> None:
        check("key of io.health", key, _KEY)
        self._readiness = readiness
        self._key = None if key is None else key.encode()

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[Any]], send: _Send
    ) -> None:
        """Handle one ASGI scope. Other ones than HTTP requests are not for this application."""
        if scope["type"] != "http":
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path not in ("/livez", "/readyz"):
            await _answer(send, 404)
        elif scope["method"] not in ("GET", "HEAD"):
            await _answer(send, 405, (b"allow", b"GET, HEAD"))
        elif path == "/livez":
            await _answer(send, 200)
        else:
            await self._answer_ready(scope, send)

    async def _answer_ready(self, scope: MutableMapping[str, Any], send: _Send) -> None:
        readiness = self._readiness()
        status = 200 if readiness.is_ready else 503
        if not self._may_see(scope):
            await _answer(send, status)
            return
        details = {"ready": readiness.is_ready, "phase": readiness.phase, "troubles": readiness.troubles}
        await _answer(send, status, (b"content-type", b"application/json"), body=msgspec.json.encode(details))

    def _may_see(self, scope: MutableMapping[str, Any]) -> bool:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if self._key is None or given[: len(_BEARER)].lower() != _BEARER:
            return False
        return compare_digest(given[len(_BEARER) :].strip(), self._key)


async def _answer(send: _Send, status: int, *headers: tuple[bytes, bytes], body: bytes = b"") -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length, _NOT_STORED, *headers]})
    # A server leaves the body of an answer to HEAD out.
    await send({"type": "http.response.body", "body": body})
