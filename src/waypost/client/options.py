"""What a client can be told: its options with their defaults, checked when it is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from os import PathLike
from ssl import SSLContext
from typing import Any, TypeAlias, TypedDict

from waypost.client.transport import Connector
from waypost.errors import ConfigurationError, WaypostError
from waypost.protocol.codec import codec_for
from waypost.protocol.custom_parser import Parser

__all__ = ["Auth", "ClientOptions", "Headers", "Options", "Undelivered", "check_auth"]

Credentials: TypeAlias = Mapping[str, Any] | None
Auth: TypeAlias = Credentials | Callable[[], Credentials] | Callable[[], Awaitable[Credentials]]
"""What a client shows to the server: a mapping, or a function that gives one, asked at every attempt."""

Headers: TypeAlias = Mapping[str, str] | Callable[[], Mapping[str, str]] | None
"""HTTP headers: a mapping, or a function that gives one, asked at every attempt."""

Undelivered: TypeAlias = Callable[[str, tuple[Any, ...], WaypostError], Awaitable[None] | None]
"""Called with an event, its arguments and the error, when the event will never be delivered."""

TRANSPORTS = ("websocket", "polling")
_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything a `waypost.Client` can be told.

    Attributes:
        auth: What to show to the server: a mapping, or a function (``def`` or ``async def``) that gives one and
            is asked at every attempt to connect.
        namespace: The namespace to join; ``None`` for the path of the URL, which is ``/`` if it has none.
        path: The path that the server serves.
        headers: HTTP headers to send along, such as ``Authorization``: a mapping, or a function that gives one and
            is asked at every attempt to connect.
        query: Parameters to add to the URL's query.
        cookies: Cookies to send along. Those that the server sets are kept as long as the client lives, and go with
            every later request, WebSocket's too.
        ssl: How to verify the server, and with which certificate; ``None`` for the system's defaults, which verify.
        proxy: The URL of an HTTP proxy, credentials included; ``"environment"`` to do what ``HTTPS_PROXY``,
            ``HTTP_PROXY`` and ``NO_PROXY`` say; ``None`` for none.
        transports: Which transports to use, the one to begin with first.
        connector: What opens WebSockets instead of the network, for tests: see `waypost.testing`. Polling, cookies,
            TLS and proxies are the network's.
        upgrade: Whether a connection that began with polling moves to WebSocket, where both sides can.
        try_all_transports: Whether to try the next transport when the server can't be reached over one.
        remember_upgrade: Whether to begin with WebSocket, once a connection has moved to it.
        reconnection: Whether to reconnect when the connection is lost.
        reconnection_attempts: How often to try before giving up; ``None`` for ever.
        reconnection_delay_s: Seconds before the first attempt; they double with each one.
        reconnection_delay_max_s: The most seconds before any attempt.
        reconnection_jitter: How far a wait may be off, as a share of it, from 0 to 1.
        connect_timeout_s: Seconds that opening a connection over one transport may take, and as many again
            that the server may take to let the client in.
        ack_timeout_s: Seconds that `Client.call` waits unless it is told otherwise; with ``retries``, how long each
            try waits.
        retries: How often an event is sent again when no acknowledgement came in time; not with ``outbox``. With more
            than 0, events are sent one at a time, each when the one before it was acknowledged; the server has to
            acknowledge all.
        outbox: A file, made if need be, that keeps what is emitted until the server has acknowledged it: it survives
            a crash of this process, and a Waypost server handles each event once. One client at a time may have it.
        outbox_max_events: How many events it holds; `OutboxFull` is raised for those beyond.
        outbox_max_bytes: How many bytes of them.
        outbox_retries: How often an event of it is sent again whose handler raised, or that nobody acknowledged in
            time; then it is given up. ``None`` for ever. Lost connections don't count.
        state: A file that remembers which messages of queues were handled, so that none is handled again after a
            crash of this process. ``None`` for the same as ``outbox``, or for memory if there is none.
        on_undelivered: Called when an event that was emitted is given up: ``async def``, or ``def``, which runs in a
            thread. It may use the client, but not close it. With ``outbox`` the event stays in the file until this
            has returned, and those behind it wait; a crash meanwhile makes it be called again. If it raises, that is
            logged. By default, all that happens is that the event is logged.
        parser: What packets are written in, as the server's option of that name.
        max_payload_bytes: The largest message taken from the server, and the most bytes of one event's attachments.
        max_attachments: The most binary attachments of one event from the server.
        max_pending_events: How many events may wait for their handlers before the connection is read no further;
            ten times as many while an acknowledgement is awaited, since that has to be read.
        max_buffered_events: How many emitted events may wait to be sent, while there is no connection or a slow one.
        max_buffered_bytes: How many bytes of them may wait.
    """

    auth: Auth = None
    namespace: str | None = None
    path: str = "/socket.io/"
    headers: Headers = None
    query: Mapping[str, str] | None = None
    cookies: Mapping[str, str] | None = None
    ssl: SSLContext | None = None
    proxy: str | None = "environment"
    transports: Sequence[str] = TRANSPORTS
    connector: Connector | None = None
    upgrade: bool = True
    try_all_transports: bool = True
    remember_upgrade: bool = False
    reconnection: bool = True
    reconnection_attempts: int | None = None
    reconnection_delay_s: float = 1
    reconnection_delay_max_s: float = 5
    reconnection_jitter: float = 0.5
    connect_timeout_s: float = 20
    ack_timeout_s: float = 60
    retries: int = 0
    outbox: str | PathLike[str] | None = None
    outbox_max_events: int = 100_000
    outbox_max_bytes: int = 256 * _MEBIBYTE
    outbox_retries: int | None = None
    state: str | PathLike[str] | None = None
    on_undelivered: Undelivered | None = None
    parser: str | Parser = "json"
    max_payload_bytes: int = 16 * _MEBIBYTE
    max_attachments: int = 100
    max_pending_events: int = 1_000
    max_buffered_events: int = 10_000
    max_buffered_bytes: int = 16 * _MEBIBYTE

    def __post_init__(self) -> None:
        codec_for(self.parser)
        self._check_names()
        self._check_numbers()
        self._check_outbox()
        check_auth(self.auth)
        for name in ("query", "cookies"):
            _check_texts(name, getattr(self, name))
        if not callable(self.headers):
            _check_texts("headers", self.headers)
        if self.on_undelivered is not None and not callable(self.on_undelivered):
            raise ConfigurationError("on_undelivered", self.on_undelivered, "a function")

    def _check_names(self) -> None:
        for name in ("namespace", "path"):
            value = getattr(self, name)
            if name == "namespace" and value is None:
                continue
            if not isinstance(value, str) or not value.startswith("/") or "," in value:
                raise ConfigurationError(name, value, "a name that starts with / and has no comma")
        names = self.transports
        if isinstance(names, str) or not names or set(names) - set(TRANSPORTS) or len(set(names)) < len(names):
            raise ConfigurationError("transports", names, 'some of "websocket", "polling", each once')
        proxy = self.proxy
        if proxy not in (None, "environment") and not str(proxy).startswith(("http://", "https://")):
            raise ConfigurationError("proxy", proxy, 'the URL of an HTTP proxy, "environment", or None')

    def _check_outbox(self) -> None:
        for name in ("outbox", "state"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str | PathLike) or not str(value)):
                raise ConfigurationError(name, value, "the path of a file, or None")
        if self.outbox is not None and self.retries:
            raise ConfigurationError("retries", self.retries, "0 with an outbox, which has outbox_retries")
        retries = self.outbox_retries
        if retries is not None and (type(retries) is not int or retries < 0):
            raise ConfigurationError("outbox_retries", retries, "a whole number from 0, or None")

    def _check_numbers(self) -> None:
        if not _is_number(self.reconnection_jitter) or not 0 <= self.reconnection_jitter <= 1:
            raise ConfigurationError("reconnection_jitter", self.reconnection_jitter, "a number from 0 to 1")
        for name in (
            "reconnection_delay_s",
            "reconnection_delay_max_s",
            "connect_timeout_s",
            "ack_timeout_s",
            "outbox_max_events",
            "outbox_max_bytes",
            "max_payload_bytes",
            "max_attachments",
            "max_pending_events",
            "max_buffered_events",
            "max_buffered_bytes",
        ):
            value = getattr(self, name)
            if not _is_number(value) or value <= 0:
                raise ConfigurationError(name, value, "a number above 0")
        if type(self.retries) is not int or self.retries < 0:
            raise ConfigurationError("retries", self.retries, "a whole number from 0")
        attempts = self.reconnection_attempts
        if attempts is not None and (not _is_number(attempts) or attempts < 1):
            raise ConfigurationError("reconnection_attempts", attempts, "a number from 1, or None")


def check_auth(auth: object) -> None:
    """Raise `ConfigurationError` for an ``auth`` that can't be one, without showing it."""
    if not (auth is None or callable(auth) or isinstance(auth, Mapping)):
        raise ConfigurationError("auth", type(auth).__name__, "a mapping or a function that gives one")


def _check_texts(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for pair in value.items() for text in pair):
        raise ConfigurationError(name, type(value).__name__, "a mapping of texts to texts")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of `waypost.Client`; `Options` says what each means."""

    auth: Auth
    namespace: str | None
    path: str
    headers: Headers
    query: Mapping[str, str] | None
    cookies: Mapping[str, str] | None
    ssl: SSLContext | None
    proxy: str | None
    transports: Sequence[str]
    connector: Connector | None
    upgrade: bool
    try_all_transports: bool
    remember_upgrade: bool
    reconnection: bool
    reconnection_attempts: int | None
    reconnection_delay_s: float
    reconnection_delay_max_s: float
    reconnection_jitter: float
    connect_timeout_s: float
    ack_timeout_s: float
    retries: int
    outbox: str | PathLike[str] | None
    outbox_max_events: int
    outbox_max_bytes: int
    outbox_retries: int | None
    state: str | PathLike[str] | None
    on_undelivered: Undelivered | None
    parser: str | Parser
    max_payload_bytes: int
    max_attachments: int
    max_pending_events: int
    max_buffered_events: int
    max_buffered_bytes: int
