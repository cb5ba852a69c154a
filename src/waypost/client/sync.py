"""The client for programs without asyncio: the asyncio client, on a loop and a thread of its own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar, Unpack, overload
from weakref import WeakValueDictionary

from waypost.client import client as asynchronous
from waypost.client import client_outbox, streams
from waypost.client.lifecycle import ConnectionEvents
from waypost.client.loop_thread import LoopThread
from waypost.client.options import Auth, ClientOptions

__all__ = ["Client", "ClientOutbox", "EventStream", "ReceivedEvent", "VolatileEmitter"]


Inner = TypeVar("Inner")
P = ParamSpec("P")
T = TypeVar("T")


class _Blocking(Protocol[Inner]):
    """An object of the asyncio client behind methods that block."""

    _thread: LoopThread
    _inner: Inner


def blocking(
    method: Callable[Concatenate[Inner, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[_Blocking[Inner], P], T]:
    """Make the method that blocks of one that is awaited: the same arguments, result, errors and docstring."""

    @wraps(method)
    def block(self: _Blocking[Inner], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._thread.run(method(self._inner, *args, **kwargs))

    return block


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
        self._inner = client
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
        return repr(self._inner)

    # -- where it is ----------------------------------------------------------------------------------------

    @property
    def namespace(self) -> str:
        """As `waypost.Client.namespace`."""
        return self._inner.namespace

    @property
    def connected(self) -> bool:
        """As `waypost.Client.connected`."""
        return self._inner.connected

    @property
    def active(self) -> bool:
        """As `waypost.Client.active`."""
        return self._inner.active

    @property
    def sid(self) -> str | None:
        """As `waypost.Client.sid`."""
        return self._inner.sid

    @property
    def recovered(self) -> bool:
        """As `waypost.Client.recovered`."""
        return self._inner.recovered

    @property
    def transport(self) -> str | None:
        """As `waypost.Client.transport`."""
        return self._inner.transport

    @property
    def io(self) -> ConnectionEvents:
        """As `waypost.Client.io`, with plain functions."""
        return self._inner.io

    @property
    def outbox(self) -> ClientOutbox:
        """As `waypost.Client.outbox`, with methods that block."""
        return ClientOutbox(self._thread, self._inner.outbox)

    def of(self, namespace: str, *, auth: Auth = None) -> Client:
        """Return the client of another namespace over the same connection: see `waypost.Client.of`.

        Args:
            namespace: The namespace's name, with its leading slash.
            auth: What to show to the server there.

        Raises:
            ConfigurationError: The name, or ``auth``, can't be what it is.
        """

        async def find() -> asynchronous.Client:
            return self._inner.of(namespace, auth=_in_thread(auth))

        client = self._thread.run(find())
        return self._clients.get(namespace) or Client._beside(self, client)

    # -- connecting -----------------------------------------------------------------------------------------

    connect = blocking(asynchronous.Client.connect)
    disconnect = blocking(asynchronous.Client.disconnect)
    close = blocking(asynchronous.Client.close)

    def wait_closed(self, timeout_s: float | None = None) -> None:
        """Wait until the connection has ended for good: see `waypost.Client.wait_closed`.

        Not for handlers: it waits for the last one.

        Args:
            timeout_s: Seconds to wait; ``None`` for as long as it takes.

        Raises:
            TimeoutError: It has not ended by then.
        """

        async def wait() -> None:
            async with asyncio.timeout(timeout_s):
                await self._inner.wait_closed()

        self._thread.run(wait())

    def __enter__(self) -> Self:
        self._thread.run(self._inner.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.run(self._inner.__aexit__(kind, error, traceback))

    # -- sending and receiving ------------------------------------------------------------------------------

    emit = blocking(asynchronous.Client.emit)

    @overload
    def call(self, event: str, *args: Any, timeout_s: float | None = ...) -> Any: ...
    @overload
    def call(self, event: str, *args: Any, timeout_s: float | None = ..., returns: type[T]) -> T: ...
    @overload
    def call(self, event: str, *args: Any, timeout_s: float | None = ..., returns: Any) -> Any: ...
    @wraps(asynchronous.Client.call)
    def call(self, event: str, *args: Any, timeout_s: float | None = None, returns: Any = None) -> Any:
        """As `waypost.Client.call`."""
        return self._thread.run(self._inner.call(event, *args, timeout_s=timeout_s, returns=returns))

    @property
    def volatile(self) -> VolatileEmitter:
        """Emits what may be dropped when it can't leave at once."""
        return VolatileEmitter(self._thread, self._inner.volatile)

    def events(self, *names: str) -> EventStream:
        """Return a loop over events: ``for event in client.events("pickup")``; see `waypost.Client.events`.

        Args:
            *names: Their names; none for every event.

        Returns:
            The loop; it has begun, so that nothing is missed before the first turn.

        Delivery: like a handler's, in order; an event that asks for an acknowledgement gets it when the loop asks for
        the next one, unless there is a handler for it, too.
        """
        return EventStream(self._thread, self._inner.events(*names))


class VolatileEmitter:
    """Emits what may be dropped. Made by `Client.volatile`."""

    __slots__ = ("_inner", "_thread")

    def __init__(self, thread: LoopThread, emitter: asynchronous.VolatileEmitter) -> None:
        self._thread = thread
        self._inner = emitter

    emit = blocking(asynchronous.VolatileEmitter.emit)


class ClientOutbox:
    """The events of one namespace that wait to be acknowledged. Made by `Client.outbox`."""

    __slots__ = ("_inner", "_thread")

    def __init__(self, thread: LoopThread, outbox: client_outbox.ClientOutbox) -> None:
        self._thread = thread
        self._inner = outbox

    pending = blocking(client_outbox.ClientOutbox.pending)
    count = blocking(client_outbox.ClientOutbox.count)
    discard = blocking(client_outbox.ClientOutbox.discard)

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
                await self._inner.drained()

        self._thread.run(wait())


class EventStream:
    """The events of some names, in the order of arrival. Made by `Client.events`.

    It ends with `close`, with the ``with`` block around it, or when the client has left. An event is acknowledged
    when the next one is asked for; to leave the loop in between, call `ReceivedEvent.ack` first.
    """

    __slots__ = ("_inner", "_thread")

    def __init__(self, thread: LoopThread, stream: streams.EventStream) -> None:
        self._thread = thread
        self._inner = stream

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
                return await anext(self._inner, None)

        event = self._thread.run(step())
        if event is None:
            raise StopIteration
        return ReceivedEvent(self._thread, event)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ReceivedEvent:
        return self.next()

    close = blocking(streams.EventStream.close)

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

    __slots__ = ("_inner", "_thread", "arg", "args", "name")

    def __init__(self, thread: LoopThread, event: streams.ReceivedEvent) -> None:
        self._thread = thread
        self._inner = event
        self.name = event.name
        self.args = event.args
        self.arg = event.arg

    def __repr__(self) -> str:
        return repr(self._inner)

    ack = blocking(streams.ReceivedEvent.ack)
    reject = blocking(streams.ReceivedEvent.reject)


def _in_thread(auth: Auth) -> Auth:
    """Have a plain function asked in a thread: it may take its time, as whoever fetches a token does."""
    if not callable(auth) or inspect.iscoroutinefunction(auth):
        return auth
    ask = auth

    async def credentials() -> Mapping[str, Any] | None:
        answer = await asyncio.to_thread(ask)
        return (await answer) if inspect.isawaitable(answer) else answer

    return credentials
