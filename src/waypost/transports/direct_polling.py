"""Answers polls and POSTs of existing sessions without a task and ASGI messages for each.

It works in ``waypost serve``, where uvicorn calls the server directly. A server that is mounted in another
application gets all requests through ASGI. This module handles only the simple case: a request that opens a session,
a body in several parts, and JSONP go through ASGI. Both ways use the same function for every decision.

One round trip of a poll and a POST takes 210 us of server time here and 272 us through ASGI, on one busy core.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, MutableSet
from http import HTTPStatus
from typing import Any, Protocol

from waypost.errors import ProtocolViolation
from waypost.protocol.handshake import Poll, Post, Request
from waypost.protocol.revision import Payload
from waypost.server.connections.addresses import NetworkLimits
from waypost.server.connections.connection import Connection
from waypost.transports.descriptors import DescriptorWatch
from waypost.transports.http_answer import TEXT, Headers, Scope

__all__ = ["DirectPolling", "Exchange", "Polled", "Surroundings"]


class Exchange(Protocol):
    """A request and its response, as uvicorn keeps them."""

    scope: Scope
    body: bytearray
    more_body: bool
    disconnected: bool
    keep_alive: bool
    response_started: bool
    response_complete: bool
    waiting_for_100_continue: bool
    message_event: Any
    on_response: Callable[[], None]
    transport: asyncio.Transport
    default_headers: list[tuple[bytes, bytes]]


class Surroundings(Protocol):
    """The part of the ASGI transport that direct polling needs."""

    @property
    def network(self) -> NetworkLimits:
        """The limits of network connections by address."""
        ...

    @property
    def descriptors(self) -> DescriptorWatch:
        """Says when the process runs out of file descriptors."""
        ...

    @property
    def max_body_bytes(self) -> int:
        """The largest POST body that the server accepts, in bytes."""
        ...

    def decide(self, scope: Scope) -> tuple[Request, Poll | Post, Connection] | None:
        """Return the decision on a request, if it polls or posts to an existing session."""
        ...

    def cors(self, request: Request) -> Headers:
        """Return the headers that let a foreign page read the response to a request."""
        ...

    def encoding(self, payload: bytes, request: Request) -> str | None:
        """Return the compression for a payload, ``"gzip"`` or ``"deflate"``; ``None`` for no compression."""
        ...

    async def compressed(self, payload: bytes, request: Request, headers: Headers) -> bytes:
        """Compress a payload if the options and the client allow it, and add the matching header."""
        ...


class DirectPolling:
    """Takes requests from uvicorn, and answers the simple ones.

    Args:
        surroundings: The ASGI transport.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    @property
    def network(self) -> NetworkLimits:
        """The limits of network connections by address."""
        return self._surroundings.network

    @property
    def descriptors(self) -> DescriptorWatch:
        """Says when the process runs out of file descriptors."""
        return self._surroundings.descriptors

    def take(self, exchange: Exchange) -> Polled | None:
        """Take a request whose headers are complete; ``None`` leaves the unchanged request to ASGI."""
        if exchange.waiting_for_100_continue:
            return None
        decided = self._surroundings.decide(exchange.scope)
        if decided is None or decided[1].jsonp is not None:
            return None
        request, decision, connection = decided
        return Polled(exchange, request, connection, self._surroundings, is_post=isinstance(decision, Post))


class Polled:
    """One request. It takes the place of the event with which uvicorn notifies a request's task.

    Args:
        exchange: The request as uvicorn keeps it.
        request: The request as the handshake reads it.
        connection: The request's connection.
        surroundings: The ASGI transport.
        is_post: Whether the request is a POST; otherwise it is a poll.
    """

    __slots__ = ("_connection", "_exchange", "_request", "_surroundings", "_tasks", "is_post")

    def __init__(
        self,
        exchange: Exchange,
        request: Request,
        connection: Connection,
        surroundings: Surroundings,
        *,
        is_post: bool,
    ) -> None:
        self.is_post = is_post
        self._exchange = exchange
        self._request = request
        self._connection = connection
        self._surroundings = surroundings
        self._tasks: MutableSet[asyncio.Task[None]]

    def set(self) -> None:
        """Note that the request's state has changed; called by uvicorn."""
        if self._exchange.disconnected and not self._exchange.response_complete:
            self._exchange.response_complete = True
            # All that was sent before has arrived, or there would be no poll that waits.
            self._connection.lose_transport("transport error", client_left=True)

    def begin(self, tasks: MutableSet[asyncio.Task[None]]) -> bool:
        """Answer the request, now or later. The whole body of a POST has arrived.

        Args:
            tasks: The set that keeps references to new tasks.

        Returns:
            False if the body is too large; ASGI then answers the request.
        """
        self._tasks = tasks
        if self.is_post:
            if len(self._exchange.body) > self._surroundings.max_body_bytes:
                return False
            self._post(bytes(self._exchange.body))
        elif self._connection.open_poll():
            self._exchange.message_event = self
            self._look()
        else:
            self._refuse()
        return True

    # -- polls ----------------------------------------------------------------------------------------------

    def _look(self, _changed: asyncio.Future[None] | None = None) -> None:
        if self._exchange.response_complete:
            return
        payload = self._connection.take_payload()
        if payload is None:
            self._connection.next_output().add_done_callback(self._look)
        elif payload.compress and self._surroundings.encoding(payload.body, self._request) is not None:
            self._later(self._compress(payload))
        else:
            self._answer_poll(payload, payload.body, self._surroundings.cors(self._request))

    async def _compress(self, payload: Payload) -> None:
        headers = self._surroundings.cors(self._request)
        body = await self._surroundings.compressed(payload.body, self._request, headers)
        if self._exchange.disconnected:
            self._connection.lose_transport("transport error")
        else:
            self._answer_poll(payload, body, headers)

    def _answer_poll(self, payload: Payload, body: bytes, headers: Headers) -> None:
        if self._exchange.transport.is_closing():
            self._connection.lose_transport("transport error")
            return
        self._answer(200, body, [*headers, ("content-type", payload.content_type), ("cache-control", "no-store")])

    # -- posts ----------------------------------------------------------------------------------------------

    def _post(self, body: bytes) -> None:
        connection = self._connection
        if not connection.begin_post():
            self._refuse()
            return
        try:
            rest = connection.receive_post(body)
        except ProtocolViolation:
            connection.end_post()
            self._refuse()
            return
        if rest is not None:
            self._later(self._accept_rest(rest))
        elif connection.is_readable or not connection.is_open:
            self._accept()
        else:
            # Backpressure: the response waits until the handlers have caught up.
            self._later(self._accept_when_readable())

    async def _accept_rest(self, rest: Coroutine[Any, Any, bool]) -> None:
        try:
            is_taken = await rest
        except ProtocolViolation:
            is_taken = False
        if is_taken:
            await self._accept_when_readable()
        else:
            self._connection.end_post()
            self._refuse()

    async def _accept_when_readable(self) -> None:
        await self._connection.wait_until_readable()
        self._accept()

    def _accept(self) -> None:
        self._connection.end_post()
        self._answer(200, b"ok", [("content-type", "text/html"), *self._surroundings.cors(self._request)])

    # -- answers --------------------------------------------------------------------------------------------

    def _refuse(self) -> None:
        self._answer(400, b"", [("content-type", TEXT), *self._surroundings.cors(self._request)])

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _answer(self, status: int, body: bytes, headers: Headers) -> None:
        exchange = self._exchange
        if exchange.response_complete or exchange.disconnected:
            return
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
        lines += [b"%b: %b" % header for header in exchange.default_headers]
        lines += [f"{name.lower()}: {value}".encode("latin-1") for name, value in headers]
        lines.append(b"content-length: %d" % len(body))
        if not exchange.keep_alive:
            lines.append(b"connection: close")
        exchange.transport.write(b"\r\n".join((*lines, b"", body)))
        exchange.response_started = exchange.response_complete = True
        if not exchange.keep_alive:
            exchange.transport.close()
        exchange.on_response()
