"""The public server: its options, its life, and the ASGI application that it is."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from os import PathLike
from typing import Any, Concatenate, Never, ParamSpec, TypeVar, Unpack, overload

from waypost.checking.arguments import COUNT, FUNCTION, TEXT, check
from waypost.checking.names import Name, as_name
from waypost.checking.options import refuse_positional
from waypost.checking.rules import rule_of
from waypost.server.basics.environment import Environment
from waypost.server.basics.targets import EVERYONE
from waypost.server.cluster.server_side import AmongServers
from waypost.server.emitting.members import Members
from waypost.server.emitting.operator import Broadcasting
from waypost.server.events.listening import Listening
from waypost.server.hub import Hub
from waypost.server.namespaces.namespace import Namespace, ParentNamespace
from waypost.server.namespaces.socket import Socket
from waypost.server.options import Options, ServerOptions
from waypost.server.queues.message import Message, Start, to_place
from waypost.server.queues.options import ORDER, Order
from waypost.server.queues.queue import Queue, QueueInfo, queue_info
from waypost.server.queues.worker import WorkerPlan
from waypost.server.watching.counters import ServerState
from waypost.server.watching.hooks import Hooks
from waypost.transports.asgi import AsgiApplication, AsgiTransport
from waypost.typed.handlers import check_handler

__all__ = ["MountedServer", "Server"]

_ENVIRONMENT = rule_of(Environment | None)

logger = logging.getLogger("waypost.server")

P = ParamSpec("P")
R = TypeVar("R")
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Server(Broadcasting, Listening[Socket], AmongServers):
    """A Socket.IO server in which no client misses an event. It is an ASGI application.

    ::

        io = waypost.Server(store="parcels.db")

        @io.event
        async def pickup(socket, parcel):
            await io.to("drivers").emit("pickup", parcel)
            return "accepted"

    Events and handlers of the server are those of the namespace ``"/"``; `of` gives the others. `queue` gives durable
    queues.

    A subclass may override methods. Calls on the server itself then reach the override. Other objects do not call
    the server's methods: an operator (``io.to("room").emit``), a `Socket` and ``io.of("/")`` emit by themselves.

    Args:
        positional: Nothing; options have names.
        environment: Chance and wall time; for simulations. ``None`` for the real ones.
        options: `waypost.Options` lists them all, with their meaning and defaults.

    Raises:
        ConfigurationError: There is no option of that name, or one has a value that it can't have.
    """

    def __init__(
        self, *positional: Never, environment: Environment | None = None, **options: Unpack[ServerOptions]
    ) -> None:
        refuse_positional("waypost.Server", positional, "store")
        check("environment", environment, _ENVIRONMENT)
        self._hub = Hub(Options(**options), environment or Environment())
        self._asgi = AsgiTransport(self._hub, None)
        self._direct_polling = self._asgi.direct_polling
        root = self._hub.directory.core("/")
        self._registry = root.handlers
        self._middlewares = root.middlewares
        self._server_side = root.server_side
        self._members: Members = root.feed
        self._target = EVERYONE
        self._flags = root.flags

    @property
    def options(self) -> Options:
        """The options that this server was created with."""
        return self._hub.options

    @property
    def hooks(self) -> Hooks:
        """Where observers are told of connections, packets and errors: ``@io.hooks.error``; see `Hooks`."""
        return self._hub.hooks

    @overload
    def of(self, name: str) -> Namespace: ...

    @overload
    def of(self, name: re.Pattern[str] | Callable[..., Any]) -> ParentNamespace: ...

    def of(self, name: str | re.Pattern[str] | Callable[..., Any]) -> Namespace | ParentNamespace:
        """Return a namespace, made if need be: the same decorators and operators as here, for its sockets.

        Args:
            name: Its name. Or, for a `ParentNamespace` of all those that fit and that come into being when a client
                names them: a compiled pattern that the whole name has to match, or a function that is called with
                the name and the client's auth, and returns whether it may enter. A namespace that is there by its
                name wins; else the first parent that takes the name.

        Raises:
            ConfigurationError: It is none of these.
        """
        return self._hub.of(name)

    def queue(self, name: Name) -> Queue:
        """Return a handle on a durable queue, whether it exists or not."""
        return Queue(name, self._hub.services, self._hub.deliveries)

    async def queue_infos(self, *, after: str = "", limit: int = 1000, idle: bool = True) -> list[QueueInfo]:
        """Return the numbers of many queues with one question to the store; for whoever watches over all of them.

        Args:
            after: The name before the first one wanted; to go on, that of the last one returned.
            limit: The most to return, from 1.
            idle: Whether queues are wanted, too, that keep no message and no dead letter. To leave out those is
                cheaper still.

        Returns:
            Them by name; none if there are no more.

        Raises:
            StorageError: The store did not answer, or is not open.
        """
        check("after", after, TEXT)
        check("limit", limit, COUNT)
        stored = await self._hub.services.store.queues(after=after, max_queues=limit, idle=idle)
        return [queue_info(one, self._hub.deliveries.serving(one.name)) for one in stored]

    def consumer(
        self,
        queue: Name,
        *,
        consumer: Name = "default",
        concurrency: int = 1,
        start: Start = "oldest",
        order: Order | None = None,
    ) -> Callable[[Callable[Concatenate[Message, P], R]], Callable[Concatenate[Message, P], R]]:
        """Let a function of this process handle a queue's messages, as ``@io.consumer("emails", concurrency=10)``.

        It is called with a `Message`, and then with the event's arguments if it takes more than the message,
        converted to what its parameters are annotated with: ``async def``, or ``def`` to run in a thread. When it
        returns, the message is acknowledged; when it raises (`Reject` says why and when), or has called
        `Message.nack`, the message comes again later.

        Args:
            queue: The queue's name.
            consumer: The name under which progress is kept; sockets and workers on the same one share its messages.
            concurrency: How many messages it may have in hand at the same time.
            start: Where a new consumer starts; see `Socket.consume`.
            order: See `QueueOptions`. ``None`` for the queue's option if it handles one message at a time, and for
                ``"none"`` if it handles several: in strict order there is only ever one.

        Raises:
            ConfigurationError: An argument can't be what it is.

        Delivery: at least once. A server that stops lets functions finish for 5 s; what is in hand then, or is
        handled when the process is killed, is delivered again at the next start.
        """
        queue, consumer = as_name("queue", queue), as_name("consumer", consumer)
        check("concurrency", concurrency, COUNT)
        if order is not None:
            check("order", order, ORDER)
        place = to_place(start)

        def register(function: Callable[Concatenate[Message, P], R]) -> Callable[Concatenate[Message, P], R]:
            handler = check_handler(f"consumer {queue}", function, 1)
            self._hub.deliveries.add_worker(WorkerPlan(queue, consumer, handler, concurrency, place, order))
            return function

        return register

    def use_store(self, spec: str | PathLike[str]) -> None:
        """Use another store than the options name; only before the server has started.

        Args:
            spec: As the ``store`` option.
        """
        self._hub.use_store(spec)

    def state(self) -> ServerState:
        """Take the server's numbers: connections, recoveries by outcome, how much the journals keep."""
        return self._hub.state()

    def describe(self) -> str:
        """Say in words where things are kept and how durably."""
        return self._hub.describe()

    async def start(self) -> None:
        """Open the store. The ASGI lifespan does it, and else the first request.

        Raises:
            StorageError: The store can't be opened.
        """
        await self._hub.start()

    async def close(self, *, drain_s: float | None = None) -> None:
        """Stop gracefully: take nobody new, tell clients, let handlers finish, close the store.

        The ASGI lifespan and ``waypost serve`` do it. Clients are told one after the other, and go on working until
        then; they recover when a server comes up again on the same store. Whoever calls it again waits for the same
        stop, and may shorten it. If cancelled, the stop goes on.

        Args:
            drain_s: Seconds over which clients are told, from 0; ``None`` for the option of that name.

        Raises:
            ConfigurationError: It is no such number.
            StorageError: The store could not be closed properly.
        """
        await self._hub.close(drain_s)

    @asynccontextmanager
    async def lifespan(self, _application: Any = None) -> AsyncIterator[None]:
        """Start and close with an application that this server is mounted in: ``FastAPI(lifespan=io.lifespan)``."""
        await self.start()
        try:
            yield
        finally:
            await self.close()

    def asgi(self, other: AsgiApplication) -> MountedServer:
        """Make an ASGI application that serves this server's path itself and hands all others on.

        Args:
            other: An ASGI application.

        Raises:
            ConfigurationError: It is no function, so no application.
        """
        check("other", other, FUNCTION)
        return MountedServer(self, AsgiTransport(self._hub, other))

    def run(self, *, host: str = "127.0.0.1", port: int = 8000) -> None:
        """Serve until SIGINT or SIGTERM, then stop gracefully. Blocks.

        Args:
            host: The address to listen on.
            port: The port to listen on.
        """
        from waypost.transports.uvicorn_runner import bind, serve  # uvicorn is only needed here

        serve(
            self,
            self,
            bind(host, port),
            announce=lambda address: logger.info("listening on %s  %s", address, self.describe()),
        )

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        await self._asgi(scope, receive, send)


class MountedServer:
    """A server before another ASGI application; made by `Server.asgi`.

    Attributes:
        server: The server.
    """

    def __init__(self, server: Server, transport: AsgiTransport) -> None:
        self.server = server
        self._direct_polling = transport.direct_polling
        self._transport = transport

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        await self._transport(scope, receive, send)
