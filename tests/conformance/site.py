"""A server to hold against the specifications, in this process, behind any of the doors that Waypost has.

A door serves a `waypost.Server` on a free port. What is written for one runs for all: a new transport adds its door
to `DOORS`, and changes no test.
"""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn

import waypost
from tests.support.mesh import Mesh, make_protocol
from tests.support.raw import Raw
from tests.support.server_process import ServerProcess
from tests.support.waiting import until
from waypost.application import join_workers
from waypost.protocol.session import EngineSession
from waypost.server.namespaces.namespace import Namespace
from waypost.transports.handover.handover import Handover
from waypost.transports.uvicorn_protocols import GuardedWebSocket
from waypost.transports.uvicorn_runner import configure

Door = Callable[[waypost.Server], AbstractAsyncContextManager[int]]


@asynccontextmanager
async def asgi(io: waypost.Server) -> AsyncIterator[int]:
    """Serve over ASGI, by uvicorn as the command line configures it but for the fast paths; gives the port."""

    async def between(scope: Any, receive: Any, send: Any) -> None:
        await io(scope, receive, send)

    config = configure(between, io.options)
    config.ws = GuardedWebSocket
    async with _serving(io, config) as port:
        yield port


@asynccontextmanager
async def direct(io: waypost.Server) -> AsyncIterator[int]:
    """Serve by uvicorn as the command line configures it, by the fast paths; gives the port."""
    async with _serving(io, configure(io, io.options)) as port:
        yield port


@asynccontextmanager
async def handed_over(io: waypost.Server) -> AsyncIterator[int]:
    """Serve by a worker that gets each request handed over by another one, whose port this gives."""
    mesh = Mesh()
    served, front = Handover(mesh.add(2)), Handover(mesh.add(1))
    stranger = waypost.Server(drain_s=0, recovery=None)
    async with (
        _serving(io, configure(io, io.options, served), served),
        _serving(stranger, configure(stranger, io.options, front), front) as port,
    ):
        link = front.link_for(b"GET ?EIO=4&sid=anyone.2 HTTP/1.1\r\n")
        assert link is not None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(front, "link_for", lambda _head: link)
            yield port
        assert len(stranger._hub.engine) == 0
        front.close()
        served.close()


@asynccontextmanager
async def _serving(
    io: waypost.Server, config: uvicorn.Config, handover: Handover | None = None
) -> AsyncIterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not task.done()
        await asyncio.sleep(0.005)
    if handover is not None:
        join_workers(io, handover)
        handover.start(lambda: make_protocol(server))
    try:
        yield listener.getsockname()[1]
    finally:
        await io.close()
        server.should_exit = True
        await task
        listener.close()


DOORS: dict[str, Door] = {"asgi": asgi, "direct": direct, "handed over": handed_over}


@dataclass
class Site:
    """A server and what its application has seen.

    Attributes:
        io: The server.
        port: Where it listens.
        sockets: Those that have connected, by id.
        left: Why each of them is gone.
    """

    io: waypost.Server
    port: int = 0
    sockets: dict[str, waypost.Socket] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    async def reason(self, sid: str) -> str:
        """Wait until a socket is gone, and tell why."""
        await until(lambda: sid in self.left, f"socket {sid} is gone")
        return self.left[sid]

    async def polled(self, engine_sid: str) -> None:
        """Wait until a poll is waiting at the server."""
        await until(lambda: self._session(engine_sid)._poll_open, f"a poll of {engine_sid}")

    async def posting(self, engine_sid: str) -> None:
        """Wait until the server is reading a POST."""
        await until(lambda: self._session(engine_sid)._post_open, f"a POST of {engine_sid}")

    async def probed(self, engine_sid: str) -> None:
        """Wait until a WebSocket probes."""
        await until(lambda: self._session(engine_sid).is_probing, f"a probe of {engine_sid}")

    async def not_probed(self, engine_sid: str) -> None:
        """Wait until no WebSocket probes any more."""
        await until(lambda: not self._session(engine_sid).is_probing, f"the end of a probe of {engine_sid}")

    async def posted(self, engine_sid: str) -> None:
        """Wait until the server reads no POST any more."""
        await until(lambda: not self._session(engine_sid)._post_open, f"the end of a POST of {engine_sid}")

    def _session(self, engine_sid: str) -> EngineSession:
        connection = self.io._hub.engine.get(engine_sid)
        assert connection is not None
        return connection._session

    async def connection_ends(self, engine_sid: str) -> None:
        """Wait until nothing is left of a connection."""
        await until(lambda: self.io._hub.engine.get(engine_sid) is None, f"connection {engine_sid} is gone")


class DistantSite:
    """Two real workers. A test that wants to see into its server is left out: one session may be at either."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __getattr__(self, name: str) -> Any:
        pytest.skip(f"the server is in other processes, and the test wants its {name}")


@asynccontextmanager
async def two_workers(options: dict[str, Any]) -> AsyncIterator[DistantSite]:
    """Serve by `waypost serve --workers 2`; each request reaches one of the two by chance."""
    command = ("-m", "waypost", "serve", "tests.conformance.workers_app:io", "--port", "{port}", "--workers", "2")
    try:
        json.dumps(options)
    except TypeError:
        pytest.skip("an option can't be passed on to another process")
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess((*command, "--store", "memory:"), Path(folder) / "server.log", options)
        await server.start()
        try:
            yield DistantSite(server.port)
            server.check_log()
        finally:
            await server.kill()


def workers(io: waypost.Server) -> AbstractAsyncContextManager[int]:
    """Stand for `two_workers`, which takes options instead of a server."""
    raise NotImplementedError


@asynccontextmanager
async def open_site(door: Door, **options: Any) -> AsyncIterator[Site]:
    """Open a server with the application of these tests; without recovery unless asked for, to keep packets bare."""
    if door is workers:
        async with two_workers(options) as distant:
            yield cast("Site", distant)
        return
    io = waypost.Server(**{"drain_s": 0, "recovery": None, **options})
    site = Site(io)
    for name in ("/", "/other"):
        register(io.of(name), site)
    async with door(io) as port:
        site.port = port
        yield site
        # Who is left polls no more; the server would wait for them.
        for connection in io._hub.engine.connections():
            connection.abort("transport close")


def register(namespace: Namespace, site: Site) -> None:
    @namespace.use
    async def refuse(socket: waypost.Socket) -> None:
        if "refuse" in (socket.handshake.auth or {}):
            raise waypost.ConnectionRefused("not you", socket.handshake.auth["refuse"])

    @namespace.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        site.sockets[socket.id] = socket

    @namespace.on("disconnect")
    async def disconnect(socket: waypost.Socket, reason: str) -> None:
        site.left[socket.id] = reason

    @namespace.event
    async def echo(socket: waypost.Socket, *args: Any) -> tuple[Any, ...]:
        return args

    @namespace.event
    async def say(socket: waypost.Socket, *args: Any) -> None:
        await socket.emit("said", *args)


async def connected(raw: Raw, namespace: str = "") -> str:
    """Connect a raw session to a namespace; returns the socket's id."""
    await raw.send(f"40{namespace}")
    packet = await raw.receive()
    assert isinstance(packet, str)
    assert packet.startswith("40")
    return str(json.loads(packet[packet.index("{") :])["sid"])
