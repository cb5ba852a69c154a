"""What a client can be told: its options with their defaults, checked when it is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from ssl import SSLContext
from typing import Annotated, Any, Literal, TypeAlias, TypedDict

from waypost.checking.arguments import check
from waypost.checking.constraints import (
    SOME_TRANSPORTS,
    Count,
    CountOrZero,
    FilePath,
    Matching,
    Positive,
    Secret,
    ServedPath,
    Share,
    Transport,
)
from waypost.checking.options import checked
from waypost.checking.rules import rule_of
from waypost.client.transport import Connector
from waypost.errors import ConfigurationError, WaypostError
from waypost.protocol.custom_parser import Parser

__all__ = ["Auth", "ClientOptions", "Headers", "Options", "Undelivered", "check_auth"]

Credentials: TypeAlias = Mapping[str, Any] | None
Auth: TypeAlias = Credentials | Callable[[], Credentials] | Callable[[], Awaitable[Credentials]]
"""What a client shows to the server: a mapping, or a function that gives one, asked at every attempt."""

Headers: TypeAlias = Mapping[str, str] | Callable[[], Mapping[str, str]] | None
"""HTTP headers: a mapping, or a function that gives one, asked at every attempt."""

Undelivered: TypeAlias = Callable[[str, tuple[Any, ...], WaypostError], Awaitable[None] | None]
"""Called with an event, its arguments and the error, when the event will never be delivered."""

_MEBIBYTE = 1 << 20
_AUTH = rule_of(Annotated[Auth, Secret()])
_PROXY = 'the URL of an HTTP proxy, "environment"'


def _is_proxy(proxy: str) -> bool:
    return proxy == "environment" or proxy.startswith(("http://", "https://"))


@checked("waypost.Client")
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

    auth: Annotated[Auth, Secret()] = None
    namespace: ServedPath | None = None
    path: ServedPath = "/socket.io/"
    headers: Annotated[Headers, Secret()] = None
    query: Annotated[Mapping[str, str] | None, Secret()] = None
    cookies: Annotated[Mapping[str, str] | None, Secret()] = None
    ssl: SSLContext | None = None
    proxy: Annotated[str, Matching(_PROXY, _is_proxy), Secret()] | None = "environment"
    transports: Annotated[Sequence[Transport], SOME_TRANSPORTS] = ("websocket", "polling")
    connector: Connector | None = None
    upgrade: bool = True
    try_all_transports: bool = True
    remember_upgrade: bool = False
    reconnection: bool = True
    reconnection_attempts: Count | None = None
    reconnection_delay_s: Positive = 1
    reconnection_delay_max_s: Positive = 5
    reconnection_jitter: Share = 0.5
    connect_timeout_s: Positive = 20
    ack_timeout_s: Positive = 60
    retries: CountOrZero = 0
    outbox: FilePath | None = None
    outbox_max_events: Count = 100_000
    outbox_max_bytes: Count = 256 * _MEBIBYTE
    outbox_retries: CountOrZero | None = None
    state: FilePath | None = None
    on_undelivered: Undelivered | None = None
    parser: Literal["json", "msgpack"] | Parser = "json"
    max_payload_bytes: Count = 16 * _MEBIBYTE
    max_attachments: CountOrZero = 100
    max_pending_events: Count = 1_000
    max_buffered_events: Count = 10_000
    max_buffered_bytes: Count = 16 * _MEBIBYTE

    def __post_init__(self) -> None:
        if self.outbox is not None and self.retries:
            raise ConfigurationError("retries", self.retries, "0 with an outbox, which has outbox_retries")


def check_auth(auth: object) -> None:
    """Raise `ConfigurationError` for an ``auth`` that can't be one, without showing it."""
    check("auth", auth, _AUTH)


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
    transports: Sequence[Transport]
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
    parser: Literal["json", "msgpack"] | Parser
    max_payload_bytes: int
    max_attachments: int
    max_pending_events: int
    max_buffered_events: int
    max_buffered_bytes: int
