"""The public server: its options, its start and stop, and its ASGI application."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from os import PathLike
from typing import Any, Concatenate, Literal, Never, ParamSpec, TypeVar, Unpack, overload

from waypost.checking.arguments import COUNT, FUNCTION, TEXT, check
from waypost.checking.layers import Layered, given_around, layered
from waypost.checking.names import Name, as_name
from waypost.checking.options import refuse_positional
from waypost.checking.rules import rule_of
from waypost.logs import fields, get_logger
from waypost.operations.doors import ForOperators
from waypost.server.basics.environment import Environment
from waypost.server.basics.targets import EVERYONE
from waypost.server.cluster.server_side import AmongServers
from waypost.server.emitting.members import Members
from waypost.server.emitting.operator import Broadcasting
from waypost.server.events.background import TaskFunction
from waypost.server.events.listening import Listening
from waypost.server.hub import Hub
from waypost.server.namespaces.namespace import Namespace, ParentNamespace
from waypost.server.namespaces.socket import Socket
from waypost.server.options import Options, ServerOptions
from waypost.server.queues.cron import Cron, time_zone
from waypost.server.queues.load import Load
from waypost.server.queues.message import Message, NewMessage, Start, to_place
from waypost.server.queues.options import ORDER, Order
from waypost.server.queues.queue import Queue
from waypost.server.queues.queue_info import QueueInfo, queue_info
from waypost.server.queues.schedules import MISSED, Missed, SchedulePlan
from waypost.server.queues.worker import WorkerPlan
from waypost.server.watching.counters import ServerState
from waypost.server.watching.hooks import Hooks
from waypost.server.watching.readiness import Readiness
from waypost.storage.base import Store
from waypost.storage.choose import Clocks, StoreOptions
from waypost.storage.following import Ways
from waypost.storage.wall_times import queue_on_wall
from waypost.transports.asgi import AsgiTransport
from waypost.transports.handover.handover import Handover
from waypost.transports.http_answer import AsgiApplication
from waypost.typed.handlers import check_handler

__all__ = ["MountedServer", "Server", "handover_for", "join_workers", "options_of", "readiness_of"]

_ENVIRONMENT = rule_of(Environment | None)
_RECOVERY = rule_of(Literal["inherit"] | None)

logger = get_logger("waypost.server")

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=TaskFunction)
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Server(Broadcasting, Listening[Socket], AmongServers, ForOperators):
    """A Socket.IO server in which no client misses an event. It is an ASGI application.

    ::

        io = waypost.Server(store="parcels.db")

        @io.event
        async def pickup(socket, parcel):
            await io.to("drivers").emit("pickup", parcel)
            return "accepted"

    Events and handlers of the server are those of the namespace ``"/"``; `of` returns other namespaces. `queue`
    returns durable queues.

    A subclass may override methods. Calls on the server itself then reach the override. Other objects do not call the
    server's methods: an operator (``io.to("room").emit``), a `Socket` and ``io.of("/")`` emit by themselves.

    Args:
        positional: Not accepted: options have names.
        environment: Random numbers and wall time, for simulations; ``None`` for the real ones.
        options: `waypost.Options` lists them all, with their meaning and defaults.

    Raises:
        ConfigurationError: An option is unknown, or has a value that it does not accept.
    """

    def __init__(
        self, *positional: Never, environment: Environment | None = None, **options: Unpack[ServerOptions]
    ) -> None:
        refuse_positional("waypost.Server", positional, "store")
        check("environment", environment, _ENVIRONMENT)
        # `waypost serve` gives options outside of the code.
        self._layered = layered(Options, options, given_around())
        self._hub = Hub(self._layered.options, environment or Environment())
        self._asgi = AsgiTransport(self._hub, None)
        self._direct_polling = self._asgi.direct_polling
        root = self._hub.directory.core("/")
        self._registry = root.handlers
        self._middlewares = root.middlewares
        self._server_side = root.server_side
        self._members: Members = root.feed
        self._target = EVERYONE
        self._flags = root.flags
        self._volatile, self._local = self.volatile, self.local

    @property
    def options(self) -> Options:
        """The options this server was created with."""
        return self._hub.options

    @property
    def hooks(self) -> Hooks:
        """The hooks, which notify observers of connections, packets and errors: ``@io.hooks.error``; see `Hooks`."""
        return self._hub.hooks

    @overload
    def of(self, name: str, *, recovery: Literal["inherit"] | None = ...) -> Namespace: ...

    @overload
    def of(
        self, name: re.Pattern[str] | Callable[..., Any], *, recovery: Literal["inherit"] | None = ...
    ) -> ParentNamespace: ...

    def of(
        self, name: str | re.Pattern[str] | Callable[..., Any], *, recovery: Literal["inherit"] | None = "inherit"
    ) -> Namespace | ParentNamespace:
        """Return a namespace; if it does not exist, make it.

        A namespace has the same decorators and operators as the server.

        Args:
            name: The namespace's name. A compiled pattern or a function makes a `ParentNamespace`, whose children are
                made when clients name them: the whole name must match the pattern, or the function gets the name and
                the client's auth, and returns whether the client may enter. A namespace with the name comes first,
                then the first parent that accepts it.
            recovery: ``None`` for a namespace, or children, without a journal: nothing is stored of its events and
                clients, and a client that was away starts anew. Say so before the namespace is used.
                ``"inherit"`` for the server's recovery, or for what was said before.

        Returns:
            The namespace or the parent.

        Raises:
            ConfigurationError: The argument is no valid name, no pattern and no function; or ``recovery`` is neither
                of the two, or ``None`` for a namespace whose journal is open.
        """
        check("recovery", recovery, _RECOVERY)
        return self._hub.of(name, has_journal=recovery is not None)

    def queue(self, name: Name) -> Queue:
        """Return a handle on a durable queue, which need not exist.

        Args:
            name: The queue's name: text, or an int for its decimal text.

        Raises:
            ConfigurationError: The name is not valid.
        """
        return Queue(name, self._hub.services, self._hub.deliveries)

    async def queue_infos(self, *, after: str = "", limit: int = 1000, idle: bool = True) -> list[QueueInfo]:
        """Return the numbers of many queues with one request to the store, for monitoring. May be cancelled.

        Args:
            after: Only queues after this name; for the next page, the last name of this one.
            limit: The most queues to return, from 1.
            idle: Whether to include queues without messages and dead letters. Leaving them out is cheaper.

        Returns:
            The queues by name; an empty list after the last one.

        Raises:
            ConfigurationError: An argument has a value that it does not accept.
            StorageError: The store did not answer, or is not open.
        """
        self._hub.services.own_loop.check("queue_infos")
        check("after", after, TEXT)
        check("limit", limit, COUNT)
        store = self._hub.services.store
        stored = await store.queues(after=after, max_queues=limit, idle=idle)
        loads: dict[str, list[Load]] = {}
        for load in (await self._hub.deliveries.loads_of(*(one.name for one in stored))).values():
            loads.setdefault(load.queue, []).append(load)
        return [queue_info(queue_on_wall(store.clock, one), loads.get(one.name, ())) for one in stored]

    def consumer(
        self,
        queue: Name,
        *,
        consumer: Name = "default",
        concurrency: int = 1,
        start: Start = "oldest",
        order: Order | None = None,
        max_losses: int | None = None,
    ) -> Callable[[Callable[Concatenate[Message, P], R]], Callable[Concatenate[Message, P], R]]:
        """Let a function of this process handle a queue's messages, as ``@io.consumer("emails", concurrency=10)``.

        The function gets a `Message`, and the event's arguments if it takes more parameters, converted to their
        annotations. It is ``async def``, or ``def`` to run in a thread. When it returns, the message is acknowledged.
        When it raises an exception (`Reject` adds a reason and a delay) or has called `Message.nack`, the queue
        delivers the message again later. A message whose arguments do not fit the function is a dead letter at once.

        Args:
            queue: The queue's name.
            consumer: The consumer's name, under which the queue keeps the progress. Sockets and workers of one
                consumer share its messages.
            concurrency: The most messages that the function handles at the same time, from 1.
            start: The start of a new consumer; see `Socket.consume`.
            order: See `QueueOptions`. ``None`` means the queue's option for a concurrency of 1, and ``"none"`` for
                more: strict order allows one message at a time.
            max_losses: A message is a dead letter after the process has ended so many times while the function had
                it, from 1. ``None`` means the queue's option, and 20 if that is ``None``.

        Returns:
            A decorator, which returns the function.

        Raises:
            ConfigurationError: An argument has a value that it does not accept.

        Delivery: at least once. A stopping server starts no function any more, and lets those that run finish for
        ``stop_timeout_s``. Messages that are not acknowledged by then, or when the process is killed, are delivered
        again at the next start, as a further attempt.
        """
        queue, consumer = as_name("queue", queue), as_name("consumer", consumer)
        check("concurrency", concurrency, COUNT)
        if order is not None:
            check("order", order, ORDER)
        if max_losses is not None:
            check("max_losses", max_losses, COUNT)
        place = to_place(start)

        def register(function: Callable[Concatenate[Message, P], R]) -> Callable[Concatenate[Message, P], R]:
            handler = check_handler(f"consumer {queue}", function, 1)
            plan = WorkerPlan(queue, consumer, handler, concurrency, place, order, max_losses)
            self._hub.deliveries.workers.add(plan)
            return function

        return register

    def schedule(
        self,
        name: Name,
        cron: str,
        queue: Name,
        event: str,
        *args: Any,
        timezone: str = "UTC",
        missed: Missed = "skip",
        key: Name | None = None,
        ttl_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Put a message into a queue at certain times, as ``io.schedule("report", "0 7 * * *", "reports", "make")``.

        A local time that does not exist, because the clock was put forward, counts at the first moment after the gap;
        of one that comes twice the first one counts. A schedule of every hour (``*/5 * * * *``) follows the time that
        passes instead.

        Args:
            name: The schedule's name, under which the store keeps the last time; one schedule has it.
            cron: The times in cron's notation: minute, hour, day of the month, month, day of the week.
            queue: The queue's name.
            event: The name of the event that consumers receive.
            args: The event's arguments, the same each time.
            timezone: The time zone of the times, such as ``"Europe/Berlin"``.
            missed: What happens at a start after times at which no server ran: ``"skip"`` puts no message into the
                queue, ``"once"`` that of the last of these times. A time up to a minute ago is not missed.
            key: The ordering key, as for `Queue.emit`.
            ttl_s: The time to live, as for `Queue.emit`.
            headers: The headers, as for `Queue.emit`.

        Raises:
            ConfigurationError: An argument has a value that it does not accept, or the name is taken.
            EncodingFailed: An argument of the event can't be encoded.

        Delivery: as for `Queue.emit`. The message's id is made of the schedule's name and the minute, so
        a restart gives no second message for the same time. If the store fails or the queue is full,
        the message is put into the queue as soon as that is possible, unless the next time comes first.
        """
        zone = time_zone(timezone)
        check("missed", missed, MISSED)
        message = NewMessage(event, *args, key=key, ttl_s=ttl_s, headers=headers)
        plan = SchedulePlan(as_name("name", name), Cron(cron, zone), as_name("queue", queue), message, missed)
        self._hub.schedules.add(plan)

    def task(self, function: F) -> F:
        """Run a function beside the server: it starts when the server has started, and is cancelled when it stops.

        ::

            @io.task
            async def tick():
                while True:
                    await io.emit("tick", time.time())
                    await asyncio.sleep(1)

        It runs once for each start, in each process that serves. After its cancellation it may clean up; handlers
        and it share ``stop_timeout_s``, and clients and the store are there until it has ended. A function that
        returns has done its work. One that raises is logged with its traceback, and not started again.

        Args:
            function: An ``async def`` without arguments. A server that has started runs it at once.

        Returns:
            The function.

        Raises:
            ConfigurationError: The function is no ``async def`` without arguments, or was given before.
            WrongEventLoop: The server has started, and runs on another event loop.
        """
        self._hub.background.add(function)
        return function

    def use_store(self, spec: str | PathLike[str]) -> None:
        """Replace the store of the options; only before the server has started.

        Args:
            spec: The store, as in the option ``store``.

        Raises:
            ConfigurationError: The store is not valid, or the server has started.
        """
        self._hub.use_store(spec)

    def state(self) -> ServerState:
        """Return the server's current numbers: connections, recoveries by outcome, sizes of journals."""
        return self._hub.state()

    def describe(self) -> str:
        """Return a description of the store and its durability, in words."""
        return self._hub.describe()

    async def start(self) -> None:
        """Open the store. The ASGI lifespan calls it; without a lifespan, the first request does.

        A second call waits for the same start. During a stop it waits for its end, and starts anew: handlers,
        middleware and functions of queues stay, and ``"memory:"`` is empty. May be cancelled; the start continues.

        Raises:
            StorageError: The store can't be opened.
            WrongEventLoop: The server runs on another event loop, or that one ended without `close`.
        """
        await self._hub.start()

    async def close(self, *, drain_s: float | None = None, stop_timeout_s: float | None = None) -> None:
        """Stop gracefully: let queues' functions finish, disconnect clients, let handlers finish, close the store.

        The ASGI lifespan and ``waypost serve`` call it. Functions of `consumer` get no more messages. While those
        that run finish, clients are served as before. Then no client is accepted any more, and clients are
        disconnected one after the other; until its turn each works as before. They recover when a server starts on
        the same store. A second call waits for the same stop, and may shorten it. If cancelled, the stop continues.

        Args:
            drain_s: Seconds over which clients are disconnected, from 0; ``None`` for the option of that name.
            stop_timeout_s: Seconds in which functions of queues may finish, from 0, and handlers of events in what is
                left of them, 5 s at least; ``None`` for the option of that name.

        Raises:
            ConfigurationError: An argument is not a number from 0.
            StorageError: The store could not be closed properly.
            WrongEventLoop: The server runs on another event loop.
        """
        await self._hub.close(drain_s, stop_timeout_s)

    @asynccontextmanager
    async def lifespan(self, _application: Any = None) -> AsyncIterator[None]:
        """Start and close with the application around this server: ``FastAPI(lifespan=io.lifespan)``.

        Raises:
            StorageError: The store can't be opened.
        """
        await self.start()
        try:
            yield
        finally:
            await self.close()

    def asgi(self, other: AsgiApplication) -> MountedServer:
        """Make an ASGI application that serves this server's path, and passes all other requests on.

        Args:
            other: The ASGI application for all other requests.

        Returns:
            The ASGI application.

        Raises:
            ConfigurationError: ``other`` is not callable.
        """
        check("other", other, FUNCTION)
        return MountedServer(self, AsgiTransport(self._hub, other))

    def run(self, *, host: str = "127.0.0.1", port: int = 8000) -> None:
        """Serve until SIGINT or SIGTERM, then stop gracefully. Blocks.

        Args:
            host: The address to listen on.
            port: The port to listen on, from 0 to 65535; 0 takes a free port.

        Raises:
            ConfigurationError: The address can't be bound.
            WaypostError: The server could not start.
        """
        from waypost.transports.uvicorn_runner import bind, serve  # uvicorn is only needed here

        serve(
            self,
            self,
            bind(host, port),
            announce=lambda address: logger.info(
                "listening on %s  %s", address, self.describe(), extra=fields(address=address)
            ),
            handover=handover_for(self),
        )

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        await self._asgi(scope, receive, send)


class MountedServer:
    """A server in front of another ASGI application; made by `Server.asgi`.

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


def options_of(server: Server) -> Layered[Options]:
    """Return a server's options, and where each comes from."""
    return server._layered  # noqa: SLF001  # its own kind


def readiness_of(server: Server) -> Readiness:
    """Return whether a server is ready, without its numbers."""
    return server._hub.readiness()  # noqa: SLF001  # its own kind


def handover_for(server: Server) -> Handover | None:
    """Return a server's part in forwarding connections to other machines; ``None`` if its store has no other nodes.

    Args:
        server: The server, before its start, in a process that is no worker of a parent.
    """
    if not server._hub.has_nodes:  # noqa: SLF001  # its own kind
        return None
    handover = Handover(None)
    join_workers(server, handover)
    return handover


def join_workers(
    server: Server, handover: Handover, make_store: Callable[[StoreOptions, Clocks], Store] | None = None
) -> None:
    """Let a server be one of several processes, whose session ids name it.

    Args:
        server: The server, before its start.
        handover: This process's part in handing over connections; the runner gets it too.
        make_store: Makes this worker's end of the store that all share; ``None`` leaves the store as it is.
    """
    hub = server._hub  # noqa: SLF001  # its own kind
    if make_store is not None:
        hub.use_store_from(make_store)
    hub.engine.worker = handover.worker

    def find_ways() -> Ways | None:
        nodes = hub.services.store.nodes
        return None if nodes is None else nodes.ways

    handover.find_ways = find_ways
    handover.counters = hub.services.counters
    handover.is_leaving = lambda: hub.gate.is_shut
