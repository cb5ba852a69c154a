"""uvicorn's protocols with the limits that they lack: on headers, pipelined requests, and fragments of messages.

A request's headers must be complete within a time and a size. Otherwise a client that opens connections and sends a
byte now and then, or endless headers, would hold them for ever. Of the requests that a client sends ahead of their
answers, one is answered in each turn of the event loop, and only so many may wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

from waypost.logs import by_client, fields
from waypost.server.connections.addresses import NetworkLimits
from waypost.transports.direct_polling import DirectPolling, Exchange, Polled
from waypost.transports.handover.crossing import Crossing
from waypost.transports.handover.handover import Handover
from waypost.transports.handover.passed import Origin, Passed

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveEvent

__all__ = ["GuardedHttp", "GuardedWebSocket"]

_HEADERS_TIMEOUT_S = 10.0
_REST_TIMEOUT_S = 10.0
"""Seconds that the rest of a body may take whose request is answered already."""
_MAX_HEADER_BYTES = 65_536
_MAX_PIPELINED = 32
"""How many requests may wait for the answers before theirs. Browsers and proxies send none ahead."""
_COMPRESSED_BYTES = 1_024
"""A message of the largest size takes about as many bytes when it is compressed as far as can be."""
_MAX_FRAGMENTS = 16_384
"""Enough for a message of the largest size in frames of 64 bytes. Empty fragments count: they cost memory too."""


class _Refused(Exception):
    """Ends the parsing of a request: its headers are too large, or too many requests wait before it."""


class GuardedHttp(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with limits on a request's headers and on pipelined requests."""

    _header_bytes = 0
    _headers_timer: asyncio.TimerHandle | None = None
    _has_begun = False
    _is_receiving = False
    _awaits_body: tuple[Polled, RequestResponseCycle] | None = None
    _awaits_upgrade = False
    _has_started_one = False
    _running: RequestResponseCycle | None = None
    _rest_timer: asyncio.TimerHandle | None = None
    _network: NetworkLimits | None = None
    handover: Handover | None = None
    arrival: Passed | None = None
    _crossing: Crossing | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit for the first request's headers."""
        super().connection_made(transport)
        if self.arrival is not None and self.arrival.origin is not None:
            self._come_from(self.arrival.origin)
        self._expect_headers()
        polling: DirectPolling | None = getattr(self.app, "_direct_polling", None)
        if polling is not None and self.client is not None:
            raw = transport.get_extra_info("socket")
            if raw is not None:
                polling.descriptors.note(raw.fileno())
            if polling.network.enter(self.client[0]):
                self._network = polling.network
            else:
                self.logger.info(
                    "closed a connection of an address that has too many: max_connections_per_address sets the "
                    "limit; if all clients come through a proxy, name it in trusted_proxies",
                    extra=by_client(fields(address=self.client[0], option="max_connections_per_address")),
                )
                transport.abort()
        if self.handover is not None:
            self._begin_among_workers(self.handover)

    def _begin_among_workers(self, handover: Handover) -> None:
        arrival, self.arrival = self.arrival, None
        self._crossing = Crossing(self, handover, arrival)
        if arrival is not None:
            # Not from within this call: it is no place to stop reading, as a large body does.
            self.loop.call_soon(self._crossing.begin)

    def _come_from(self, origin: Origin) -> None:
        """Take a forwarded connection for what it is where the client has reached the service."""
        self.client, self.server = origin.client, origin.server
        self.scheme = "https" if origin.secure else "http"
        self.ws_protocol_class = cast("Any", partial(_make_from, origin, cast("Any", self.ws_protocol_class)))

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limit."""
        self._have_headers()
        self._have_rest()
        super().connection_lost(exc)
        self._drop_requests()
        self._let_go()

    def data_received(self, data: bytes) -> None:
        """Count the bytes until the headers are complete; a single header that never ends counts too."""
        if self._awaits_upgrade:
            self.logger.info(
                "closed a WebSocket that spoke before its handshake was answered: its client is at fault",
                extra=by_client(),
            )
            self.transport.abort()
            return
        self._is_receiving, self._has_started_one = True, False
        crossing = self._crossing
        try:
            if crossing is None:
                super().data_received(data)
            else:
                crossing.receive(data)
        finally:
            self._is_receiving = False
        if crossing is not None and (crossing.is_over or crossing.waits):
            return
        self._expect_rest()
        if self._awaits_body is not None:
            # The body arrives in parts: leave the request to ASGI.
            (_, cycle), self._awaits_body = self._awaits_body, None
            super()._start_asgi_task(cycle, self.app)
        idle = cast("RequestResponseCycle | None", self.cycle)
        is_between = (
            idle is not None
            and idle.response_complete
            and not (idle.more_body or self.pipeline or self.timeout_keep_alive_task)
            and self.parser is not None
        )
        if self._headers_timer is not None:
            self._header_bytes += len(data)
        elif self._has_begun or is_between:
            # Started late, because almost all headers arrive in one piece and need no timer. Blank lines between
            # requests begin none, but stop uvicorn's patience with a connection that is idle. They are not counted
            # at first: they look like the end of a body whose answer came before it.
            self._expect_headers()
            self._header_bytes = len(data) if self._has_begun else 0
        if self._header_bytes > _MAX_HEADER_BYTES and self._headers_timer and not self.transport.is_closing():
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """Note that a request has begun and its headers are still incomplete."""
        super().on_message_begin()
        self._has_begun = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, and count its size."""
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > _MAX_HEADER_BYTES:
            raise _Refused
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, and stop the time limit."""
        self._have_headers()
        if len(self.pipeline) >= _MAX_PIPELINED:
            self.logger.warning(
                "Closed a connection that sent more than %d requests ahead; the limit is fixed.",
                _MAX_PIPELINED,
                extra=by_client(),
            )
            raise _Refused
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request, but not from within the answer to this one: there may be many."""
        if not self._is_receiving:
            self._expect_rest()
        if not self.pipeline:
            super().on_response_complete()
            if self._crossing is not None and self._crossing.waits:
                self.loop.call_soon(self._crossing.go_on)
            if self._awaits_upgrade:
                self.loop.call_soon(self.handle_websocket_upgrade)
            return
        self.server_state.total_requests += 1
        self.loop.call_soon(self._start_next)

    def _start_next(self) -> None:
        if self.pipeline and not self.transport.is_closing():
            cycle, app = self.pipeline.pop()
            if not self.pipeline:
                self.flow.resume_reading()
            self._start_asgi_task(cycle, app)

    def _should_upgrade(self) -> bool:
        """Return whether a request asks for a WebSocket as RFC 6455 demands (section 4.1)."""
        is_handshake = self.parser.get_method() == b"GET" and self.parser.get_http_version() == "1.1"
        return is_handshake and super()._should_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: any client may send such a request, and it gets a normal response."""

    def handle_websocket_upgrade(self) -> None:
        """Hand over to the WebSocket's protocol, once the requests before it are answered."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        self._awaits_upgrade = bool(self.pipeline) or (cycle is not None and not cycle.response_complete)
        if not self._awaits_upgrade and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            super().handle_websocket_upgrade()
            self._let_go()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self._is_receiving and self._has_started_one:
            # It came in one piece with the one before it, which is answered already.
            self.pipeline.appendleft((cycle, app))
            self.loop.call_soon(self._start_next)
            return
        self._has_started_one = True
        self._running = cycle
        polling: DirectPolling | None = getattr(app, "_direct_polling", None)
        polled = None if polling is None or self.flow.write_paused else polling.take(cast("Exchange", cycle))
        has_come = polled is not None and not (polled.is_post and cycle.more_body)
        if polled is not None and not has_come and self._is_receiving:
            self._awaits_body = polled, cycle
        elif polled is None or not has_come or not polled.begin(self.tasks):
            super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        """Answer a POST whose body arrived in one piece."""
        super().on_message_complete()
        self._have_rest()
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and cycle.response_complete:
            cycle.more_body = False
        if self._awaits_body is not None:
            (polled, posted), self._awaits_body = self._awaits_body, None
            if not polled.begin(self.tasks):
                super()._start_asgi_task(posted, self.app)

    def send_400_response(self, msg: str) -> None:
        """Refuse malformed input with status 400, and too large headers with status 431."""
        # The connection closes now. A request on it that is still open must not write its response.
        self._drop_requests()
        if self._header_bytes <= _MAX_HEADER_BYTES:
            super().send_400_response(msg)
            return
        if not msg:
            # With a message, uvicorn has logged the reason already.
            self.logger.warning(
                "Refused a request whose headers are larger than %d bytes; the limit is fixed.",
                _MAX_HEADER_BYTES,
                extra=by_client(),
            )
        _refuse_headers(self.transport)

    # -- among workers: see `transports.handover.crossing` --------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether a request is not answered completely."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return bool(self.pipeline) or (cycle is not None and not cycle.response_complete)

    @property
    def reads_requests(self) -> bool:
        """Whether what comes is HTTP still, and will be answered."""
        parser = cast("object | None", self.parser)
        return parser is not None and not (self._awaits_upgrade or self.transport.is_closing())

    @property
    def is_in_head(self) -> bool:
        """Whether a request's line or headers have come in part."""
        return self._has_begun

    @property
    def is_in_body(self) -> bool:
        """Whether a request's body has come in part, or is to come."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and cycle.more_body and not self._has_begun

    def parse(self, data: bytes) -> None:
        """Pass bytes to the parser, which starts the requests in them."""
        super().data_received(data)

    def hold(self) -> None:
        """Stop all limits of time: a request waits for its turn to be handed over."""
        self._unset_keepalive_if_required()
        self._have_headers()

    def leave(self) -> None:
        """Let go of the connection: what comes of it goes to another worker."""
        self.hold()
        self._have_rest()
        self.connections.discard(self)
        self._let_go()

    def resume_writing(self) -> None:
        """Note that all, or almost all, is written."""
        super().resume_writing()
        if self._crossing is not None and self._crossing.waits:
            # asyncio's transport must not be closed from within this call.
            self.loop.call_soon(self._crossing.go_on)

    def _expect_rest(self) -> None:
        """Limit the time of the rest of a body whose answer came before it, as that of a refusal does."""
        cycle = self._running
        if cycle is not None and cycle.response_complete and cycle.more_body and self._rest_timer is None:
            self._rest_timer = self.loop.call_later(_REST_TIMEOUT_S, self.transport.close)

    def _have_rest(self) -> None:
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None

    def _let_go(self) -> None:
        """Let go of what refers back to this, so that all of it is freed without the garbage collector."""
        if self._network is not None and self.client is not None:
            self._network.leave(self.client[0])
            self._network = None
        self._crossing = None
        self.parser = None  # type: ignore[assignment]  # as uvicorn's own `connection_lost` does
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None:
            cycle.on_response = _do_nothing

    def _drop_requests(self) -> None:
        """Tell the request that is being answered that its client is gone, and forget those behind it."""
        for cycle in (self._running, cast("RequestResponseCycle | None", self.cycle)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
                cycle.on_response = _do_nothing
        self.pipeline.clear()
        self._running = None

    def _expect_headers(self) -> None:
        if self._headers_timer is None:
            self._header_bytes = 0
            self._headers_timer = self.loop.call_later(_HEADERS_TIMEOUT_S, self._give_up)

    def _have_headers(self) -> None:
        self._has_begun = False
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None
        self._header_bytes = 0

    def _give_up(self) -> None:
        self._headers_timer = None
        if self._has_begun:
            self.logger.info(
                "Closed a connection whose request line and headers did not come within %g s; the limit is fixed.",
                _HEADERS_TIMEOUT_S,
                extra=by_client(),
            )
        self.transport.close()


class GuardedWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol, with limits on fragments and inflated bytes, and an answer to handshakes."""

    _backlog = b""
    _origin: Origin | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over from uvicorn's HTTP protocol."""
        super().connection_made(transport)
        if self._origin is not None:
            self.client, self.server = self._origin.client, self._origin.server
            self.scheme = "wss" if self._origin.secure else "ws"

    def data_received(self, data: bytes) -> None:
        """Take bytes, and refuse an unreadable handshake with status 431: uvicorn would send no response.

        Where messages may be compressed, it takes few bytes at a time, and no more until the application has the
        messages in them: each may be inflated to the largest that is accepted.
        """
        if not self.conn.extensions:
            self._receive(data)
            return
        backlog = self._backlog + data
        while backlog and not self.read_paused and not self.transport.is_closing():
            piece, backlog = backlog[:_COMPRESSED_BYTES], backlog[_COMPRESSED_BYTES:]
            self._receive(piece)
        self._backlog = backlog

    async def receive(self) -> ASGIReceiveEvent:
        """Pass the application the next message, then take more bytes."""
        message = await super().receive()
        if self._backlog and not self.read_paused:
            self.data_received(b"")
        return message

    def _receive(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            self.logger.warning(
                "Refused a WebSocket whose handshake can't be read: its client is at fault.", extra=by_client()
            )
            _refuse_headers(self.transport)

    def handle_cont(self, event: Frame) -> None:
        """Take a fragment of a message."""
        if len(self.frames) < _MAX_FRAGMENTS:
            super().handle_cont(event)
        elif not self.close_sent:
            self.logger.warning(
                "Closed a WebSocket that sent more than %d fragments; the limit is fixed.",
                _MAX_FRAGMENTS,
                extra=by_client(),
            )
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
            self.handle_parser_exception()


def _make_from(origin: Origin, make: Callable[..., Any], **arguments: Any) -> Any:
    """Make the protocol of a WebSocket whose connection another worker forwards."""
    protocol = make(**arguments)
    protocol._origin = origin  # noqa: SLF001  # its own kind, or its faster one
    return protocol


def _do_nothing() -> None:
    pass


def _refuse_headers(transport: asyncio.Transport) -> None:
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    transport.write(head.encode())
    transport.close()
