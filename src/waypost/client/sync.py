"""The client for programs without asyncio: the asyncio client, on a loop and a thread of its own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, Unpack
from weakref import WeakValueDictionary

from waypost.client import client as asynchronous
from waypost.client import client_outbox, streams
from waypost.client.lifecycle import ConnectionEvents
from waypost.client.loop_thread import LoopThread
from waypost.client.options import Auth, ClientOptions

__all__ = ["Client", "ClientOutbox", "EventStream", "ReceivedEvent", "VolatileEmitter"]


class Client:
    """A Socket.IO client that blocks, for programs without asyncio, in one namespace.

    ::

        client = waypost.sync.Client("https://example.com", auth={"token": "…"})

        @client.event
        def pickup(parcel):
            return "accepted"

        client.connect()
        client.emit("ready", 7)
        where = client.call("where is", "parcel 12")

    It is a `waypost.Client` on a thread of its own: names, options and promises are the same, and methods return when
    what they do is done. Any thread may use it, also several at a time. Ctrl-C interrupts a method, as if it was
    cancelled, and the client can be used further.

    ``on, once, event, off, on_any, off_any, on_any_outgoing`` and ``off_any_outgoing`` are those of `waypost.Client`.
    Handlers are plain functions. They run in the order of arrival, one at a time, in a thread, and may use the
    client; so may ``on_undelivered``, and ``auth``, if it is a function. ``headers`` and what `on_any_outgoing`
    registers are called in passing, and may not.

    A program that ends without `disconnect` or `close` does not hang: what waits is sent, for at most 2 seconds.

    Args:
        url: The server, such as ``https://example.com``; a path in it is the namespace, and a query is sent along.
        **options: See `waypost.client.options.Options`.

    Raises:
        ConfigurationError: An option, or the URL, can't be what it is.
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
        self._client = client
        self._thread = thread
        self._clients = clients
        self._clients[client.namespace] = self
        self.on = client.on
        self.once = client.once
        self.event = client.event
        self.off = client.off
        self.on_any = client.on_any
        self.off_any = client.off_any
        self.on_any_outgoing = client.on_any_outgoing
        self.off_any_outgoing = client.off_any_outgoing

    def __repr__(self) -> str:
        return repr(self._client)

    # -- where it is ----------------------------------------------------------------------------------------

    @property
    def namespace(self) -> str:
        """As `waypost.Client.namespace`."""
        return self._client.namespace

    @property
    def connected(self) -> bool:
        """As `waypost.Client.connected`."""
        return self._client.connected

    @property
    def active(self) -> bool:
        """As `waypost.Client.active`."""
        return self._client.active

    @property
    def sid(self) -> str | None:
        """As `waypost.Client.sid`."""
        return self._client.sid

    @property
    def recovered(self) -> bool:
        """As `waypost.Client.recovered`."""
        return self._client.recovered

    @property
    def transport(self) -> str | None:
        """As `waypost.Client.transport`."""
        return self._client.transport

    @property
    def io(self) -> ConnectionEvents:
        """As `waypost.Client.io`, with plain functions."""
        return self._client.io

    @property
    def outbox(self) -> ClientOutbox:
        """As `waypost.Client.outbox`, with methods that block."""
        return ClientOutbox(self._thread, self._client.outbox)

    def of(self, namespace: str, *, auth: Auth = None) -> Client:
        """Return the client of another namespace over the same connection: see `waypost.Client.of`.

        Args:
            namespace: The namespace's name, with its leading slash.
            auth: What to show to the server there.

        Raises:
            ConfigurationError: The name, or ``auth``, can't be what it is.
        """

        async def find() -> asynchronous.Client:
            return self._client.of(namespace, auth=_in_thread(auth))

        client = self._thread.run(find())
        return self._clients.get(namespace) or Client._beside(self, client)

    # -- connecting -----------------------------------------------------------------------------------------

    def connect(self, *, retry: bool = False) -> None:
        """Connect to the server, and stay connected from then on: see `waypost.Client.connect`.

        Args:
            retry: Whether to try again when there is no connection.

        Raises:
            ConnectFailed: There was no connection, or the server refused this client.
        """
        self._thread.run(self._client.connect(retry=retry))

    def disconnect(self) -> None:
        """Send what waits, leave the namespace and stay away: see `waypost.Client.disconnect`."""
        self._thread.run(self._client.disconnect())

    def close(self) -> None:
        """Leave all namespaces of this connection, like `disconnect`."""
        self._thread.run(self._client.close())

    def wait_closed(self, timeout_s: float | None = None) -> None:
        """Wait until the connection has ended for good: see `waypost.Client.wait_closed`.

        Args:
            timeout_s: Seconds to wait; ``None`` for as long as it takes.

        Raises:
            TimeoutError: It has not ended by then.
        """

        async def wait() -> None:
            async with asyncio.timeout(timeout_s):
                await self._client.wait_closed()

        self._thread.run(wait())

    def __enter__(self) -> Self:
        self._thread.run(self._client.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.run(self._client.__aexit__(kind, error, traceback))

    # -- sending and receiving ------------------------------------------------------------------------------

    def emit(self, event: str, *args: Any) -> None:
        """Send an event, or keep it for the next connection: see `waypost.Client.emit`.

        Delivery: at most once, in order; with ``retries`` at least once, in order, or given up.

        Args:
            event: The event's name.
            *args: Its arguments: whatever JSON can carry, and ``bytes``.

        Raises:
            EncodingFailed: The event can't be encoded, or the server takes none so large.
            NotConnected: There is no connection, and as many events wait as the options allow.
        """
        self._thread.run(self._client.emit(event, *args))

    def call(self, event: str, *args: Any, timeout_s: float | None = None) -> Any:
        """Send an event and wait for its acknowledgement: see `waypost.Client.call`.

        Delivery: at most once; when this returns, the server has handled it. With the option ``retries``, at least
        once.

        Args:
            event: The event's name.
            *args: Its arguments: whatever JSON can carry, and ``bytes``.
            timeout_s: Seconds to wait, also for a connection; ``None`` for the option ``ack_timeout_s``.

        Returns:
            The acknowledgement's only argument, a tuple of several, or ``None``.

        Raises:
            AckTimeout: There was none in time.
            EncodingFailed: The event can't be encoded, or the server takes none so large.
            NotConnected: The connection was lost before the acknowledgement came, or there is no room to wait.
        """
        return self._thread.run(self._client.call(event, *args, timeout_s=timeout_s))

    @property
    def volatile(self) -> VolatileEmitter:
        """Emits what may be dropped when it can't leave at once."""
        return VolatileEmitter(self._thread, self._client.volatile)

    def events(self, *names: str) -> EventStream:
        """Return a loop over events: ``for event in client.events("pickup")``; see `waypost.Client.events`.

        Args:
            *names: Their names; none for every event.

        Returns:
            The loop; it has begun, so that nothing is missed before the first turn.

        Delivery: like a handler's, in order; an event that asks for an acknowledgement gets it when the loop asks for
        the next one, unless there is a handler for it, too.
        """
        return EventStream(self._thread, self._client.events(*names))


class VolatileEmitter:
    """Emits what may be dropped. Made by `Client.volatile`."""

    __slots__ = ("_emitter", "_thread")

    def __init__(self, thread: LoopThread, emitter: asynchronous.VolatileEmitter) -> None:
        self._thread = thread
        self._emitter = emitter

    def emit(self, event: str, *args: Any) -> bool:
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
        return self._thread.run(self._emitter.emit(event, *args))


class ClientOutbox:
    """The events of one namespace that wait to be acknowledged. Made by `Client.outbox`."""

    __slots__ = ("_outbox", "_thread")

    def __init__(self, thread: LoopThread, outbox: client_outbox.ClientOutbox) -> None:
        self._thread = thread
        self._outbox = outbox

    def pending(self, *, max_events: int = 1_000) -> list[client_outbox.PendingEvent]:
        """Return the oldest events that wait, in order.

        Args:
            max_events: The most to return.

        Raises:
            StorageError: The file can't be read, or another process has it.
        """
        return self._thread.run(self._outbox.pending(max_events=max_events))

    def count(self) -> int:
        """Return how many events wait.

        Raises:
            StorageError: The file can't be read, or another process has it.
        """
        return self._thread.run(self._outbox.count())

    def discard(self, event_id: str) -> bool:
        """Remove an event, so that it is not sent any more; one that was sent already may be handled all the same.

        Args:
            event_id: The event's id.

        Returns:
            Whether it was there.

        Raises:
            StorageError: The file can't be written, or another process has it.
        """
        return self._thread.run(self._outbox.discard(event_id))

    def drained(self, timeout_s: float | None = None) -> None:
        """Wait until no event waits: all were acknowledged, given up or discarded.

        Args:
            timeout_s: Seconds to wait; ``None`` for as long as it takes.

        Raises:
            TimeoutError: Some wait still.
            StorageError: The file can't be read, or another process has it.
        """

        async def wait() -> None:
            async with asyncio.timeout(timeout_s):
                await self._outbox.drained()

        self._thread.run(wait())


class EventStream:
    """The events of some names, in the order of arrival. Made by `Client.events`.

    It ends with `close`, with the ``with`` block around it, or when the client has left. An event is acknowledged
    when the next one is asked for; to leave the loop in between, call `ReceivedEvent.ack` first.
    """

    __slots__ = ("_stream", "_thread")

    def __init__(self, thread: LoopThread, stream: streams.EventStream) -> None:
        self._thread = thread
        self._stream = stream

    def next(self, timeout_s: float | None = None) -> ReceivedEvent:
        """Wait for the next event.

        Args:
            timeout_s: Seconds to wait; ``None`` for as long as it takes.

        Returns:
            The event.

        Raises:
            StopIteration: The loop has ended.
            TimeoutError: There was none in time.
        """

        async def step() -> streams.ReceivedEvent | None:
            async with asyncio.timeout(timeout_s):
                return await anext(self._stream, None)

        event = self._thread.run(step())
        if event is None:
            raise StopIteration
        return ReceivedEvent(self._thread, event)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ReceivedEvent:
        return self.next()

    def close(self) -> None:
        """End it; what it was given and has not acknowledged is rejected."""
        self._thread.run(self._stream.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class ReceivedEvent:
    """An event that a loop was given.

    Attributes:
        name: Its name.
        args: Its arguments.
        arg: Its only argument, a tuple of several, or ``None``.
    """

    __slots__ = ("_event", "_thread", "arg", "args", "name")

    def __init__(self, thread: LoopThread, event: streams.ReceivedEvent) -> None:
        self._thread = thread
        self._event = event
        self.name = event.name
        self.args = event.args
        self.arg = event.arg

    def __repr__(self) -> str:
        return repr(self._event)

    def ack(self, *values: Any) -> None:
        """Acknowledge it; does nothing if the server did not ask for that, or if that is done.

        Args:
            *values: The acknowledgement's arguments.
        """
        self._thread.run(self._event.ack(*values))

    def reject(self, reason: str, retry_in_s: float | None = None) -> None:
        """Reject it, so that a queue delivers it again later.

        Args:
            reason: Why.
            retry_in_s: Seconds until then; ``None`` leaves them to the server.
        """
        self._thread.run(self._event.reject(reason, retry_in_s))


def _in_thread(auth: Auth) -> Auth:
    """Have a plain function asked in a thread: it may take its time, as whoever fetches a token does."""
    if not callable(auth) or inspect.iscoroutinefunction(auth):
        return auth
    ask = auth

    async def credentials() -> Mapping[str, Any] | None:
        answer = await asyncio.to_thread(ask)
        return (await answer) if inspect.isawaitable(answer) else answer

    return credentials
