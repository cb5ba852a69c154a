"""What a client can be told: its options with their defaults, checked when it is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from ssl import SSLContext
from typing import Any, TypeAlias, TypedDict
from urllib.parse import urlencode, urlsplit, urlunsplit

from waypost.errors import ConfigurationError
from waypost.protocol.codec import codec_for
from waypost.protocol.custom_parser import Parser

__all__ = ["Auth", "ClientOptions", "Options", "endpoint"]

Credentials: TypeAlias = Mapping[str, Any] | None
Auth: TypeAlias = Credentials | Callable[[], Credentials] | Callable[[], Awaitable[Credentials]]
"""What a client shows to the server: a mapping, or a function that gives one, asked at every attempt."""

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything a `waypost.Client` can be told.

    Attributes:
        auth: What to show to the server: a mapping, or a function (``def`` or ``async def``) that gives one and
            is asked at every attempt to connect.
        namespace: The namespace to join.
        path: The path that the server serves.
        headers: HTTP headers to send along, such as ``Authorization``.
        ssl: How to verify the server, and with which certificate; ``None`` for the system's defaults.
        reconnection: Whether to reconnect when the connection is lost.
        reconnection_attempts: How often to try before giving up; ``None`` for ever.
        reconnection_delay_s: Seconds before the first attempt; they double with each one.
        reconnection_delay_max_s: The most seconds before any attempt.
        reconnection_jitter: How far a wait may be off, as a share of it, from 0 to 1.
        connect_timeout_s: Seconds that one attempt to connect may take.
        ack_timeout_s: Seconds that `Client.call` waits unless it is told otherwise.
        max_payload_bytes: The largest message taken from the server, and the most bytes of one event's attachments.
        max_attachments: The most binary attachments of one event from the server.
        max_pending_events: How many events may wait for their handlers before the connection is read no further.
        max_buffered_events: How many emitted events may wait to be sent, while there is no connection or a slow one.
        max_buffered_bytes: How many bytes of them may wait.
        parser: What packets are written in, as the server's option of that name.
    """

    auth: Auth = None
    namespace: str = "/"
    path: str = "/socket.io/"
    headers: Mapping[str, str] | None = None
    ssl: SSLContext | None = None
    reconnection: bool = True
    reconnection_attempts: int | None = None
    reconnection_delay_s: float = 1
    reconnection_delay_max_s: float = 5
    reconnection_jitter: float = 0.5
    connect_timeout_s: float = 20
    ack_timeout_s: float = 60
    max_payload_bytes: int = 16 * _MEBIBYTE
    max_attachments: int = 100
    max_pending_events: int = 1_000
    max_buffered_events: int = 10_000
    max_buffered_bytes: int = 16 * _MEBIBYTE
    parser: str | Parser = "json"

    def __post_init__(self) -> None:
        codec_for(self.parser)
        for name in ("namespace", "path"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.startswith("/") or "," in value:
                raise ConfigurationError(name, value, "a name that starts with / and has no comma")
        if not (self.auth is None or callable(self.auth) or isinstance(self.auth, Mapping)):
            raise ConfigurationError("auth", type(self.auth).__name__, "a mapping or a function that gives one")
        if not _is_number(self.reconnection_jitter) or not 0 <= self.reconnection_jitter <= 1:
            raise ConfigurationError("reconnection_jitter", self.reconnection_jitter, "a number from 0 to 1")
        for name in (
            "reconnection_delay_s",
            "reconnection_delay_max_s",
            "connect_timeout_s",
            "ack_timeout_s",
            "max_payload_bytes",
            "max_attachments",
            "max_pending_events",
            "max_buffered_events",
            "max_buffered_bytes",
        ):
            value = getattr(self, name)
            if not _is_number(value) or value <= 0:
                raise ConfigurationError(name, value, "a number above 0")
        attempts = self.reconnection_attempts
        if attempts is not None and (not _is_number(attempts) or attempts < 1):
            raise ConfigurationError("reconnection_attempts", attempts, "a number from 1, or None")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of `waypost.Client`; `Options` says what each means."""

    auth: Auth
    namespace: str
    path: str
    headers: Mapping[str, str] | None
    ssl: SSLContext | None
    reconnection: bool
    reconnection_attempts: int | None
    reconnection_delay_s: float
    reconnection_delay_max_s: float
    reconnection_jitter: float
    connect_timeout_s: float
    ack_timeout_s: float
    max_payload_bytes: int
    max_attachments: int
    max_pending_events: int
    max_buffered_events: int
    max_buffered_bytes: int
    parser: str | Parser


def endpoint(url: str, path: str) -> str:
    """Give the address of a server's WebSocket.

    Args:
        url: The server, such as ``https://example.com``; a query in it is sent along.
        path: The path that the server serves.

    Returns:
        The WebSocket's URL.

    Raises:
        ConfigurationError: The URL is none, or has a path.
    """
    expected = "a URL such as https://example.com, without a path (namespace= and path= are options)"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _SCHEMES and parts.hostname and parts.path in ("", "/") and parts.port != 0
    except ValueError as error:
        raise ConfigurationError("url", url, expected) from error
    if not usable:
        raise ConfigurationError("url", url, expected)
    query = "&".join(filter(None, (parts.query, urlencode({"EIO": 4, "transport": "websocket"}))))
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, path, query, ""))
