"""The page that Prometheus scrapes, as an ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from hashlib import sha256
from hmac import compare_digest
from typing import Any, TypeAlias

from waypost.checking.arguments import TEXT, check
from waypost.errors import ConfigurationError

__all__ = ["MetricsPage"]

_Message: TypeAlias = MutableMapping[str, Any]
_Headers: TypeAlias = list[tuple[bytes, bytes]]

_PLAIN = b"text/plain; charset=utf-8"


class MetricsPage:
    """Answers each GET with the metrics, whatever its path; made by `waypost.Server.metrics`.

    Args:
        read: Returns the values.
        key: The key that a request has to bring as ``Authorization: Bearer KEY``; ``None`` lets everybody read.

    Raises:
        ConfigurationError: The key is no text, or empty; or prometheus-client is not installed.
    """

    def __init__(self, read: Callable[[], Awaitable[Any]], key: str | None) -> None:
        if key is not None:
            check("key of io.metrics", key, TEXT)
            if not key:
                raise ConfigurationError("key of io.metrics", key, "a key, or None to let everybody read")
        try:
            # An extra, and a slow import: it is paid for by those who ask for metrics.
            from waypost.operations.metrics.exposition import Exposition
        except ImportError as problem:
            raise ConfigurationError(
                "metrics", None, 'the package prometheus-client: pip install "waypost[metrics]"'
            ) from problem
        self._read = read
        self._exposition = Exposition
        # Digests are as long as each other, whatever the client sends.
        self._wanted = None if key is None else _digest(b"Bearer " + key.encode())

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Answer one request.

        Raises:
            ConfigurationError: The application is served for another thing than HTTP, such as a lifespan.
        """
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            raise ConfigurationError("scope", scope["type"], "a request: mount the page in an application")
        status, headers, body = await self._answer(scope)
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*headers, (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")],
            }
        )
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: _Message) -> tuple[int, _Headers, bytes]:
        if scope["method"] not in ("GET", "HEAD"):
            return 405, [(b"content-type", _PLAIN), (b"allow", b"GET, HEAD")], b"use GET\n"
        headers: dict[bytes, bytes] = dict(scope["headers"])
        came = _digest(headers.get(b"authorization", b""))
        if self._wanted is not None and not compare_digest(came, self._wanted):
            challenge = (b"www-authenticate", b"Bearer")
            return 401, [(b"content-type", _PLAIN), challenge], b"send the key: Authorization: Bearer KEY\n"
        accept = headers.get(b"accept", b"").decode("latin-1")
        body, content_type = self._exposition(await self._read()).render(accept)
        return 200, [(b"content-type", content_type.encode())], body


def _digest(text: bytes) -> bytes:
    return sha256(text).digest()
