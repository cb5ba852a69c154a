"""The options of a client with their defaults, checked when they are made."""

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
from waypost.protocol.codec import check_json_default
from waypost.protocol.custom_parser import Parser
from waypost.protocol.rich_json import JsonDefault

__all__ = ["Auth", "ClientOptions", "Headers", "Options", "Undelivered", "check_auth"]

Credentials: TypeAlias = Mapping[str, Any] | None
Auth: TypeAlias = Credentials | Callable[[], Credentials] | Callable[[], Awaitable[Credentials]]
"""The auth payload: a mapping, or a function that returns one and is called at every attempt."""

Headers: TypeAlias = Mapping[str, str] | Callable[[], Mapping[str, str]] | None
"""HTTP headers: a mapping, or a function that returns one and is called at every attempt."""

Undelivered: TypeAlias = Callable[[str, tuple[Any, ...], WaypostError], Awaitable[None] | None]
"""A function of an event's name, its arguments and the error, called when the event will never be delivered."""

_MEBIBYTE = 1 << 20
_AUTH = rule_of(Annotated[Auth, Secret()])
_PROXY = 'the URL of an HTTP proxy, "environment"'


def _is_proxy(proxy: str) -> bool:
    return proxy == "environment" or proxy.startswith(("http://", "https://"))


@checked("waypost.Client")
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a `waypost.Client`.

    Attributes:
        auth: The auth payload for the server: a mapping, or a function (``def`` or ``async def``) that returns one
            and is called at every attempt to connect.
        namespace: The namespace to join; ``None`` for the path of the URL, which is ``/`` if the URL has none.
        path: The server's path.
        headers: HTTP headers, such as ``Authorization``: a mapping, or a function that returns one and is called at
            every attempt to connect.
        query: Further parameters of the URL's query.
        cookies: Cookies for the server. The server's own cookies are kept as long as the client, and sent with every
            later request, WebSockets included.
        ssl: The TLS context, which verifies the server and may have a client certificate; ``None`` for the system's
            defaults, which verify.
        proxy: The URL of an HTTP proxy, credentials included; ``"environment"`` to use ``HTTPS_PROXY``,
            ``HTTP_PROXY`` and ``NO_PROXY``; ``None`` for no proxy.
        transports: The transports to use; the first one is tried first.
        connector: Opens WebSockets instead of the network, for tests; see `waypost.testing`. Polling, cookies, TLS
            and proxies still use the network.
        upgrade: Whether to upgrade from polling to a WebSocket, if both sides can.
        try_all_transports: Whether to try the next transport when the first one gets no connection.
        remember_upgrade: Whether to start with a WebSocket, once a connection was upgraded.
        reconnection: Whether to reconnect when the connection is lost.
        reconnection_attempts: The number of attempts before the client gives up, from 1; ``None`` for no limit.
        reconnection_delay_s: Seconds before the first attempt; they double with each attempt.
        reconnection_delay_max_s: The most seconds before any attempt.
        reconnection_jitter: The share by which a delay may vary, from 0 to 1.
        connect_timeout_s: Seconds that one transport has to open a connection, and that the server then has to answer
            CONNECT.
        ack_timeout_s: Seconds that `Client.call` waits by default; with ``retries``, seconds that each attempt waits.
        retries: The number of times that an event is sent again if no acknowledgement arrives in time; not with
            ``outbox``. Above 0, events are sent one at a time, each after the acknowledgement of the one before; the
            server must acknowledge all.
        outbox: A file, created if it does not exist, that keeps emitted events until the server has acknowledged
            them. They survive a crash of this process, and a Waypost server handles each once. One client at a time
            may have the file open.
        outbox_max_events: The most events in the outbox; more raise `OutboxFull`.
        outbox_max_bytes: The most bytes of events in the outbox; more raise `OutboxFull`.
        outbox_retries: The number of times that an event of the outbox is sent again if its handler raised, or no
            acknowledgement arrived in time; then it is given up. ``None`` for no limit. Lost connections do not
            count.
        state: A file that keeps the ids of handled messages of queues, so that none is handled again after a crash of
            this process. ``None`` for the file of ``outbox``, or for memory without one.
        on_undelivered: Called when an emitted event is given up: ``async def``, or ``def`` to run in a thread. It may
            use the client, but not close it. With ``outbox``, the event stays in the file until the function has
            returned, and later events wait; after a crash in the meantime it is called again. An exception is logged.
            Without this option the event is only logged.
        parser: The encoding of packets; the same as the server's.
        json_default: Called with a value of a type that packets can't carry, such as `decimal.Decimal`, a set, a
            `pathlib.Path` or numpy's; it returns what stands for the value, or raises `TypeError`. Dataclasses,
            `msgspec.Struct` and pydantic models need none. With the parser ``"msgpack"``, decimals and sets need
            none either: they become text and lists. Not for an own parser.
        max_payload_bytes: The largest message that the client accepts, and the most bytes of one event's attachments.
        max_attachments: The most binary attachments of one event or acknowledgement from the server; with the parser
            ``"json"`` also to it. Official servers read no more than 10; Waypost's have an option of the same name.
        max_pending_events: The number of waiting events at which reading from the connection pauses. While an
            acknowledgement is awaited, it is ten times as many, because the acknowledgement has to be read.
        max_pending_bytes: The most bytes that events take in memory, waiting ones and those that are being handled;
            at more, the next message is not decoded yet. While an acknowledgement is awaited, it is ten times as
            many. A decoded message takes up to 48 times the bytes of its JSON (``[]``, ``{}``). A single event may
            exceed the limit, if there is no other.
        max_buffered_events: The most emitted events that wait to be sent, without a connection or on a slow one.
        max_buffered_bytes: The most bytes of emitted events that wait to be sent.

    Raises:
        ConfigurationError: An option has a value that it does not accept.
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
    json_default: JsonDefault | None = None
    max_payload_bytes: Count = 16 * _MEBIBYTE
    max_attachments: CountOrZero = 10
    max_pending_events: Count = 1_000
    max_pending_bytes: Count = 64 * _MEBIBYTE
    max_buffered_events: Count = 10_000
    max_buffered_bytes: Count = 16 * _MEBIBYTE

    def __post_init__(self) -> None:
        if self.outbox is not None and self.retries:
            raise ConfigurationError("retries", self.retries, "0 with an outbox, which has outbox_retries")
        check_json_default(self.json_default, self.parser)


def check_auth(auth: object) -> None:
    """Check a value for ``auth``; the error does not show it.

    Raises:
        ConfigurationError: The value is no auth payload.
    """
    check("auth", auth, _AUTH)


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of `waypost.Client`; `Options` describes each."""

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
    json_default: JsonDefault | None
    max_payload_bytes: int
    max_attachments: int
    max_pending_events: int
    max_pending_bytes: int
    max_buffered_events: int
    max_buffered_bytes: int
