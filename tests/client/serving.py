"""Servers for the client to meet: ours under uvicorn, in this process, and made-up ones that break the protocol."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from websockets.asyncio.server import ServerConnection, serve

import waypost
from waypost.client import DisconnectDetails

OPEN = '0{"sid":"engine","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'

Script = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def serving(io: waypost.Server, port: int = 0) -> AsyncIterator[int]:
    """Serve it on a port, any free one unless told otherwise; gives the port."""
    listener = socket.create_server(("127.0.0.1", port))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio does not for a socket it is given
    config = uvicorn.Config(io, ws="websockets-sansio", log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not task.done()
        await asyncio.sleep(0.005)
    try:
        yield listener.getsockname()[1]
    finally:
        await io.close()
        server.should_exit = True
        await task
        listener.close()


@asynccontextmanager
async def playing(*scripts: Script) -> AsyncIterator[str]:
    """Serve WebSockets, the first by the first script and so on, the last one repeated; gives the URL."""
    waiting = list(scripts)

    async def play(connection: ServerConnection) -> None:
        script = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        await script(connection)

    async with serve(play, "127.0.0.1", 0, close_timeout=0.2, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"http://127.0.0.1:{port}"


def says(*frames: str | bytes, then: Script | None = None) -> Script:
    """Make a script: open, read the client's first packet, say the frames, and go on with ``then``."""

    async def script(connection: ServerConnection) -> None:
        await connection.send(OPEN)
        await connection.recv()
        for frame in frames:
            await connection.send(frame)
        await (stays(connection) if then is None else then(connection))

    return script


def accepts(
    *frames: str | bytes, pid: str | None = None, revision: int | None = 1, then: Script | None = None
) -> Script:
    """Make a script like `says` that begins with accepting the client, as Waypost or, without revision, another."""
    answer: dict[str, Any] = {"sid": "socket"}
    if pid is not None:
        answer["pid"] = pid
    if revision is not None:
        answer["waypost"] = revision
    return says(f"40{json.dumps(answer)}", *frames, then=then)


async def stays(connection: ServerConnection) -> None:
    """Do nothing until the client closes."""
    await connection.wait_closed()


async def closes(connection: ServerConnection) -> None:
    """Close the connection."""
    await connection.close()


class Recorder:
    """Handlers that write down what they are called with.

    Attributes:
        seen: What happened, in order: the event and its arguments, without the details of a disconnect.
        details: Those.
    """

    def __init__(self, client: waypost.Client, *events: str) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.details: list[DisconnectDetails] = []
        for event in ("connect", "disconnect", "connect_error", *events):
            client.on(event, self._handler(event))

    def of(self, event: str) -> list[tuple[Any, ...]]:
        """Give the arguments of each time that an event happened."""
        return [entry[1:] for entry in self.seen if entry[0] == event]

    def _handler(self, event: str) -> Callable[..., Awaitable[None]]:
        async def handler(*arguments: Any) -> None:
            if event == "disconnect":
                arguments, details = arguments[:1], arguments[1]
                self.details.append(details)
            self.seen.append((event, *arguments))

        return handler
