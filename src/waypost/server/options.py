"""What a server can be told: its options with their defaults, checked when it is made."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Annotated, Literal, TypeAlias, TypedDict

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
    Transport,
)
from waypost.checking.options import checked
from waypost.errors import ConfigurationError
from waypost.protocol.custom_parser import Parser
from waypost.server.basics.handshake import Handshake
from waypost.server.connections.addresses import TrustedProxies
from waypost.server.connections.cookie import Cookie
from waypost.server.queues.options import QueueOptions
from waypost.server.recovery.options import Recovery
from waypost.storage.base import ANSWER_TTL_S, Durability
from waypost.storage.choose import check_store
from waypost.typed.handlers import check_handler

__all__ = ["Options", "ServerOptions", "handshake_cookie"]

_MEBIBYTE = 1 << 20
_StoreName: TypeAlias = Annotated[FilePath, Matching('"memory:" or the path of a file', lambda name: True)]
# Clients are told whole milliseconds, and a browser's timer, which waits for both, ends after 2**31 of them.
_Heartbeat: TypeAlias = Annotated[float, AtLeast(0.001), AtMost(1_000_000)]
# An origin with a path, or without a scheme, would be like none that a browser sends.
_Origin: TypeAlias = Annotated[
    str, Matching("origins such as https://example.com", re.compile(r"[A-Za-z][\w.+-]*://[^/?#@\s]+").fullmatch)
]


@checked("waypost.Server")
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything a `waypost.Server` can be told.

    Attributes:
        store: Where events, sessions and queues are kept: ``"memory:"``, or the path of an SQLite file, as text or
            `pathlib.Path`.
        durability: ``"commit"``: an event is sent, and ``await emit`` returns, when it is on disk. ``"async"``: it is
            sent at once and is on disk within 50 ms; a crash may lose the last ones, and every client is told.
            Queues wait for the disk in both.
        path: The path that is served, with a trailing slash.
        transports: The transports that are served.
        allow_upgrades: Offer polling clients to move to WebSocket, where both transports are served.
        ping_interval_s: Seconds between heartbeats, from a thousandth to a million: clients take whole milliseconds,
            and browsers have no timers that are much longer.
        ping_timeout_s: Seconds a client has to answer one; the same range.
        upgrade_timeout_s: Seconds an upgrade to WebSocket may take.
        connect_timeout_s: Seconds a connection may stay without a namespace.
        max_payload_bytes: The largest request body or WebSocket message taken.
        initial_packet: An Engine.IO message that every client gets right after the open packet, or ``None``.
        allow_eio3: Serve Engine.IO 3 too, for Socket.IO 2 clients. They don't recover, and the id of their sockets is
            the session's secret, so it must not be shown to others.
        allow_jsonp: Serve polling as JSONP too, for browsers before 2012. A script is fetched without an ``Origin``,
            so any page could then connect with its visitor's cookies: only for servers that don't trust cookies.
        max_attachments: The most binary attachments of one event.
        max_buffered_bytes: How much may wait for a client that does not read, before it is cut off; it can
            recover what it missed.
        max_stalled_s: Seconds for which something may wait for a client that takes nothing, before it is cut off.
        max_messages_per_s: How many packets a client may send a second, attachments and heartbeats too; one that
            sends faster is read no further for a while, and one far ahead is closed. ``None`` for no limit.
        max_pending_events: How many events of one socket may wait for their handlers before its connection is
            read no further.
        cors_allowed_origins: ``None`` for the same origin only, ``"*"`` for all, or a list of origins.
        cors_credentials: Whether listed pages may send cookies and HTTP authentication along.
        cors_max_age_s: Seconds for which a browser may remember the answer to a preflight.
        allow_request: Asked before a connection is opened, with what the client said of itself: a false answer, or
            raising `ConnectionRefused`, refuses it with HTTP 403. ``None`` asks nobody.
        cookie: The cookie that the answer to a handshake sets: `Cookie`, or its name; ``None`` for none.
        http_compression: Whether answers to polls are compressed for clients that take it.
        http_compression_threshold_bytes: The smallest answer that is compressed.
        serve_client: Whether the official JavaScript client is served too, as ``socket.io.js`` under ``path``.
        trusted_proxies: Addresses or networks of the proxies whose ``X-Forwarded-For`` and ``X-Forwarded-Proto``
            are believed.
        max_connections_per_address: The most connections of one client address; loopback is not counted.
        max_handshakes_per_address: The most of them that have joined no namespace yet.
        post_timeout_s: Seconds that the body of a POST may take, and one more for each kilobyte that has come.
        ack_timeout_s: Seconds that `Socket.call` waits unless it is told otherwise.
        drain_s: Seconds over which a stop spreads its disconnects, so that not all clients return at once.
        handler_threads: How many ``def`` handlers may run at the same time.
        concurrent_handlers: How many handlers of one socket that are registered with ``concurrent=True`` may run at
            the same time; the socket's next events wait.
        recovery: What is kept for clients that come back; ``None`` turns recovery off.
        parser: What packets are written in; clients have to use the same. ``"json"``; ``"msgpack"``, which is
            npm's ``socket.io-msgpack-parser``; or a `waypost.Parser` of the application's own.
        answer_ttl_s: Seconds for which the answer to an event of a client's durable outbox is kept, unless the client
            has it before. A client that is away for longer may have an event handled twice.
        max_namespaces: How many namespaces one connection may be in at the same time.
        max_child_namespaces: How many namespaces there may be that clients made, of all parents together.
        cleanup_empty_child_namespaces: Whether a namespace that a client made is forgotten when nobody is in it and
            nobody can come back to it any more; looked at every 10 s.
        queues: What queues keep and how they deliver, unless `Queue.configure` says otherwise.
        consumer_ttl_s: Seconds without a socket or worker after which a queue's consumer ends.
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
    max_buffered_bytes: Count = _MEBIBYTE
    max_stalled_s: Positive = 10
    max_messages_per_s: Annotated[float, AtLeast(0.001)] | None = None
    max_pending_events: Count = 1_000
    cors_allowed_origins: Literal["*"] | Sequence[_Origin] | None = None
    cors_credentials: bool = True
    cors_max_age_s: CountOrZero = 600
    allow_request: Callable[[Handshake], Awaitable[bool]] | None = None
    cookie: Cookie | str | None = None
    http_compression: bool = True
    http_compression_threshold_bytes: CountOrZero = 1024
    serve_client: bool = True
    trusted_proxies: Sequence[str] = ()
    max_connections_per_address: Count = 10_000
    max_handshakes_per_address: Count = 2_000
    post_timeout_s: Positive = 15
    ack_timeout_s: Positive = 60
    drain_s: PositiveOrZero = 1
    handler_threads: Count = 16
    concurrent_handlers: Count = 16
    recovery: Recovery | None = field(default_factory=Recovery)
    parser: Literal["json", "msgpack"] | Parser = "json"
    max_namespaces: Count = 100
    max_child_namespaces: CountOrZero = 10_000
    cleanup_empty_child_namespaces: bool = True
    queues: QueueOptions = field(default_factory=QueueOptions)
    answer_ttl_s: Positive = ANSWER_TTL_S
    consumer_ttl_s: Positive = 30 * 24 * 3600

    def __post_init__(self) -> None:
        check_store(self.store)
        TrustedProxies(self.trusted_proxies)
        handshake_cookie(self)
        ask = self.allow_request
        if ask is not None and not check_handler("allow_request", ask, 1).is_async:
            raise ConfigurationError("allow_request", ask, "an async function")


def handshake_cookie(options: Options) -> Cookie | None:
    """Return the cookie that a handshake sets.

    Raises:
        ConfigurationError: It has a name that no cookie can have.
    """
    return Cookie(name=options.cookie) if isinstance(options.cookie, str) else options.cookie


class ServerOptions(TypedDict, total=False):
    """The keyword arguments of `waypost.Server`; `Options` says what each means."""

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
    max_buffered_bytes: int
    max_stalled_s: float
    max_messages_per_s: float | None
    max_pending_events: int
    cors_allowed_origins: Literal["*"] | Sequence[str] | None
    cors_credentials: bool
    cors_max_age_s: int
    allow_request: Callable[[Handshake], Awaitable[bool]] | None
    cookie: Cookie | str | None
    http_compression: bool
    http_compression_threshold_bytes: int
    serve_client: bool
    trusted_proxies: Sequence[str]
    max_connections_per_address: int
    max_handshakes_per_address: int
    post_timeout_s: float
    ack_timeout_s: float
    drain_s: float
    handler_threads: int
    concurrent_handlers: int
    recovery: Recovery | None
    parser: Literal["json", "msgpack"] | Parser
    max_namespaces: int
    max_child_namespaces: int
    cleanup_empty_child_namespaces: bool
    queues: QueueOptions
    answer_ttl_s: float
    consumer_ttl_s: float
