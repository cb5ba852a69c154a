"""The client: what an application holds in its hand."""

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

    Once connected, it reconnects by itself when the connection is lost, and goes on where it was if the server has
    recovery: events missed meanwhile are handled in order, each once. It stays away when the server disconnects
    or refuses it. `of` gives the client of another namespace, over the same connection.

    Handlers may be ``async def`` or ``def`` (run in a thread); they run in the order of arrival, one at a time. What
    one returns is the acknowledgement, if the server asked for one: a tuple is several arguments, anything else one,
    ``None`` none. When it raises, that is logged, and the acknowledgement is ``{"nack": "<type of the exception>"}``;
    `waypost.Reject` says why, and when to try again. So a message of a queue is acknowledged when its handler
    returns, and delivered again when it raises; one that comes again although it was handled, because the
    acknowledgement was lost, is acknowledged without running the handler.

    Parameters that are annotated, with a dataclass, a `msgspec.Struct`, a pydantic model or a builtin type, get their
    arguments converted to it; what does not fit is rejected and does not reach the handler.

    Three handlers are called by the client itself: ``connect()`` after every connection,
    ``disconnect(reason, details)`` with the reason in Socket.IO's words and a `DisconnectDetails`, and
    ``connect_error(error)`` with a `ConnectFailed` for every attempt that failed, unless `connect` raises it.

    Args:
        url: The server, such as ``https://example.com``; a path in it is the namespace, and a query is sent along.
        **options: See `waypost.client.options.Options`.

    Raises:
        ConfigurationError: An option, or the URL, can't be what it is.
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
        self._is_first = False
        self._enter(namespace, auth)
        return self

    def _enter(self, namespace: str, auth: Auth) -> None:
        manager = self._manager
        self._session = Session(namespace, auth, self._options, manager.packet_source, manager.flow, self._durable)
        self._handlers = self._session.handlers
        self._member = manager.members[namespace] = Membership(self._session, self._url)
        self._clients[namespace] = self

    def __repr__(self) -> str:
        return f"<Client {self._url} {self.namespace}, {'connected' if self.connected else 'not connected'}>"

    # -- where it is ----------------------------------------------------------------------------------------

    @property
    def namespace(self) -> str:
        """The namespace that it is for."""
        return self._session.namespace

    @property
    def connected(self) -> bool:
        """Whether there is a connection that the server has accepted."""
        return self._session.sid is not None

    @property
    def active(self) -> bool:
        """Whether it is connected, or will be by itself."""
        return self._member.wanted

    @property
    def id(self) -> str | None:
        """The id of this client's socket on the server; ``None`` while not connected."""
        return self._session.sid

    @property
    def recovered(self) -> bool:
        """Whether the last connection went on where the one before had ended, with nothing missed."""
        return self._session.recovered

    @property
    def transport(self) -> str | None:
        """What carries the connection: ``"websocket"`` or ``"polling"``; ``None`` if there is none."""
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
        """What happens to the connection that all namespaces share, such as attempts to reconnect."""
        return self._manager.events.public

    def of(self, namespace: str, *, auth: Auth = None) -> Client:
        """Return the client of another namespace over the same connection; the same one each time.

        It has its own handlers, socket id, recovery and buffer, and is connected and disconnected by itself.

        Args:
            namespace: The namespace's name, with its leading slash.
            auth: What to show to the server there, from the next attempt on; ``None`` for what was said before, which
                at first is the option ``auth``.

        Returns:
            The client.

        Raises:
            ConfigurationError: The name, or ``auth``, can't be what it is.
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
            *names: Their names; none for every event.

        Returns:
            The loop; it has begun, so that nothing is missed before the first turn.

        Delivery: like a handler's, in order; an event that asks for an acknowledgement gets it when the loop asks for
        the next one, unless there is a handler for it, too.
        """
        return self._session.streams.open(names, self._options.max_pending_events)

    # -- connecting -----------------------------------------------------------------------------------------

    async def connect(self, *, retry: bool = False) -> None:
        """Connect to the server, and stay connected from then on; does nothing if that is so already.

        When this is cancelled, the client stays away.

        Args:
            retry: Whether to try again when there is no connection, as often as after a lost one. Being refused is
                final in any case.

        Raises:
            ConnectFailed: There was no connection, or the server refused this client; ``data`` is what it sent along.
            StorageError: The file of ``outbox`` or ``state`` can't be used, or another client has it.
        """
        if not self.connected:
            await self._durable.open()
            await self._manager.join(self._member, patient=retry)

    async def disconnect(self) -> None:
        """Send what waits, leave the namespace and stay away; does nothing if there is no connection to leave.

        The connection ends with the last namespace on it. Events that wait for their handlers are dropped; a handler
        that runs is not waited for.
        """
        if self._member.wanted:
            await self._manager.leave(self._member)
            self._session.streams.end()

    async def close(self) -> None:
        """Leave all namespaces of this connection, like `disconnect`, wait for its end, and let the files go.

        What waits in the durable outbox stays there; `ClientOutbox.drained` waits for it.
        """
        for client in self._clients.values():
            await client.disconnect()
        await self._manager.ended()
        for member in self._manager.members.values():
            if member.session.outbox is not None:
                await member.session.outbox.stop()
        await self._durable.close()

    async def wait_closed(self) -> None:
        """Wait until the connection has ended and the last handler has run, also of `io`.

        It ends when all namespaces on it were left, by this side or the server's, or refused, and when the client has
        given up reconnecting. Called by a handler, it does not wait for handlers.
        """
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

        Without a connection, it is kept and sent after the next one is there, in order. An event that was handed to a
        connection which then turns out to be dead is lost, unless the option ``outbox`` or ``retries`` is set.

        Delivery: at most once, in order; with ``retries`` at least once, in order, or given up. With ``outbox`` this
        returns when the event is on disk; a Waypost server handles it once, in order, also after a crash of either
        side (again only if the server dies inside its handler); another server at least once, and its handler has to
        acknowledge it. If this is cancelled, the event may be sent all the same.

        Args:
            event: The event's name.
            *args: Its arguments: whatever JSON can carry, and ``bytes``.

        Raises:
            EncodingFailed: The event can't be encoded, or the server takes none so large.
            NotConnected: There is no connection, and as many events wait as the options allow.
            OutboxFull: So many events wait in the outbox.
            StorageError: The outbox's file can't be written, or another client has it.
        """
        await self._session.emit(event, args)

    @overload
    async def call(self, event: str, *args: Any, timeout_s: float | None = ...) -> Any: ...
    @overload
    async def call(self, event: str, *args: Any, timeout_s: float | None = ..., returns: type[T]) -> T: ...
    @overload
    async def call(self, event: str, *args: Any, timeout_s: float | None = ..., returns: Any) -> Any: ...
    async def call(self, event: str, *args: Any, timeout_s: float | None = None, returns: Any = None) -> Any:
        """Send an event and await its acknowledgement. When this is cancelled, nothing is left of it.

        Delivery: at most once; when this returns, the server has handled it. With the option ``retries``, at least
        once. A call does not go through the durable outbox, and may overtake what waits there.

        Args:
            event: The event's name.
            *args: Its arguments: whatever JSON can carry, and ``bytes``.
            timeout_s: Seconds to wait, also for a connection; ``None`` for the option ``ack_timeout_s``.
            returns: The type of the answer: a dataclass, `msgspec.Struct`, pydantic model, ``TypedDict`` or builtin
                type, or one made of these, such as ``list[Parcel]`` or ``tuple[int, str]``. The answer is validated
                and converted to it. ``None`` takes the answer as it comes.

        Returns:
            The acknowledgement's only argument, a tuple of several, or ``None``; as ``returns`` says.

        Raises:
            AnswerMismatch: The answer does not fit ``returns``; the server has handled the event.
            ConfigurationError: Nothing can be converted to ``returns``; the event is not sent.
            EventRefused: The server did not handle the event: its handler refused it or failed, or there is none.
                Only a Waypost server says so; what another server answers is returned.
            AckTimeout: There was none in time; an event that was not sent by then won't be.
            EncodingFailed: The event can't be encoded, or the server takes none so large.
            NotConnected: The connection was lost before the acknowledgement came; or there was none, and as many
                events wait as the options allow.
        """
        if timeout_s is not None:
            check("timeout_s", timeout_s, POSITIVE)
        answer_type = AnswerType.read(event, returns)
        return answer_type.convert(await self._session.call(event, args, timeout_s))

    @property
    def volatile(self) -> VolatileEmitter:
        """Emits what may be dropped when it can't leave at once."""
        return VolatileEmitter(self._session, self._manager)


class VolatileEmitter:
    """Emits what may be dropped. Made by `Client.volatile`."""

    __slots__ = ("_manager", "_session")

    def __init__(self, session: Session, manager: Manager) -> None:
        self._session = session
        self._manager = manager

    async def emit(self, event: str, *args: Any) -> bool:
        """Send an event if it can leave at once; otherwise drop it.

        Delivery: at most once; it never waits, and is never sent again.

        Args:
            event: The event's name.
            *args: Its arguments: whatever JSON can carry, and ``bytes``.

        Returns:
            Whether it was sent.

        Raises:
            EncodingFailed: The event can't be encoded, or the server takes none so large.
        """
        return self._session.emit_volatile(event, args, writable=self._manager.writable)
