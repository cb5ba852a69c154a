"""Waypost as an ASGI application: routing of requests, lifespan, and long-polling over HTTP.

`asgi_websocket` carries WebSockets. Source: ASGI 3, Engine.IO protocol, revision 4 ("HTTP long-polling").
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

from waypost.errors import LimitExceeded, ProtocolViolation, StorageError
from waypost.logs import by_client, fields, get_logger
from waypost.protocol.handshake import (
    HandshakeRules,
    Open,
    Poll,
    Post,
    Preflight,
    Refuse,
    Request,
    cors_headers,
    decide,
    matches_path,
    refusal_body,
)
from waypost.protocol.jsonp import wrap_answer
from waypost.protocol.revision import Payload
from waypost.protocol.websocket import FrameEncoder
from waypost.server.basics.handshake import Handshake
from waypost.server.connections.addresses import NetworkLimits, TrustedProxies
from waypost.server.connections.connection import Connection
from waypost.server.hub import Hub
from waypost.server.options import handshake_cookie
from waypost.transports.access_log import hide_session_ids
from waypost.transports.asgi_uvicorn import turn_off_compression
from waypost.transports.asgi_websocket import FRAMES, Direct, WebSocketCarrier
from waypost.transports.client_files import ClientFiles, client_file
from waypost.transports.descriptors import DescriptorWatch
from waypost.transports.direct_polling import DirectPolling
from waypost.transports.http_answer import (
    TEXT,
    AsgiApplication,
    Headers,
    Message,
    Receive,
    Scope,
    Send,
    choose_encoding,
    compress,
    respond,
)
from waypost.transports.origin_rules import guard_rules
from waypost.transports.refusals import Refusals
from waypost.transports.request_body import discard_body, read_body
from waypost.transports.succession import Succession

__all__ = ["AsgiTransport"]

logger = get_logger("waypost.asgi")

_TOO_LARGE = 413
_TOO_SLOW = 408
_LENGTH_DIGITS = 16
_NAMES = 256
"""How many names of headers are kept once for all. Clients may send any, so there must be an end."""

_OF_ASGI = frozenset({
    "type", "asgi", "http_version", "server", "client", "scheme", "method", "root_path", "path", "raw_path",
    "query_string", "headers", "extensions", "subprotocols", "state",
})  # fmt: skip
"""What the ASGI server puts into a scope. ``state`` counts as middleware's if it is not empty."""


class AsgiTransport:
    """Carries a server's connections over ASGI.

    Args:
        hub: The server's parts.
        other: The ASGI application for all requests outside the server's path; ``None`` answers them with 404.

    Attributes:
        network: Limits the network connections of each address, if uvicorn calls the server directly.
        descriptors: Says when the process runs out of file descriptors.
        direct_polling: Answers polls and POSTs if uvicorn calls the server directly.
    """

    def __init__(self, hub: Hub, other: AsgiApplication | None) -> None:
        self._hub = hub
        self._other = other
        self._rules = HandshakeRules(
            transports=tuple(hub.options.transports),
            cors_allowed_origins=guard_rules(hub.options.cors_allowed_origins, hub.hooks),
            allow_eio3=hub.options.allow_eio3,
            allow_upgrades=hub.options.allow_upgrades,
            allow_jsonp=hub.options.allow_jsonp,
            cors_credentials=hub.options.cors_credentials,
            cors_max_age_s=hub.options.cors_max_age_s,
        )
        self._proxies = TrustedProxies(hub.options.trusted_proxies)
        self._cookie = handshake_cookie(hub.options)
        self._client_files = ClientFiles()
        self._encoder = FrameEncoder()
        self._succession = Succession(hub)
        self._refusals = Refusals(hub.hooks, hub.services.counters, hub.engine, self._succession)
        self.network = NetworkLimits(hub.options.max_connections_per_address, self._proxies)
        hub.numbers.sites["network"] = self.network.open
        self.descriptors = DescriptorWatch()
        self.direct_polling = DirectPolling(self)
        hide_session_ids()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        if scope["type"] != "http" and not self._hub.options.websocket_compression:
            turn_off_compression(receive)
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif matches_path(scope["path"], scope.get("root_path", ""), self._hub.options.path):
            # A mounted application gets no lifespan of its own: the first request starts it.
            try:
                await self._hub.start_for_request()
            except StorageError as problem:
                logger.error("a request finds no store, and gets a 503: %s", problem, extra=by_client())
                await self._answer_unavailable(scope, send)
                return
            await self._serve(scope, receive, send)
        elif (file := self._client_file(scope)) is not None:
            request = self._read_request(scope)
            cors = cors_headers(request, self._rules)
            await self._client_files.answer(file, request.method, request.headers, send, cors)
        elif self._other is not None:
            await self._other(scope, receive, send)
        elif scope["type"] == "http":
            await respond(send, 404, b"Not Found", [("content-type", TEXT)])
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _answer_unavailable(self, scope: Scope, send: Send) -> None:
        if scope["type"] == "http":
            await respond(send, 503, b"Store unavailable", [("content-type", TEXT)])
        else:
            await send({"type": "websocket.close", "code": 1013})

    def _client_file(self, scope: Scope) -> str | None:
        if scope["type"] != "http" or not self._hub.options.serve_client:
            return None
        return client_file(scope["path"], scope.get("root_path", ""), self._hub.options.path)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = self._read_request(scope)
        decision = decide(request, self._rules, self._hub.engine.view)
        if not isinstance(decision, (Poll, Post)):
            handshake = self._handshake(scope, request)
        if isinstance(decision, Open):
            self._succession.begin()
            decision = await self._hub.gate.refusal(handshake) or decision
        if isinstance(decision, Refuse):
            self._refusals.note(decision, handshake)
        if scope["type"] == "websocket":
            direct = self._direct(scope)
            await WebSocketCarrier(self._hub.engine, receive, send, self._cookie, direct).carry(decision, handshake)
            return
        headers = cors_headers(request, self._rules)
        if isinstance(decision, Refuse):
            await respond(
                send,
                decision.status,
                refusal_body(decision),
                [("content-type", "application/json"), *headers],
            )
        elif isinstance(decision, Preflight):
            await respond(send, 204, b"", headers)
        elif isinstance(decision, Open):
            connection = self._hub.engine.open(decision.transport, handshake, decision.revision)
            if self._cookie is not None:
                headers.append(("set-cookie", self._cookie.header(connection.sid)))
            await self._poll(connection, decision.jsonp, request, receive, send, headers)
        elif (connection_or_none := self._hub.engine.get(decision.sid)) is not None:
            if isinstance(decision, Poll):
                await self._poll(connection_or_none, decision.jsonp, request, receive, send, headers)
            elif isinstance(decision, Post):
                await self._post(connection_or_none, decision, request, receive, send, headers)

    def _direct(self, scope: Scope) -> Direct | None:
        """Return the function that takes the WebSocket's frames past ASGI, or ``None``; see `direct_websocket`."""
        hand_over = scope.get("extensions", {}).get(FRAMES)
        if hand_over is None:
            return None
        engine = self._hub.engine
        return partial(
            hand_over, encoder=self._encoder, turn=self._hub.turn, slices=engine.slices, traffic=engine.traffic
        )

    # -- for direct polling ---------------------------------------------------------------------------------

    @property
    def max_body_bytes(self) -> int:
        """The largest POST body that the server accepts, in bytes."""
        return self._hub.options.max_payload_bytes

    def decide(self, scope: Scope) -> tuple[Request, Poll | Post, Connection] | None:
        """Return the decision on a request, if it polls or posts to an existing session; see `direct_polling`."""
        if b"sid=" not in scope["query_string"] or not matches_path(scope["path"], "", self._hub.options.path):
            return None
        request = self._read_request(scope)
        decision = decide(request, self._rules, self._hub.engine.view)
        if not isinstance(decision, (Poll, Post)):
            return None
        connection = self._hub.engine.get(decision.sid)
        return None if connection is None else (request, decision, connection)

    def cors(self, request: Request) -> Headers:
        """Return the headers that let a foreign page read the response to a request."""
        return cors_headers(request, self._rules)

    def encoding(self, payload: bytes, request: Request) -> str | None:
        """Return the compression for a payload, ``"gzip"`` or ``"deflate"``; ``None`` for no compression."""
        options = self._hub.options
        if not options.http_compression or len(payload) < options.http_compression_threshold_bytes:
            return None
        return choose_encoding(request.headers.get("accept-encoding", ""))

    # -- long-polling ---------------------------------------------------------------------------------------

    async def _poll(
        self,
        connection: Connection,
        jsonp: str | None,
        request: Request,
        receive: Receive,
        send: Send,
        headers: Headers,
    ) -> None:
        if not connection.open_poll():
            await respond(send, 400, b"", [("content-type", TEXT), *headers])
            return
        text_only = jsonp is not None
        payload = connection.take_payload(text_only=text_only)
        if payload is None:
            payload = await self._wait_for_payload(connection, receive, text_only=text_only)
        if payload is None:
            return
        may_compress = payload.compress
        if jsonp is not None:
            payload = wrap_answer(jsonp, payload.body)
            headers.append(("x-content-type-options", "nosniff"))
        headers += [("content-type", payload.content_type), ("cache-control", "no-store")]
        body = await self.compressed(payload.body, request, headers) if may_compress else payload.body
        if not await respond(send, 200, body, headers):
            connection.lose_transport("transport error")

    async def _wait_for_payload(self, connection: Connection, receive: Receive, *, text_only: bool) -> Payload | None:
        """Wait for the response to a poll.

        Returns:
            The response, or ``None`` if the client dropped the request. That closes the session, as in Node.
        """
        left = asyncio.ensure_future(_until_disconnected(receive))

        def end(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                # All that was sent before has arrived, or there would be no poll that waits.
                connection.lose_transport("transport error", client_left=True)

        left.add_done_callback(end)
        try:
            while (payload := connection.take_payload(text_only=text_only)) is None and not left.done():
                await connection.wait_for_output()
        except asyncio.CancelledError:
            connection.lose_transport("transport error")
            raise
        finally:
            left.cancel()
        return payload

    async def compressed(self, payload: bytes, request: Request, headers: Headers) -> bytes:
        """Compress a payload if the options and the client allow it, and add the matching header."""
        encoding = self.encoding(payload, request)
        if encoding is None:
            return payload
        headers.append(("content-encoding", encoding))
        return await compress(payload, encoding)

    async def _post(
        self,
        connection: Connection,
        post: Post,
        request: Request,
        receive: Receive,
        send: Send,
        headers: Headers,
    ) -> None:
        if not connection.begin_post():
            await respond(send, 400, b"", [("content-type", TEXT), *headers])
            return
        try:
            body = await self._read_body(request, receive)
            if isinstance(body, int):
                if body == _TOO_LARGE:
                    self._log_too_large(request)
                elif body == _TOO_SLOW:
                    logger.info(
                        "refused a POST whose body came too slowly: post_timeout_s sets the limit",
                        extra=by_client(fields(option="post_timeout_s")),
                    )
                await discard_body(receive)
                await respond(send, body, b"", [("content-type", TEXT), ("connection", "close"), *headers])
                return
            if not (connection.is_open or connection.hears_late):
                # The session ended while the body was read. Its packets were not handled, so "ok" would be wrong.
                await respond(send, 400, b"", [("content-type", TEXT), *headers])
                return
            try:
                rest = connection.receive_post(body, is_form=post.jsonp is not None)
                is_taken = rest is None or await rest
            except ProtocolViolation:
                is_taken = False
            if not is_taken:
                await respond(send, 400, b"", [("content-type", TEXT), *headers])
                return
            # Backpressure: the response waits until the handlers have caught up.
            await connection.wait_until_readable()
            await respond(send, 200, b"ok", [("content-type", "text/html"), *headers])
        finally:
            connection.end_post()

    def _log_too_large(self, request: Request) -> None:
        most = self._hub.options.max_payload_bytes
        length = request.headers.get("content-length", "")
        size = int(length) if length.isascii() and length.isdigit() and len(length) < _LENGTH_DIGITS else most + 1
        logger.warning(
            "refused a POST: %s",
            LimitExceeded("bytes of a body", most, size, "max_payload_bytes"),
            extra=by_client(fields(option="max_payload_bytes")),
        )

    async def _read_body(self, request: Request, receive: Receive) -> bytes | int:
        options = self._hub.options
        return await read_body(
            receive,
            request.headers,
            limit_bytes=options.max_payload_bytes,
            timeout_s=options.post_timeout_s,
            longest_s=options.ping_interval_s + options.ping_timeout_s,
        )

    # -- the rest -------------------------------------------------------------------------------------------

    def _handshake(self, scope: Scope, request: Request) -> Handshake:
        path, peer = scope["path"], _peer(scope)
        origin = request.headers.get("origin")
        host = request.headers.get("host", "")
        return Handshake(
            headers=request.headers,
            query=request.parameters,
            auth={},
            url=f"{path}?{request.query}",
            address=self._proxies.address(peer, request.headers),
            counted_for=peer if self._proxies.hides_client(peer, request.headers) else "",
            secure=request.secure,
            cross_origin=origin is not None and origin.partition("://")[2] != host,
            time=self._hub.environment.wall_time(),
            from_middleware=_added_by_middleware(scope),
        )

    def _read_request(self, scope: Scope) -> Request:
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = _header_name(name), value.decode("latin-1")
            if key in headers:
                # HTTP/2 may send several cookie headers. Source: RFC 9113, section 8.2.3.
                text = f"{headers[key]}{'; ' if key == 'cookie' else ', '}{text}"
            headers[key] = text
        return Request(
            method=scope.get("method", "GET"),
            query=scope["query_string"].decode("latin-1"),
            headers=headers,
            secure=self._proxies.is_secure(_peer(scope), headers, scope.get("scheme", "http")),
            websocket=scope["type"] == "websocket",
        )

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start and close the server together with the application around it."""
        lifespan = _Lifespan(self._hub, receive, send)
        if self._other is None:
            await lifespan.run_alone()
            return
        try:
            await self._other(scope, lifespan.receive, lifespan.send)
        except Exception:
            if lifespan.answered_startup:
                raise
            # ASGI: an application that raises here has no lifespan, and is served all the same.
            logger.debug("the other application takes no lifespan")
            await lifespan.run_alone()


class _Lifespan:
    """The lifespan of an application with a server in it: the server starts first and closes last."""

    def __init__(self, hub: Hub, receive: Receive, send: Send) -> None:
        self.answered_startup = False
        self._hub = hub
        self._receive = receive
        self._send = send
        self._started = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "lifespan.startup":
            await self._hub.start()
            self._started = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"].startswith("lifespan.startup."):
            self.answered_startup = True
        elif message["type"].startswith("lifespan.shutdown."):
            await self._hub.close()
        await self._send(message)

    async def run_alone(self) -> None:
        try:
            if not self._started:
                await self.receive()
        except StorageError as problem:
            await self._send({"type": "lifespan.startup.failed", "message": str(problem)})
            return
        await self._send({"type": "lifespan.startup.complete"})
        await self._receive()
        await self.send({"type": "lifespan.shutdown.complete"})


@lru_cache(_NAMES)
def _header_name(name: bytes) -> str:
    """Read a header's name. Handshakes are kept, and the same names come with each."""
    return name.decode("latin-1").lower()


def _added_by_middleware(scope: Scope) -> Mapping[str, Any] | None:
    """Return the entries that no ASGI server makes. Handshakes are kept, and most requests have no such entries."""
    added = {key: value for key, value in scope.items() if key not in _OF_ASGI or (key == "state" and value)}
    return added or None


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
