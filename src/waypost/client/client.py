"""The public asyncio client."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from waypost.checking.arguments import NAMESPACE, POSITIVE, check
from waypost.client.client_outbox import ClientOutbox
from waypost.client.durable import Durable
from waypost.client.endpoint import parse_url
from waypost.client.lifecycle import ConnectionEvents
from waypost.client.listening import Listening
from waypost.client.manager import Manager
from waypost.client.membership import Membership
from waypost.client.options import Auth, ClientOptions, Options, check_auth
from waypost.client.session import Session
from waypost.client.streams import EventStream
from waypost.errors import ConfigurationError
from waypost.own_loop import OwnLoop
from waypost.typed.answers import AnswerType

__all__ = ["Client", "VolatileEmitter"]

T = TypeVar("T")


class Client(Listening):
    """A Socket.IO client for asyncio, in one namespace.

    ::

        client = waypost.Client("https://example.com", auth={"token": "…"})

        @client.event
        async def pickup(parcel):
            return "accepted"

        await client.connect()
        await client.emit("ready", 7)
        where = await client.call("where is", "parcel 12")

    A connected client reconnects by itself when the connection is lost. If the server has recovery, the client gets
    the missed events in order, each once. It does not reconnect after the server disconnects or refuses it. `of`
    returns the client of another namespace, on the same connection.

    Handlers are ``async def``, or ``def`` to run in a thread. They run in the order of arrival, one at a time. If the
    server asked for an acknowledgement, it is the handler's result: a tuple is several arguments, ``None`` none, any
    other value one. If the handler raises an exception, it is logged, and the acknowledgement is ``{"nack": "<type of
    the exception>"}``; `waypost.Reject` adds a reason and a delay. So a message of a queue is acknowledged when its
    handler returns, and delivered again when the handler raises. A message that was handled before, but whose
    acknowledgement was lost, is acknowledged again without calling the handler.

    Arguments are converted to the annotations of the handler's parameters: a dataclass, a `msgspec.Struct`, a
    pydantic model or a builtin type. An event that does not fit is rejected, and the handler is not called.

    The client itself calls three handlers: ``connect()`` after every connection, ``disconnect(reason, details)`` with
    the reason in Socket.IO's words and a `DisconnectDetails`, and ``connect_error(error)`` with a `ConnectFailed` for
    every failed attempt, unless `connect` raises it.

    A client belongs to the event loop on which it is used first; on another one its methods raise `WrongEventLoop`.

    Args:
        url: The server, such as ``https://example.com``. Its path is the namespace, and its query is sent with every
            request.
        **options: See `waypost.client.options.Options`.

    Raises:
        ConfigurationError: The URL is not valid, an option is unknown, or an option has a value that it does not
            accept.
    """

    def __init__(self, url: str, **options: Unpack[ClientOptions]) -> None:
        checked = Options(**options)
        endpoint, namespace = parse_url(url, path=checked.path, query=checked.query)
        if checked.namespace is not None and namespace not in ("/", checked.namespace):
            raise ConfigurationError("namespace", checked.namespace, f"{namespace}, as the URL says")
        self._url = url
        self._options = checked
        self._manager = Manager(endpoint, url, checked)
        self._durable = Durable(checked)
        self._clients: dict[str, Client] = {}
        self._own_loop = OwnLoop("client")
        self._is_first = True
        self._enter(checked.namespace or namespace, checked.auth)

    @classmethod
    def _beside(cls, first: Client, namespace: str, auth: Auth) -> Client:
        self = cls.__new__(cls)
        self._url = first._url
        self._options = first._options
        self._manager = first._manager
        self._durable = first._durable
        self._clients = first._clients
        self._own_loop = first._own_loop
        self._is_first = False
        self._enter(namespace, auth)
        return self

    def _enter(self, namespace: str, auth: Auth) -> None:
        manager = self._manager
        self._session = Session(
            namespace, auth, self._options, manager.packet_source, manager.flow, self._durable, self._own_loop
        )
        self._handlers = self._session.handlers
        self._member = manager.members[namespace] = Membership(
            self._session, self._url, self._options.max_pending_bytes
        )
        self._clients[namespace] = self

    def __repr__(self) -> str:
        return f"<Client {self._url} {self.namespace}, {'connected' if self.connected else 'not connected'}>"

    # -- where it is ----------------------------------------------------------------------------------------

    @property
    def namespace(self) -> str:
        """The client's namespace."""
        return self._session.namespace

    @property
    def connected(self) -> bool:
        """Whether the server has accepted the client on the current connection."""
        return self._session.sid is not None

    @property
    def active(self) -> bool:
        """Whether the client is connected, or will reconnect by itself."""
        return self._member.wanted

    @property
    def id(self) -> str | None:
        """The id of this client's socket on the server; ``None`` while not connected."""
        return self._session.sid

    @property
    def recovered(self) -> bool:
        """Whether the server recovered the session at the last connect: no event is missing."""
        return self._session.recovered

    @property
    def transport(self) -> str | None:
        """The connection's transport: ``"websocket"`` or ``"polling"``; ``None`` without a connection."""
        return self._manager.transport

    @property
    def outbox(self) -> ClientOutbox:
        """The events of this namespace that wait in the durable outbox.

        Raises:
            ConfigurationError: The client was made without the option ``outbox``.
        """
        if self._session.outbox is None:
            raise ConfigurationError("outbox", None, "a file, when the client is made")
        return ClientOutbox(self._session.outbox)

    @property
    def io(self) -> ConnectionEvents:
        """The events of the connection that all namespaces share, such as attempts to reconnect."""
        return self._manager.events.public

    def of(self, namespace: str, *, auth: Auth = None) -> Client:
        """Return the client of another namespace on the same connection; the same object each time.

        It has its own handlers, socket id, recovery and buffer, and is connected and disconnected by itself.

        Args:
            namespace: The namespace's name, with its leading slash.
            auth: The auth payload from the next attempt on; ``None`` keeps the current one, which at first is the
                option ``auth``.

        Returns:
            The client.

        Raises:
            ConfigurationError: The name or ``auth`` is not valid.
        """
        check("namespace", namespace, NAMESPACE)
        check_auth(auth)
        client = self._clients.get(namespace)
        if client is None:
            return self._beside(self, namespace, auth or self._options.auth)
        if auth is not None:
            self._manager.members[namespace].session.auth = auth
        return client

    # -- events as loops ------------------------------------------------------------------------------------

    def events(self, *names: str) -> EventStream:
        """Return a loop over events: ``async for event in client.events("pickup")``.

        Args:
            *names: The events' names; none for all events.

        Returns:
            The loop. It collects events from now on, so that none is missed before the first iteration.

        Raises:
            ConfigurationError: A name is not valid.

        Delivery: as to a handler, in order. An event that asks for an acknowledgement gets it when the loop asks for
        the next event, unless the event has a handler too.
        """
        options = self._options
        return self._session.streams.open(names, options.max_pending_events, options.max_pending_bytes)

    # -- connecting -----------------------------------------------------------------------------------------

    async def connect(self, *, retry: bool = False, wait: bool = True) -> None:
        """Connect to the server, and stay connected. If the client is connected, nothing happens.

        If cancelled, the client stays disconnected.

        Args:
            retry: Whether to retry a failed attempt, as after a lost connection. A refusal is always final.
            wait: Whether to wait for the connection. Without it this returns at once, for a device that boots
                offline: failed attempts are retried, and events wait in the meantime. Each failure, and a refusal,
                calls ``connect_error``; the connection calls ``connect``.

        Raises:
            ConnectFailed: The client got no connection, or the server refused it; ``data`` has the server's data.
            StorageError: The file of ``outbox`` or ``state`` can't be used, or another client has it open.
            WrongEventLoop: The client was used on another event loop before.
        """
        self._own_loop.enter_or_check("connect")
        if self.connected:
            return
        await self._durable.open()
        if wait:
            await self._manager.join(self._member, patient=retry)
        else:
            self._manager.begin(self._member)

    async def disconnect(self) -> None:
        """Send the waiting events, leave the namespace, and stay disconnected. Without a connection, nothing happens.

        The connection ends with its last namespace. Events that wait for their handlers are dropped. A running
        handler is not awaited.
        """
        self._own_loop.enter_or_check("disconnect")
        if self._member.wanted:
            await self._manager.leave(self._member)
            self._session.streams.end()

    async def close(self) -> None:
        """Leave all namespaces of this connection as `disconnect` does, wait for its end, and close the files.

        Events in the durable outbox stay there; `ClientOutbox.drained` waits for them.
        """
        self._own_loop.enter_or_check("close")
        for client in self._clients.values():
            await client.disconnect()
        await self._manager.ended()
        for member in self._manager.members.values():
            if member.session.outbox is not None:
                await member.session.outbox.stop()
        await self._durable.close()

    async def wait_closed(self) -> None:
        """Wait until the connection has ended and the last handler has returned. May be cancelled.

        Handlers of `io` are included. The connection ends when all its namespaces were left by either side or
        refused, or when the client gives up reconnecting. In a handler, this does not wait for handlers.
        """
        self._own_loop.enter_or_check("wait_closed")
        await self._manager.ended()
        if not (self._session.is_handling or self._manager.events.is_current):
            await self._session.idle()
            await self._manager.events.idle()

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._leave()

    async def _leave(self) -> None:
        await (self.close() if self._is_first else self.disconnect())

    # -- sending --------------------------------------------------------------------------------------------

    async def emit(self, event: str, *args: Any) -> None:
        """Send an event.

        Without a connection the event waits, and is sent after the next connect, in order. An event that was passed
        to a dead connection is lost, unless the option ``outbox`` or ``retries`` is set.

        Args:
            event: The event's name.
            *args: The event's arguments: values that JSON can carry, and ``bytes``.

        Raises:
            EncodingFailed: The event can't be encoded, or is larger than the server accepts.
            NotConnected: There is no connection, and as many events wait as the options allow.
            WrongEventLoop: The client was used on another event loop before.
            OutboxFull: As many events wait in the outbox as the options allow.
            StorageError: The outbox's file can't be written, or another client has it open.

        Delivery: at most once, in order. With ``retries``, at least once, in order, or given up. With ``outbox``,
        this returns when the event is on disk; a Waypost server handles it once, in order, also after a crash of
        either side (again only if the server dies inside its handler). Another server handles it at least once, and
        its handler must acknowledge it. If cancelled, the event may still be sent.
        """
        await self._session.emit(event, args)

    @overload
    async def call(self, event: str, *args: Any, timeout_s: float | None = ...) -> Any: ...
    @overload
    async def call(self, event: str, *args: Any, timeout_s: float | None = ..., returns: type[T]) -> T: ...
    @overload
    async def call(self, event: str, *args: Any, timeout_s: float | None = ..., returns: Any) -> Any: ...
    async def call(self, event: str, *args: Any, timeout_s: float | None = None, returns: Any = None) -> Any:
        """Send an event and wait for its acknowledgement. May be cancelled.

        Args:
            event: The event's name.
            *args: The event's arguments: values that JSON can carry, and ``bytes``.
            timeout_s: Seconds to wait, for a connection too, above 0; ``None`` for the option ``ack_timeout_s``.
            returns: The type of the answer: a dataclass, `msgspec.Struct`, pydantic model, ``TypedDict`` or builtin
                type, or a type made of these, such as ``list[Parcel]`` or ``tuple[int, str]``. The answer is
                validated and converted to it. ``None`` leaves the answer unchanged.

        Returns:
            The acknowledgement's only argument, a tuple of several, or ``None``; converted to ``returns``.

        Raises:
            AnswerMismatch: The answer does not fit ``returns``. The server has handled the event.
            ConfigurationError: No value can be converted to ``returns``. The event is not sent.
            EventRefused: A Waypost server did not handle the event: its handler refused it or failed, or there is
                none.
            AckTimeout: No acknowledgement arrived in time. An event that was not sent by then will not be sent.
            EncodingFailed: The event can't be encoded, or is larger than the server accepts.
            NotConnected: The connection was lost before the acknowledgement arrived; or there was none, and as many
                events wait as the options allow.

        Delivery: at most once; when this returns, the server has handled the event. With the option ``retries``, at
        least once. A call bypasses the durable outbox, and may overtake the events in it.
        """
        if timeout_s is not None:
            check("timeout_s", timeout_s, POSITIVE)
        answer_type = AnswerType.read(event, returns)
        return answer_type.convert(await self._session.call(event, args, timeout_s))

    @property
    def volatile(self) -> VolatileEmitter:
        """An emitter that drops an event if it can't be sent at once."""
        return VolatileEmitter(self._session, self._manager)


class VolatileEmitter:
    """Emits events that may be dropped. Made by `Client.volatile`."""

    __slots__ = ("_manager", "_session")

    def __init__(self, session: Session, manager: Manager) -> None:
        self._session = session
        self._manager = manager

    async def emit(self, event: str, *args: Any) -> bool:
        """Send an event if it can leave at once; drop it otherwise.

        Args:
            event: The event's name.
            *args: The event's arguments: values that JSON can carry, and ``bytes``.

        Returns:
            Whether the event was sent.

        Raises:
            EncodingFailed: The event can't be encoded, or is larger than the server accepts.

        Delivery: at most once. It never waits, and is never sent again.
        """
        return self._session.emit_volatile(event, args, writable=self._manager.writable)
