"""The options of a server with their defaults, checked when they are made."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Annotated, Any, Literal, TypeAlias, TypedDict

from waypost.checking.constraints import (
    SOME_TRANSPORTS,
    AtLeast,
    AtMost,
    Count,
    CountOrZero,
    FilePath,
    Matching,
    Positive,
    PositiveOrZero,
    ServedPath,
    Suggesting,
    Transport,
)
from waypost.checking.options import checked
from waypost.errors import ConfigurationError
from waypost.protocol.allowed_origins import NO_SITE, OriginRule, is_rule, suggest_rules
from waypost.protocol.codec import check_json_default
from waypost.protocol.custom_parser import Parser
from waypost.protocol.rich_json import JsonDefault
from waypost.server.basics.handshake import Handshake
from waypost.server.connections.addresses import TrustedProxies
from waypost.server.connections.cookie import Cookie
from waypost.server.queues.options import QueueOptions
from waypost.server.recovery.options import Recovery
from waypost.storage.base import ANSWER_TTL_S, PATIENCE_S, RESERVE_BYTES, Durability
from waypost.storage.choose import check_store
from waypost.typed.handlers import check_handler

__all__ = ["Options", "ServerOptions", "handshake_cookie"]

_MEBIBYTE = 1 << 20
_StoreName: TypeAlias = Annotated[FilePath, Matching('"memory:" or the path of a file', lambda name: True)]
# Clients get whole milliseconds. A browser's timer waits for interval plus timeout, and is limited to 2**31 ms.
_Heartbeat: TypeAlias = Annotated[float, AtLeast(0.001), AtMost(1_000_000)]
# Browsers send origins with a scheme and without a path; another one would never match.
_Origin: TypeAlias = Annotated[str, Matching("an origin", is_rule)]
_Rules: TypeAlias = (
    Literal["*"]
    | Sequence[_Origin | re.Pattern[str] | Callable[[str], bool]]
    | re.Pattern[str]
    | Callable[[str], bool]
    | None
)
_ALLOWED_ORIGINS = (
    '"*", a list of origins such as https://example.com, https://*.example.com or http://localhost:*, of patterns or'
    " functions, or None"
)
_AllowedOrigins: TypeAlias = Annotated[
    _Rules, Matching(_ALLOWED_ORIGINS, lambda rules: True), Suggesting(suggest_rules)
]


@checked("waypost.Server")
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a `waypost.Server`.

    Attributes:
        store: The store of events, sessions and queues: ``"memory:"``, or the path of an SQLite file as text or
            `pathlib.Path`.
        durability: ``"commit"``: an event is sent, and ``await emit`` returns, once it is on disk. ``"async"``: it is
            sent at once and is on disk within 50 ms; a crash may lose the last events, and every client is notified
            of that. Queues wait for the disk in both.
        path: The server's path, with a trailing slash.
        transports: The enabled transports: ``"polling"``, ``"websocket"`` or both.
        allow_upgrades: Whether polling clients may upgrade to a WebSocket, if both transports are enabled.
        ping_interval_s: Seconds between heartbeats, from 0.001 to 1,000,000: clients use whole milliseconds, and
            browsers have no longer timers.
        ping_timeout_s: Seconds that a client has to answer a heartbeat; the same range.
        upgrade_timeout_s: Seconds that an upgrade to a WebSocket may take.
        connect_timeout_s: Seconds that a connection may stay without a namespace.
        max_payload_bytes: The largest request body or WebSocket message that is accepted, in bytes.
        initial_packet: An Engine.IO message that each client gets right after the open packet, or ``None``.
        allow_eio3: Whether to accept Engine.IO 3, for clients of Socket.IO 2. They do not recover. The id of their
            sockets is the session's secret, so do not show it to other users.
        allow_jsonp: Whether to accept JSONP polling, for browsers before 2012. A script is fetched without an
            ``Origin``, so any page could connect with its visitor's cookies: only for servers that do not trust
            cookies.
        max_attachments: The most binary attachments of one event or acknowledgement from a client; with the parser
            ``"json"`` also to one. Official clients read no more than 10.
        max_auth_bytes: The most bytes that a client's auth for one namespace takes in memory; more is refused.
        max_buffered_bytes: The most bytes that may wait for a slow client; more disconnects it. It can recover what
            it missed.
        max_stalled_s: Seconds that frames may wait for a client that takes none; longer disconnects it.
        max_messages_per_s: The most packets per second of one client, attachments and heartbeats counted too. We stop
            reading from a faster client for a while; one that exceeds the rate by far is disconnected. ``None`` for
            no limit.
        max_pending_events: The number of one socket's waiting events at which reading from its connection pauses.
        max_pending_bytes: The most bytes that the events of one connection take in memory, waiting ones and those
            that are being handled; at more, reading from it pauses. A decoded event takes up to 48 times the bytes of
            its JSON (``[]``, ``{}``), so a single event may take 48 times ``max_payload_bytes`` on top.
        cors_allowed_origins: The foreign origins whose pages may connect. ``None`` allows none, ``"*"`` all. Else a
            list of origins (``"https://app.example.com"``), origins with any subdomain (``"https://*.example.com"``,
            without ``example.com`` itself) or any port (``"http://localhost:*"``), compiled patterns, which match the
            whole origin, and functions (``def``) of the origin, which should be quick. One pattern or function may
            stand alone. ``"null"``, the origin of files and sandboxed frames, needs ``cors_credentials=False``.
        cors_credentials: Whether pages of listed origins may send cookies and HTTP authentication.
        cors_max_age_s: Seconds for which a browser may cache the response to a preflight.
        allow_request: Awaited with the handshake before a connection is opened. If it returns False or raises
            `ConnectionRefused`, the request gets HTTP 403. ``None`` allows all requests.
        cookie: The cookie that the response to a handshake sets: a `Cookie`, or its name; ``None`` for none.
        http_compression: Whether to compress responses to polls for clients that accept it.
        http_compression_threshold_bytes: The smallest response that is compressed, in bytes.
        websocket_compression: Whether uvicorn may compress WebSocket messages (per-message deflate). A small message
            can become a large one that way; every limit counts the large one. Clients that use it are served by
            uvicorn's own protocol, which is slower.
        serve_client: Whether to serve the official JavaScript client, as ``socket.io.js`` under ``path``.
        trusted_proxies: Addresses or networks of the proxies whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are
            trusted; ``"unix"`` for one that comes over a unix socket.
        max_connections_per_address: The most connections of one client address; loopback is not counted.
        max_handshakes_per_address: The most of them that have not joined a namespace yet.
        post_timeout_s: Seconds that an empty POST may take; each kilobyte received adds one second.
        ack_timeout_s: Seconds that `Socket.call` waits by default.
        stop_timeout_s: Seconds for which a stop waits for functions of queues (`Server.consumer`) that run, while
            clients are served. Handlers of events get what is left of it afterwards, and 5 s at least.
        drain_s: Seconds over which a stop spreads its disconnects, so that not all clients reconnect at once.
        handler_threads: The most ``def`` handlers that run at the same time.
        concurrent_handlers: The most handlers with ``concurrent=True`` of one socket that run at the same time;
            further events of the socket wait.
        handler_grace_s: Seconds for which the handlers of a socket that has ended are waited for, before its
            disconnect handlers are called, and then the connect handlers for the same client's next connection. A
            handler that takes longer runs on.
        recovery: The recovery options; ``None`` turns recovery off.
        parser: The encoding of packets; clients must use the same. ``"json"``; ``"msgpack"``, which is npm's
            ``socket.io-msgpack-parser``; or the application's own `waypost.Parser`.
        json_default: Called with a value of a type that packets can't carry, such as `decimal.Decimal`, a set, a
            `pathlib.Path` or numpy's; it returns what stands for the value, or raises `TypeError`. Dataclasses,
            `msgspec.Struct` and pydantic models need none. With the parser ``"msgpack"``, decimals and sets need
            none either: they become text and lists. Not for an own parser.
        answer_ttl_s: Seconds for which the store keeps the answer to an event of a client's durable outbox, unless
            the client confirms it earlier. A client that is away for longer may have an event handled twice.
        max_answer_bytes: The most bytes of such answers that the store keeps, each counted with 256 bytes on top. At
            more, the oldest answers of the address or account with the most bytes are given up; a client that repeats
            such an event is told that it was handled, and that its answer is gone.
        max_answer_bytes_per_address: The most bytes of the answers to one address, or one account; loopback addresses
            are not counted. At more, its oldest answers are given up.
        answer_account: Returns the account of a socket, such as its user's id, whose answers are then counted
            together, instead of those of its address; ``None`` for a socket that has none. A ``def`` function that
            does not wait, called on the event loop.
        disk_reserve_bytes: The bytes that emits leave free on the store's disk, so that clients can still come in and
            what waits can be delivered and acknowledged; 0 to use all of the disk. In memory it has no effect.
        max_namespaces: The most namespaces of one connection at the same time.
        max_child_namespaces: The most namespaces that clients may create, under all parents together.
        max_child_namespaces_per_address: The most of them that clients of one address may have created; loopback
            is not counted.
        cleanup_empty_child_namespaces: Whether to remove a child namespace that has no clients and no sessions;
            checked every 10 s.
        queues: The default options of queues; `Queue.configure` overrides them.
        consumer_ttl_s: Seconds without a socket or worker after which a queue's consumer ends.
        metrics_queues: The names of queues that `Server.metrics` shows alone; with ``*`` at the end, the beginnings
            of names. Other queues are shown together with all whose names are the same up to the first colon, as
            ``inbox:*``.
        store_wait_s: Seconds for which a start waits while another process has the store's file open: the one before,
            which is being stopped. Then it raises `StoreBusy`.
        store_patience_s: Seconds for which each write to a store in a file waits while another program holds its
            lock; then it raises `StorageError`.
        store_copy_before_upgrade: Whether to keep a copy of the store's file, ``<file>-v<format>``, before its format
            is changed. An older Waypost can read the copy, and the file no more.

    Raises:
        ConfigurationError: An option has a value that it does not accept.
    """

    store: _StoreName = "memory:"
    durability: Durability = "commit"
    path: ServedPath = "/socket.io/"
    transports: Annotated[Sequence[Transport], SOME_TRANSPORTS] = ("polling", "websocket")
    allow_upgrades: bool = True
    ping_interval_s: _Heartbeat = 25
    ping_timeout_s: _Heartbeat = 20
    upgrade_timeout_s: Positive = 10
    connect_timeout_s: Positive = 45
    max_payload_bytes: Count = 1_000_000
    initial_packet: str | bytes | None = None
    allow_eio3: bool = False
    allow_jsonp: bool = False
    max_attachments: CountOrZero = 10
    max_auth_bytes: Count = 65_536
    max_buffered_bytes: Count = _MEBIBYTE
    max_stalled_s: Positive = 10
    max_messages_per_s: Annotated[float, AtLeast(0.001)] | None = None
    max_pending_events: Count = 1_000
    max_pending_bytes: Count = 16 * _MEBIBYTE
    cors_allowed_origins: _AllowedOrigins = None
    cors_credentials: bool = True
    cors_max_age_s: CountOrZero = 600
    allow_request: Callable[[Handshake], Awaitable[bool]] | None = None
    cookie: Cookie | str | None = None
    http_compression: bool = True
    http_compression_threshold_bytes: CountOrZero = 1024
    websocket_compression: bool = False
    serve_client: bool = True
    trusted_proxies: Sequence[str] = ()
    max_connections_per_address: Count = 10_000
    max_handshakes_per_address: Count = 2_000
    post_timeout_s: Positive = 15
    ack_timeout_s: Positive = 60
    stop_timeout_s: PositiveOrZero = 30
    drain_s: PositiveOrZero = 1
    handler_threads: Count = 16
    concurrent_handlers: Count = 16
    handler_grace_s: Positive = 10
    recovery: Recovery | None = field(default_factory=Recovery)
    parser: Literal["json", "msgpack"] | Parser = "json"
    json_default: JsonDefault | None = None
    max_namespaces: Count = 100
    max_child_namespaces: CountOrZero = 10_000
    max_child_namespaces_per_address: CountOrZero = 100
    cleanup_empty_child_namespaces: bool = True
    queues: QueueOptions = field(default_factory=QueueOptions)
    answer_ttl_s: Positive = ANSWER_TTL_S
    max_answer_bytes: Count = 256 * _MEBIBYTE
    max_answer_bytes_per_address: Count = 16 * _MEBIBYTE
    answer_account: Callable[[Any], str | None] | None = None
    disk_reserve_bytes: CountOrZero = RESERVE_BYTES
    consumer_ttl_s: Positive = 30 * 24 * 3600
    metrics_queues: Annotated[Sequence[str], Matching("a list of names of queues, none of them empty", all)] = ()
    store_wait_s: PositiveOrZero = 40
    store_patience_s: Positive = PATIENCE_S
    store_copy_before_upgrade: bool = False

    def __post_init__(self) -> None:
        check_store(self.store)
        TrustedProxies(self.trusted_proxies)
        handshake_cookie(self)
        ask = self.allow_request
        if ask is not None and not check_handler("allow_request", ask, 1).is_async:
            raise ConfigurationError("allow_request", ask, "an async function")
        self._check_origins()
        check_json_default(self.json_default, self.parser)
        account = self.answer_account
        if account is not None and check_handler("answer_account", account, 1).is_async:
            raise ConfigurationError("answer_account", account, "a plain function (def)")

    def _check_origins(self) -> None:
        allowed = self.cors_allowed_origins
        for rule in allowed if isinstance(allowed, Sequence) else (allowed,):
            if rule == NO_SITE and self.cors_credentials:
                expected = 'no "null" without cors_credentials=False: any site can make a page of that origin'
                raise ConfigurationError("cors_allowed_origins", allowed, expected)
            if callable(rule) and check_handler("cors_allowed_origins", rule, 1).is_async:
                raise ConfigurationError("cors_allowed_origins", rule, "a plain function (def) of the origin")


def handshake_cookie(options: Options) -> Cookie | None:
    """Return the cookie that the response to a handshake sets, or ``None``.

    Raises:
        ConfigurationError: The cookie's name is not valid.
    """
    return Cookie(name=options.cookie) if isinstance(options.cookie, str) else options.cookie


class ServerOptions(TypedDict, total=False):
    """The keyword arguments of `waypost.Server`; `Options` describes each."""

    store: str | PathLike[str]
    durability: Durability
    path: str
    transports: Sequence[Transport]
    allow_upgrades: bool
    ping_interval_s: float
    ping_timeout_s: float
    upgrade_timeout_s: float
    connect_timeout_s: float
    max_payload_bytes: int
    initial_packet: str | bytes | None
    allow_eio3: bool
    allow_jsonp: bool
    max_attachments: int
    max_auth_bytes: int
    max_buffered_bytes: int
    max_stalled_s: float
    max_messages_per_s: float | None
    max_pending_events: int
    max_pending_bytes: int
    cors_allowed_origins: Literal["*"] | Sequence[OriginRule] | re.Pattern[str] | Callable[[str], bool] | None
    cors_credentials: bool
    cors_max_age_s: int
    allow_request: Callable[[Handshake], Awaitable[bool]] | None
    cookie: Cookie | str | None
    http_compression: bool
    http_compression_threshold_bytes: int
    websocket_compression: bool
    serve_client: bool
    trusted_proxies: Sequence[str]
    max_connections_per_address: int
    max_handshakes_per_address: int
    post_timeout_s: float
    ack_timeout_s: float
    stop_timeout_s: float
    drain_s: float
    handler_threads: int
    concurrent_handlers: int
    handler_grace_s: float
    recovery: Recovery | None
    parser: Literal["json", "msgpack"] | Parser
    json_default: JsonDefault | None
    max_namespaces: int
    max_child_namespaces: int
    max_child_namespaces_per_address: int
    cleanup_empty_child_namespaces: bool
    queues: QueueOptions
    answer_ttl_s: float
    max_answer_bytes: int
    max_answer_bytes_per_address: int
    answer_account: Callable[[Any], str | None] | None
    disk_reserve_bytes: int
    consumer_ttl_s: float
    metrics_queues: Sequence[str]
    store_wait_s: float
    store_patience_s: float
    store_copy_before_upgrade: bool
