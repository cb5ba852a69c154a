"""An application with Waypost and other WebSockets in it, which uvicorn serves the fast way, in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

import waypost
from tests.server.model_client import hub_of
from tests.support.waiting import until
from waypost.transports.frame_carrier import FrameCarrier
from waypost.transports.uvicorn_runner import bind, configure

LARGE = b"x" * 500_000


@dataclass
class Site:
    """A server with Waypost and other WebSockets in one application.

    Attributes:
        io: Waypost.
        port: Where it listens.
        server: uvicorn.
        codes: The close codes that the other WebSockets were told of.
        release: Lets those go on that wait for it.
        poured: How many messages were taken from the WebSocket that pours.
    """

    io: waypost.Server
    port: int = 0
    server: uvicorn.Server | None = None
    codes: list[int] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    poured: int = 0

    @property
    def carriers(self) -> list[FrameCarrier]:
        """The open WebSockets that go the fast way."""
        assert self.server is not None
        return [each for each in self.server.server_state.connections if isinstance(each, FrameCarrier)]

    def application(self, io: waypost.Server) -> Starlette:
        """Put it together."""
        others = (self.echo, self.held, self.pour, self.refuse, self.close, self.fail, self.fail_open, self.leave)
        routes = [WebSocketRoute("/" + each.__name__, each) for each in (*others, self.leave_open, self.odd)]
        return Starlette(routes=[*routes, Mount("/socket.io", io)])

    async def echo(self, websocket: WebSocket) -> None:
        wanted = "second" if "second" in websocket.scope["subprotocols"] else None
        await websocket.accept(subprotocol=wanted, headers=[(b"x-by", b"asgi")])
        try:
            while True:
                message = await websocket.receive()
                if message["type"] == "websocket.disconnect":
                    self.codes.append(message["code"])
                    return
                if message.get("text") == "bye":
                    await websocket.close(4001, "enough")
                    return
                await websocket.send({**message, "type": "websocket.send"})
        except WebSocketDisconnect as gone:
            self.codes.append(gone.code)

    async def held(self, websocket: WebSocket) -> None:
        if "late" in websocket.query_params:
            await self.release.wait()
        await websocket.accept()
        await self.release.wait()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await websocket.send_text(str(len(await websocket.receive_bytes())))

    async def pour(self, websocket: WebSocket) -> None:
        await websocket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            for number in range(100):
                await websocket.send_bytes(b"%03d" % number + LARGE)
                self.poured += 1
            await websocket.receive()

    async def refuse(self, websocket: WebSocket) -> None:
        await websocket.send_denial_response(PlainTextResponse("not today", 451))

    async def odd(self, websocket: WebSocket) -> None:
        await websocket.send_denial_response(PlainTextResponse("a status of our own", 499))

    async def close(self, websocket: WebSocket) -> None:
        await websocket.close()

    async def fail(self, websocket: WebSocket) -> None:
        raise ValueError("before an answer")

    async def fail_open(self, websocket: WebSocket) -> None:
        await websocket.accept()
        raise ValueError("after the answer")

    async def leave(self, websocket: WebSocket) -> None:
        pass

    async def leave_open(self, websocket: WebSocket) -> None:
        await websocket.accept()


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Site]:
    """Serve; keywords change uvicorn's configuration."""
    io = waypost.Server(drain_s=0.0)
    io.on("echo", lambda socket, *args: args)
    site = Site(io)
    listeners = bind("127.0.0.1", 0)
    config = configure(site.application(io), io.options)
    for name, value in options.items():
        setattr(config, name, value)
    site.server = uvicorn.Server(config)
    task = asyncio.create_task(site.server.serve(listeners))
    await until(lambda: site.server is not None and site.server.started, "uvicorn has started")
    site.port = int(listeners[0].getsockname()[1])
    try:
        yield site
    finally:
        for connection in hub_of(io).engine.connections():
            connection.abort("the test is over")
        site.server.should_exit = True
        await task
        for listener in listeners:
            listener.close()
