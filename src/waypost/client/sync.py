"""The client for programs without asyncio: the asyncio client, on a loop in its own thread."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload
from weakref import WeakValueDictionary

from waypost.checking.arguments import WAIT, check
from waypost.client import client as asynchronous
from waypost.client import client_outbox
from waypost.client.lifecycle import ConnectionEvents
from waypost.client.listening import Listening
from waypost.client.options import Auth, ClientOptions
from waypost.client.sync_streams import EventStream
from waypost.loop_thread import LoopThread

__all__ = ["Client", "ClientOutbox", "VolatileEmitter"]

T = TypeVar("T")


class Client(Listening):
    """A Socket.IO client that blocks, for programs without asyncio, in one namespace.

    ::

        client = waypost.sync.Client("https://example.com", auth={"token": "…"})

        @client.event
        def pickup(parcel):
            return "accepted"

        client.connect()
        client.emit("ready", 7)
        where = client.call("where is", "parcel 12")

    It is a `waypost.Client` in its own thread, with the same names, options and guarantees. A method returns when its
    work is done. Any thread may use the client, several at a time. Ctrl-C interrupts a method as a cancellation does,
    and the client stays usable.

    Handlers are plain functions. They run in the order of arrival, one at a time, in a thread, and may use the
    client. So may ``on_undelivered``, and ``auth`` if it is a function. ``headers`` and functions of
    `on_any_outgoing` are called on the client's own loop, and may not use it.

    A program that ends without `disconnect` or `close` does not hang: waiting events are sent for at most 2 seconds.

    Args:
        url: The server, such as ``https://example.com``. Its path is the namespace, and its query is sent with every
            request.
        **options: See `waypost.client.options.Options`.

    Raises:
        ConfigurationError: The URL is not valid, an option is unknown, or an option has a value that it does not
            accept.
    """

    def __init__(self, url: str, **options: Unpack[ClientOptions]) -> None:
        if "auth" in options:
            options["auth"] = _in_thread(options["auth"])
        first = asynchronous.Client(url, **options)
        self._enter(first, LoopThread("waypost-client", first.close), WeakValueDictionary())

    @classmethod
    def _beside(cls, first: Client, client: asynchronous.Client) -> Client:
        self = cls.__new__(cls)
        self._enter(client, first._thread, first._clients)
        return self

    def _enter(
        self, client: asynchronous.Client, thread: LoopThread, clients: WeakValueDictionary[str, Client]
    ) -> None:
        self._inner = client
        self._thread = thread
        self._clients = clients
        self._clients[client.namespace] = self
        self._handlers = client._handlers  # noqa: SLF001  # the same client for threads: it registers in the same place

    def __repr__(self) -> str:
        return repr(self._inner)

    # -- where it is ----------------------------------------------------------------------------------------

    @property
    def namespace(self) -> str:
        """The namespace of this client."""
        return self._inner.namespace

    @property
    def connected(self) -> bool:
        """Whether the server has accepted the client on the current connection."""
        return self._inner.connected

    @property
    def active(self) -> bool:
        """Whether the client is connected, or will reconnect by itself."""
        return self._inner.active

    @property
    def id(self) -> str | None:
        """The id of this client's socket on the server; ``None`` while not connected."""
        return self._inner.id

    @property
    def recovered(self) -> bool:
        """Whether the server recovered the session at the last connect: no event is missing."""
        return self._inner.recovered

    @property
    def transport(self) -> str | None:
        """The connection's transport: ``"websocket"`` or ``"polling"``; ``None`` without a connection."""
        return self._inner.transport

    @property
    def io(self) -> ConnectionEvents:
        """The events of the connection that all namespaces share, such as attempts to reconnect."""
        return self._inner.io

    @property
    def outbox(self) -> ClientOutbox:
        """The events of this namespace that wait in the durable outbox.

        Raises:
            ConfigurationError: The client was made without the option ``outbox``.
        """
        return ClientOutbox(self._thread, self._inner.outbox)

    def of(self, namespace: str, *, auth: Auth = None) -> Client:
        """Return the client of another namespace on the same connection; see `waypost.Client.of`.

        Args:
            namespace: The namespace's name, with its leading slash.
            auth: The auth payload for that namespace.

        Returns:
            The client; the same object each time.

        Raises:
            ConfigurationError: The name or ``auth`` is not valid.
        """

        async def find() -> asynchronous.Client:
            return self._inner.of(namespace, auth=_in_thread(auth))

        client = self._thread.run(find)
        return self._clients.get(namespace) or Client._beside(self, client)

    # -- connecting -----------------------------------------------------------------------------------------

    def connect(self, *, retry: bool = False, wait: bool = True) -> None:
        """Connect to the server, and stay connected. If the client is connected, nothing happens.

        If Ctrl-C interrupts it, the client stays disconnected.

        Args:
            retry: Whether to retry a failed attempt, as after a lost connection. A refusal is always final.
            wait: Whether to wait for the connection; see `waypost.Client.connect`.

        Raises:
            ConnectFailed: The client got no connection, or the server refused it; ``data`` has the server's data.
            StorageError: The file of ``outbox`` or ``state`` can't be used, or another client has it open.
        """
        self._thread.run(self._inner.connect, retry=retry, wait=wait)

    def disconnect(self) -> None:
        """Send the waiting events, leave the namespace, and stay disconnected. Without a connection, nothing happens.

        The connection ends with its last namespace. Events that wait for their handlers are dropped. A running
        handler is not awaited.
        """
        self._thread.run(self._inner.disconnect)

    def close(self) -> None:
        """Leave all namespaces of this connection as `disconnect` does, wait for its end, and close the files.

        Events in the durable outbox stay there; `ClientOutbox.drained` waits for them.
        """
        self._thread.run(self._inner.close)

    def wait_closed(self, timeout_s: float | None = None) -> None:
        """Wait until the connection has ended for good; see `waypost.Client.wait_closed`.

        A handler must not call it, because it waits for the last handler.

        Args:
            timeout_s: Seconds to wait, from 0; ``None`` for no limit.

        Raises:
            TimeoutError: The connection has not ended in time.
        """
        check("timeout_s", timeout_s, WAIT)

        async def wait() -> None:
            async with asyncio.timeout(timeout_s):
                await self._inner.wait_closed()

        self._thread.run(wait)

    def __enter__(self) -> Self:
        self._thread.run(self._inner.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.run(self._inner.__aexit__, kind, error, traceback)

    # -- sending and receiving ------------------------------------------------------------------------------

    def emit(self, event: str, *args: Any) -> None:
        """Send an event: see `waypost.Client.emit`.

        Args:
            event: The event's name.
            *args: The event's arguments: values that JSON can carry, and ``bytes``.

        Raises:
            EncodingFailed: The event can't be encoded, or is larger than the server accepts.
            NotConnected: There is no connection, and as many events wait as the options allow.
            OutboxFull: As many events wait in the outbox as the options allow.
            StorageError: The outbox's file can't be written, or another client has it.

        Delivery: at most once, in order. With the option ``retries`` at least once, in order, or given up. With the
        option ``outbox`` this returns when the event is on disk, and a Waypost server handles it once, in order. If
        Ctrl-C interrupts it, the event may be sent all the same.
        """
        self._thread.run(self._inner.emit, event, *args)

    @overload
    def call(self, event: str, *args: Any, timeout_s: float | None = ...) -> Any: ...

    @overload
    def call(self, event: str, *args: Any, timeout_s: float | None = ..., returns: type[T]) -> T: ...

    @overload
    def call(self, event: str, *args: Any, timeout_s: float | None = ..., returns: Any) -> Any: ...

    def call(self, event: str, *args: Any, timeout_s: float | None = None, returns: Any = None) -> Any:
        """Send an event and wait for its ack: see `waypost.Client.call`.

        If Ctrl-C interrupts it, nothing is left of the call.

        Args:
            event: The event's name.
            *args: The event's arguments: values that JSON can carry, and ``bytes``.
            timeout_s: Seconds to wait, also for a connection; ``None`` for the option ``ack_timeout_s``.
            returns: The type that the answer is converted to: see `waypost.Client.call`. ``None`` takes the answer as
                it comes.

        Returns:
            The ack's only argument, a tuple of several, or ``None``; as ``returns`` says.

        Raises:
            AnswerMismatch: The answer does not fit ``returns``. The server has handled the event.
            ConfigurationError: Nothing can be converted to ``returns``. The event is not sent.
            EventRefused: A Waypost server did not handle the event: its handler refused it or failed, or there is
                none.
            AckTimeout: No ack came in time. An event that was not sent by then will not be.
            EncodingFailed: The event can't be encoded, or is larger than the server accepts.
            NotConnected: The connection was lost before the ack came; or there was none, and as many events wait as
                the options allow.

        Delivery: at most once; when this returns, the server has handled the event. With the option ``retries`` at
        least once.
        """
        return self._thread.run(self._inner.call, event, *args, timeout_s=timeout_s, returns=returns)

    @property
    def volatile(self) -> VolatileEmitter:
        """An emitter that drops an event if it can't be sent at once."""
        return VolatileEmitter(self._thread, self._inner.volatile)

    def events(self, *names: str) -> EventStream:
        """Return a loop over events: ``for event in client.events("pickup")``; see `waypost.Client.events`.

        Args:
            *names: The events' names; none for all events.

        Returns:
            The loop. It collects events from now on, so that none is missed before the first iteration.

        Raises:
            ConfigurationError: A name is not valid.

        Delivery: as to a handler, in order. An event that asks for an acknowledgement gets it when the loop asks for
        the next event, unless the event has a handler too.
        """
        return EventStream(self._thread, self._inner.events(*names))


class VolatileEmitter:
    """Emits events that may be dropped. Made by `Client.volatile`."""

    __slots__ = ("_inner", "_thread")

    def __init__(self, thread: LoopThread, emitter: asynchronous.VolatileEmitter) -> None:
        self._thread = thread
        self._inner = emitter

    def emit(self, event: str, *args: Any) -> bool:
        """Send an event if it can leave at once. Otherwise drop it.

        Args:
            event: The event's name.
            *args: The event's arguments: values that JSON can carry, and ``bytes``.

        Returns:
            Whether it was sent.

        Raises:
            EncodingFailed: The event can't be encoded, or is larger than the server accepts.

        Delivery: at most once. It never waits, and is never sent again.
        """
        return self._thread.run(self._inner.emit, event, *args)


class ClientOutbox:
    """The events of one namespace that wait for their acknowledgement. Made by ``Client.outbox``."""

    __slots__ = ("_inner", "_thread")

    def __init__(self, thread: LoopThread, outbox: client_outbox.ClientOutbox) -> None:
        self._thread = thread
        self._inner = outbox

    def pending(self, *, max_events: int = 1_000) -> list[client_outbox.PendingEvent]:
        """Return the oldest events that wait, in order.

        Args:
            max_events: The most events to return, from 1.

        Raises:
            StorageError: The file can't be read, or another process has it open.
        """
        return self._thread.run(self._inner.pending, max_events=max_events)

    def count(self) -> int:
        """Return the number of events that wait.

        Raises:
            StorageError: The file can't be read, or another process has it open.
        """
        return self._thread.run(self._inner.count)

    def discard(self, event_id: str) -> bool:
        """Remove an event, so that it is not sent again. If it was sent already, the server may still handle it.

        Args:
            event_id: The event's id.

        Returns:
            Whether the event was in the outbox.

        Raises:
            StorageError: The file can't be written, or another process has it open.
        """
        return self._thread.run(self._inner.discard, event_id)

    def drained(self, timeout_s: float | None = None) -> None:
        """Wait until no event waits: all were acknowledged, given up or discarded.

        Args:
            timeout_s: Seconds to wait, from 0; ``None`` for no limit.

        Raises:
            TimeoutError: Events still wait.
            StorageError: The file can't be read, or another process has it open.
        """
        check("timeout_s", timeout_s, WAIT)

        async def wait() -> None:
            async with asyncio.timeout(timeout_s):
                await self._inner.drained()

        self._thread.run(wait)


def _in_thread(auth: Auth) -> Auth:
    """Call a plain function in a thread, because it may block, for example to fetch a token."""
    if not callable(auth) or inspect.iscoroutinefunction(auth):
        return auth
    ask = auth

    async def credentials() -> Mapping[str, Any] | None:
        answer = await asyncio.to_thread(ask)
        return (await answer) if inspect.isawaitable(answer) else answer

    return credentials
