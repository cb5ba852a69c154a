"""Runs an ASGI application with a Waypost server in it under uvicorn, and stops it gracefully.

uvicorn manages the connections. This module handles the signals and the order of the stop: first Waypost says goodbye
to its clients and stores their sessions, then uvicorn stops.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial
from types import FrameType
from typing import Annotated, Any, Protocol, cast

import uvicorn

from waypost.checking.arguments import TEXT, check
from waypost.checking.constraints import AtLeast, AtMost
from waypost.checking.rules import rule_of
from waypost.daemon_threads import DaemonThreads
from waypost.errors import ConfigurationError
from waypost.logs import get_logger
from waypost.server.options import Options
from waypost.transports.descriptors import OncePerShortage
from waypost.transports.handover.handover import Handover
from waypost.transports.request_log import RequestLog
from waypost.transports.side_listener import SideListener, listening_beside
from waypost.transports.uvicorn_inside import choose_protocols
from waypost.transports.wire import PLAIN, Wire

__all__ = ["Orders", "Served", "Steered", "bind", "calm_garbage_collection", "configure", "running", "serve"]

_PORT = rule_of(Annotated[int, AtLeast(0), AtMost(65535)])

_GRACE_S = 5
_FORCED_S = 1.0
_BACKLOG = 65_535
_log = get_logger("waypost.serve")


class Served(Protocol):
    """The part of a Waypost server that this module needs."""

    @property
    def options(self) -> Options:
        """The options this server was created with."""
        ...

    async def start(self) -> None:
        """Open the store."""
        ...

    async def close(self, *, drain_s: float | None = None, stop_timeout_s: float | None = None) -> None:
        """Stop gracefully. A second call waits for the same stop, and may shorten it."""
        ...


class Steered(Protocol):
    """The part of a running server that somebody else than the system's signals may steer."""

    def stop(self) -> None:
        """Stop accepting, and stop gracefully."""
        ...

    def end(self, code: int) -> None:
        """Stop without waiting, with an exit code."""
        ...

    def adopt(self, key: int, listener: socket.socket) -> None:
        """Accept clients on a further socket too, which the server owns from now on, until `abandon`."""
        ...

    def abandon(self, key: int) -> None:
        """Accept no more clients on the sockets that were adopted under a key."""
        ...


class Orders(Protocol):
    """Steers a server in the place of the system's signals: the parent of a worker."""

    def begin(self, server: Steered) -> None:
        """Begin to steer, on the server's loop; called before the store is opened."""
        ...

    async def allow(self) -> bool:
        """Wait until the server may accept clients; called when the store is open. False if it is not to."""
        ...


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind sockets to an address.

    Args:
        host: A name or an address. If a name has several addresses, each gets a socket.
        port: The port, from 0 to 65535; 0 takes a free port.

    Returns:
        A bound socket for each address, all with the same port. The caller closes them.

    Raises:
        ConfigurationError: An address can't be bound.
    """
    check("host", host, TEXT)
    check("port", port, _PORT)
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in _addresses(host, port):
            listener = socket.socket(family, kind, protocol)
            bound.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address[0], port, *address[2:]))
            port = port or listener.getsockname()[1]
    except OSError as error:
        for listener in bound:
            listener.close()
        expected = f"an address that can be listened on; {error.strerror}"
        raise ConfigurationError("address", f"{host}:{port}", expected) from error
    return bound


def _addresses(host: str, port: int) -> list[tuple[Any, Any, int, str, Any]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)


def serve(
    app: Any,
    io: Served,
    listeners: list[socket.socket],
    *,
    announce: Callable[[str], None],
    handover: Handover | None = None,
    orders: Orders | None = None,
    sides: Sequence[SideListener] = (),
    wire: Wire = PLAIN,
) -> int:
    """Serve until SIGTERM or SIGINT. Blocks. A second signal stops without waiting.

    Args:
        app: The ASGI application.
        io: The Waypost server in it.
        listeners: The sockets from `bind`; they are closed at the end.
        announce: Called with the address, as ``http://host:port``, once the server accepts connections.
        handover: This process's part in handing over connections, if it is one of several workers.
        orders: The parent's orders, if this process is one of several workers. It then leaves signals as they are.
        sides: What is served beside, from before the store is opened until after it is closed.
        wire: How connections are made.

    Returns:
        The process's exit code: 0 after a graceful stop, 128 + the signal's number after a forced one.

    Raises:
        WaypostError: The server could not start.
    """
    calm_garbage_collection()
    config = configure(app, io.options, handover, wire)
    get_logger("uvicorn.error").addFilter(_WithoutTraceback())
    get_logger("asyncio").addFilter(OncePerShortage())
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        return runner.run(_serve(config, io, listeners, announce, handover, orders, sides))


def calm_garbage_collection() -> None:
    """Collect cycles less often. This changes the whole process, which runs only the server.

    A connection keeps about eighty objects. With Python's thresholds, every ninth connection starts a collection,
    which was a quarter of the cost of connecting.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@asynccontextmanager
async def running(
    app: Any, io: Served, listeners: list[socket.socket], *, handover: Handover | None = None
) -> AsyncIterator[str]:
    """Serve on the running loop until the block ends, without changing the program's signals.

    At the end all clients are disconnected at once.

    Args:
        app: The ASGI application.
        io: The Waypost server in it.
        listeners: The sockets from `bind`; they are closed at the end.
        handover: This server's part in handing over connections, if it is one of several workers.

    Yields:
        The address, as ``http://host:port``.

    Raises:
        ConfigurationError: The application did not start.
        WaypostError: The server could not start.
    """
    listening = asyncio.get_running_loop().create_future()
    config = configure(app, io.options, handover)
    server = _Uvicorn(config, io, lambda: listening.set_result(None), handover, takes_signals=False)
    serving = asyncio.create_task(_run(server, io, listeners))
    try:
        await asyncio.wait((serving, listening), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        yield _address(listeners[0])
    finally:
        if not serving.done():
            await io.close(drain_s=0, stop_timeout_s=min(_GRACE_S, io.options.stop_timeout_s))
            server.should_exit = True
            await serving


def configure(app: Any, options: Options, handover: Handover | None = None, wire: Wire = PLAIN) -> uvicorn.Config:
    """Return uvicorn's configuration for an application with a Waypost server in it.

    Args:
        app: The ASGI application.
        options: The Waypost server's options.
        handover: The process's part in handing over connections, if it is one of several workers.
        wire: How connections are made.

    Raises:
        ConfigurationError: There are several workers, and uvicorn lacks what handing over needs; or the certificate
            can't be used.
    """
    wire.check()
    http: Any
    http, websocket = choose_protocols()
    if handover is not None:
        if isinstance(http, str):
            expected = "a version that this version of Waypost knows inside; with --workers 1 this one does as well"
            raise ConfigurationError("uvicorn", uvicorn.__version__, expected)
        http = partial(_among_workers, handover, http)
    if options.websocket_compression and websocket != "auto":
        websocket = partial(websocket, may_compress=True)
    return uvicorn.Config(
        RequestLog(app) if wire.logs_requests else app,
        http=http,
        ws=websocket,
        # Waypost reads these headers itself, from proxies in the option `trusted_proxies`.
        proxy_headers=False,
        ws_max_size=options.max_payload_bytes,
        # Engine.IO has its own heartbeat.
        ws_ping_interval=None,
        # As in Node's server: for small events, compression costs more memory and time than it saves.
        ws_per_message_deflate=options.websocket_compression,
        # After a restart all clients connect at the same time. The kernel caps this value.
        backlog=_BACKLOG,
        # Ours shows no session ids, and sees what goes past uvicorn's.
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=wire.certfile,
        ssl_keyfile=wire.keyfile,
    )


def _among_workers(handover: Handover, make: Callable[..., Any], **arguments: Any) -> Any:
    protocol = make(**arguments)
    protocol.handover = handover
    return protocol


class _WithoutTraceback(logging.Filter):
    """Shortens uvicorn's log of a client's malformed text frame to one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], UnicodeDecodeError):
            record.exc_info = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


async def _serve(
    config: uvicorn.Config,
    io: Served,
    listeners: list[socket.socket],
    announce: Callable[[str], None],
    handover: Handover | None,
    orders: Orders | None,
    sides: Sequence[SideListener],
) -> int:
    # What the application runs by `asyncio.to_thread` must not keep the process after the store is closed, either.
    asyncio.get_running_loop().set_default_executor(DaemonThreads("asyncio", _most_threads()))
    address = _address(listeners[0], secure=config.is_ssl)
    server = _Uvicorn(config, io, lambda: announce(address), handover, takes_signals=orders is None)
    if orders is not None:
        orders.begin(server)
    async with listening_beside(sides):
        return await _run(server, io, listeners, orders)


def _most_threads() -> int:
    """Return how many threads a loop has by default."""
    return min(32, (os.cpu_count() or 1) + 4)


async def _run(server: _Uvicorn, io: Served, listeners: list[socket.socket], orders: Orders | None = None) -> int:
    try:
        await io.start()
        if orders is None or await orders.allow():
            await server.serve(sockets=listeners)
        return server.exit_code
    finally:
        for listener in listeners:
            listener.close()
        if not server.force_exit:
            await io.close()


def _address(listener: socket.socket, *, secure: bool = False) -> str:
    name = listener.getsockname()
    scheme = "https" if secure else "http"
    if isinstance(name, str):
        return f"{scheme}+unix:{name}"
    host, port = name[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _close(listening: asyncio.Task[asyncio.Server]) -> None:
    if not listening.cancelled() and listening.exception() is None:
        listening.result().close()


class _Uvicorn(uvicorn.Server):
    """uvicorn's server, with Waypost's start, stop and signals."""

    def __init__(
        self,
        config: uvicorn.Config,
        io: Served,
        announce: Callable[[], None],
        handover: Handover | None = None,
        *,
        takes_signals: bool = True,
    ) -> None:
        super().__init__(config)
        self.exit_code = 0
        self._handover = handover
        self._takes_signals = takes_signals
        self._io = io
        self._announce = announce
        self._forced = asyncio.Event()
        self._given_up: asyncio.Task[None] | None = None
        self._adopted: dict[int, list[asyncio.Task[asyncio.Server]]] = {}
        self._loop = asyncio.get_running_loop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit as error:
            expected = "one that starts; the log says what was in the way"
            raise ConfigurationError("application", self.config.app, expected) from error
        if self._handover is not None:
            self._handover.start(self._make_protocol)
        self._announce()

    def _make_protocol(self) -> Any:
        make = cast("Callable[..., Any]", self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        with super().capture_signals() if self._takes_signals else nullcontext():
            yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Waypost accepts no new sessions now, but polling clients still need requests to get the goodbye.
        closing = asyncio.ensure_future(self._io.close())
        forced = asyncio.ensure_future(self._forced.wait())
        await asyncio.wait({closing, forced}, return_when=asyncio.FIRST_COMPLETED)
        if forced.done():
            # Clients and the store still get a moment; handlers do not.
            await asyncio.wait(
                {asyncio.ensure_future(self._io.close(drain_s=0, stop_timeout_s=0))}, timeout=_FORCED_S
            )
        forced.cancel()
        if closing.done():
            closing.result()
        else:
            closing.cancel()
        if self._handover is not None:
            self._handover.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn's own handler raises the signal again at the end, which turns a graceful stop into a failure.
        if not self.should_exit:
            self.should_exit = True
            return
        _log.warning("%s again: stopping without waiting", signal.Signals(sig).name)
        self.exit_code = 128 + sig
        self.force_exit = True
        self._loop.call_soon_threadsafe(self._forced.set)

    def stop(self) -> None:
        """Stop accepting, and stop gracefully."""
        self.should_exit = True
        for key in list(self._adopted):
            self.abandon(key)
        if self.started:
            for server in self.servers:
                server.close()
        elif self._given_up is None:
            # It may wait for the store of another process.
            self._given_up = self._loop.create_task(self._io.close())

    def adopt(self, key: int, listener: socket.socket) -> None:
        """Accept clients on a further socket too, until `abandon`."""
        if self.should_exit:
            listener.close()
            return
        listening = self._loop.create_server(
            self._make_protocol, sock=listener, ssl=self.config.ssl, backlog=self.config.backlog
        )
        self._adopted.setdefault(key, []).append(self._loop.create_task(listening))

    def abandon(self, key: int) -> None:
        """Accept no more clients on the sockets that were adopted under a key."""
        for listening in self._adopted.pop(key, ()):
            listening.add_done_callback(_close)

    def end(self, code: int) -> None:
        """Stop without waiting, with an exit code."""
        self.exit_code = code
        self.should_exit = self.force_exit = True
        self._forced.set()
