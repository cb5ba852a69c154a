"""The client: it connects, stays connected, and hands what arrives to the application's functions."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from waypost.client.connection import Connection
from waypost.client.handlers import Delivery, Dispatcher, Handlers
from waypost.client.options import ClientOptions, Options, endpoint
from waypost.client.session import Session
from waypost.errors import ConfigurationError, ConnectFailed, ConnectionRefused
from waypost.protocol.engineio import Frame
from waypost.protocol.packet import Packet, PacketType
from waypost.protocol.reconnect import Backoff

__all__ = ["Client"]

_LEAVE_TIMEOUT_S = 2.0
_MAX_EARLY_PACKETS = 10_000
_LAST_WORDS = {
    PacketType.DISCONNECT: "io server disconnect",
    PacketType.CONNECT: "parse error",
    PacketType.CONNECT_ERROR: "parse error",
}

logger = logging.getLogger("waypost.client")

F = TypeVar("F", bound=Callable[..., Any])


class Client:
    """A Socket.IO client for asyncio.

    ::

        client = waypost.Client("https://example.com", auth={"token": "…"})

        @client.event
        async def pickup(parcel):
            return "accepted"

        await client.connect()
        await client.emit("ready", 7)
        where = await client.call("where is", "parcel 12")

    Once connected, it reconnects by itself when the connection is lost, and goes on where it was if the server has
    recovery: events missed meanwhile are handled in order, each once. It stays away when the server disconnects
    or refuses it.

    Handlers may be ``async def`` or ``def`` (run in a thread); they run in the order of arrival, one at a time. What
    one returns is the acknowledgement, if the server asked for one: a tuple is several arguments, anything else one,
    ``None`` none. When it raises, that is logged, and the acknowledgement is ``{"nack": "<type of the exception>"}``.
    Three handlers are called by the client itself: ``connect()`` after every connection, ``disconnect(reason)`` with
    the reason in Socket.IO's words, and ``connect_error(error)`` with a `ConnectFailed` for every attempt to
    reconnect that failed.

    Args:
        url: The server, such as ``https://example.com``; a query in it is sent along.
        **options: See `waypost.client.options.Options`.

    Raises:
        ConfigurationError: An option, or the URL, can't be what it is.
    """

    def __init__(self, url: str, **options: Unpack[ClientOptions]) -> None:
        for name, value in options.items():
            if name not in Options.__slots__:
                raise ConfigurationError(name, value, f"one of the options {', '.join(Options.__slots__)}")
        self._options = Options(**options)
        endpoint(url, self._options.path)
        self._url = url
        self._handlers = Handlers()
        self._session = Session(self._options)
        self._lifecycle = asyncio.Lock()
        self._main: asyncio.Task[None] | None = None
        self._dispatcher: Dispatcher | None = None
        self._dispatching: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a connection that the server has accepted."""
        return self._session.sid is not None

    @property
    def sid(self) -> str | None:
        """The id of this client's socket on the server; ``None`` while not connected."""
        return self._session.sid

    @property
    def recovered(self) -> bool:
        """Whether the last connection went on where the one before had ended, with nothing missed."""
        return self._session.recovered

    @overload
    def on(self, event: str) -> Callable[[F], F]: ...
    @overload
    def on(self, event: str, handler: F) -> F: ...
    def on(self, event: str, handler: F | None = None) -> F | Callable[[F], F]:
        """Register the function that handles an event; an earlier one is replaced.

        Args:
            event: The event's name.
            handler: The function; without it, this is a decorator.

        Returns:
            The function, or the decorator.

        Raises:
            ConfigurationError: It is no function.
        """

        def register(function: F) -> F:
            self._handlers.add(event, function)
            return function

        return register if handler is None else register(handler)

    def event(self, function: F) -> F:
        """Register a function as the handler of the event that has its name.

        Args:
            function: The function.

        Returns:
            The function.
        """
        return self.on(function.__name__, function)

    async def connect(self) -> None:
        """Connect to the server, and stay connected from then on; does nothing if that is so already.

        Raises:
            ConnectFailed: There was no connection, or the server refused this client; ``data`` is what it sent along.
        """
        async with self._lifecycle:
            if self._main is not None and not self._main.done():
                return
            try:
                connection = await self._establish()
            except ConnectionRefused as refusal:
                raise ConnectFailed(self._url, refusal.message, refusal.data) from refusal
            self._dispatcher = Dispatcher(
                self._handlers, self._session.codec, self._session.answer, self._options.max_pending_events
            )
            self._dispatching = asyncio.create_task(self._dispatcher.run())
            self._main = asyncio.create_task(self._live(connection, self._dispatcher))

    async def disconnect(self) -> None:
        """Send what waits, leave the server and stay away; does nothing if there is no connection to leave.

        Events that wait for their handlers are dropped; a handler that runs is not waited for.
        """
        async with self._lifecycle:
            if self._main is None or self._main.done() or self._dispatcher is None:
                return
            was_connected = self.connected
            if was_connected:
                leaving = asyncio.create_task(self._session.leave())
                await asyncio.wait((leaving, self._main), timeout=_LEAVE_TIMEOUT_S, return_when="FIRST_COMPLETED")
                leaving.cancel()
            self._main.cancel()
            await asyncio.wait((self._main,))
            self._session.continuity.forget()
            self._dispatcher.drop()
            if was_connected:
                await self._dispatcher.deliver(Delivery("disconnect", ("io client disconnect",)))
            await self._dispatcher.end()

    async def wait_closed(self) -> None:
        """Wait until the client has ended and the last handler has run.

        It ends when it leaves, when the server disconnects or refuses it, and when it has given up reconnecting.
        """
        if self._main is not None and self._dispatching is not None:
            await asyncio.wait((self._main, self._dispatching))
            if not self._main.cancelled():
                self._main.result()

    async def emit(self, event: str, *args: Any) -> None:
        """Send an event.

        Without a connection, it is kept and sent after the next one is there, in order. An event that was handed to a
        connection which then turns out to be dead is lost.

        Delivery: at most once, in order.

        Args:
            event: The event's name.
            *args: Its arguments: whatever JSON can carry, and ``bytes``.

        Raises:
            EncodingFailed: The event can't be encoded.
            NotConnected: There is no connection, and as many events wait as the options allow.
        """
        await self._session.emit(event, args)

    async def call(self, event: str, *args: Any, timeout_s: float | None = None) -> Any:
        """Send an event and await its acknowledgement.

        Delivery: at most once; when this returns, the server has handled it.

        Args:
            event: The event's name.
            *args: Its arguments: whatever JSON can carry, and ``bytes``.
            timeout_s: Seconds to wait, also for a connection; ``None`` for the option ``ack_timeout_s``.

        Returns:
            The acknowledgement's only argument, a tuple of several, or ``None``.

        Raises:
            AckTimeout: There was none in time; an event that was not sent by then won't be.
            EncodingFailed: The event can't be encoded.
            NotConnected: The connection was lost before the acknowledgement came; or there was none, and as many
                events wait as the options allow.
        """
        wait_s = self._options.ack_timeout_s if timeout_s is None else timeout_s
        return await self._session.call(event, args, wait_s)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.disconnect()

    # -------------------------------------------------------------------------------------- connections

    async def _establish(self) -> Connection:
        """Open a connection and join the namespace; raises ConnectFailed or ConnectionRefused."""
        request = await self._request()
        limit_s = self._options.connect_timeout_s
        async with AsyncExitStack() as until_accepted:
            try:
                async with asyncio.timeout(limit_s):
                    connection = await Connection.open(self._url, self._options)
                    until_accepted.push_async_callback(connection.close)
                    answer = await self._join(connection, request)
            except TimeoutError as error:
                raise ConnectFailed(self._url, f"no answer within {limit_s:g} s") from error
            self._accept(answer)
            until_accepted.pop_all()
        return connection

    async def _join(self, connection: Connection, request: tuple[Frame, ...]) -> Packet:
        await connection.send(request)
        early: list[Packet] = []
        while len(early) < _MAX_EARLY_PACKETS and (packet := await connection.receive()) is not None:
            if packet.namespace != self._session.namespace:
                continue
            if packet.type is PacketType.CONNECT:
                connection.unread(early)
                return packet
            if packet.type is PacketType.CONNECT_ERROR:
                raise _refusal(packet)
            early.append(packet)  # Node's server replays before it answers
        raise ConnectFailed(self._url, f"the server did not answer to CONNECT: {connection.reason}")

    def _accept(self, packet: Packet) -> None:
        answer = packet.data or {}
        sid, pid = answer.get("sid"), answer.get("pid")
        if not isinstance(sid, str):
            raise ConnectFailed(self._url, "the server speaks Socket.IO 2, and this client 3 and later")
        self._session.begin(sid, pid if isinstance(pid, str) else None)

    async def _request(self) -> tuple[Frame, ...]:
        auth = self._options.auth
        try:
            credentials = auth() if callable(auth) else auth
            if inspect.isawaitable(credentials):
                credentials = await credentials
            payload = self._session.continuity.request(credentials)
            return self._session.codec.encode_connect(self._session.namespace, payload)
        except Exception as error:
            logger.exception("there is no auth to send")
            raise ConnectFailed(self._url, f"getting auth raised {type(error).__name__}") from error

    async def _live(self, connection: Connection | None, dispatcher: Dispatcher) -> None:
        """Serve one connection after the other."""
        while connection is not None:
            await dispatcher.deliver(Delivery("connect", ()))
            try:
                reason = await self._serve(connection, dispatcher)
            finally:
                self._session.lost()
                await connection.close()
            logger.info("disconnected from %s: %s", self._url, reason)
            await dispatcher.deliver(Delivery("disconnect", (reason,)))
            stays_away = reason == "io server disconnect" or not self._options.reconnection
            connection = None if stays_away else await self._reconnect(dispatcher)
        await dispatcher.end()

    async def _serve(self, connection: Connection, dispatcher: Dispatcher) -> str:
        """Read and write until the connection ends; return the reason."""
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._session.write(connection))
            while (packet := await connection.receive()) is not None:
                if packet.namespace != self._session.namespace:
                    continue
                if packet.type in _LAST_WORDS:
                    connection.reason = _LAST_WORDS[packet.type]
                    break
                await self._take(packet, dispatcher)
            writer.cancel()
        return connection.reason or "transport close"

    async def _take(self, packet: Packet, dispatcher: Dispatcher) -> None:
        session = self._session
        if packet.type is PacketType.ACK and packet.ack_id is not None:
            session.acknowledged(packet.ack_id, packet.data)
        elif packet.type is PacketType.EVENT:
            data = session.take(packet.data, packet.ack_id)
            if data is not None:
                event, *arguments = data
                await dispatcher.deliver(
                    Delivery(event, tuple(arguments), session.namespace, packet.ack_id, session.sid)
                )

    async def _reconnect(self, dispatcher: Dispatcher) -> Connection | None:
        """Try until there is a connection; ``None`` if there will be none."""
        options = self._options
        backoff = Backoff(
            delay_s=options.reconnection_delay_s,
            delay_max_s=options.reconnection_delay_max_s,
            jitter=options.reconnection_jitter,
        )
        while options.reconnection_attempts is None or backoff.attempts < options.reconnection_attempts:
            await asyncio.sleep(backoff.next_s(random.random()))
            try:
                return await self._establish()
            except ConnectionRefused as refusal:
                failure = ConnectFailed(self._url, refusal.message, refusal.data)
                await dispatcher.deliver(Delivery("connect_error", (failure,)))
                return None
            except ConnectFailed as failure:
                logger.info("attempt %d: %s", backoff.attempts, failure)
                await dispatcher.deliver(Delivery("connect_error", (failure,)))
        return None


def _refusal(packet: Packet) -> ConnectionRefused:
    if isinstance(packet.data, str):
        return ConnectionRefused(packet.data)
    return ConnectionRefused(str(packet.data.get("message", "")), packet.data.get("data"))
