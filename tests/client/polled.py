"""A made-up server for HTTP long-polling, which does what a test says and writes down what it got."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer


class PolledServer:
    """Accepts every client; what is in `answers` is the answer to the next polls.

    Attributes:
        answers: Bodies, or responses.
        posts: The bodies of all POSTs.
        requests: All requests.
        upgrade: What becomes of a WebSocket that probes.
        may_answer_posts: Whether POSTs are answered.
    """

    def __init__(self, upgrades: list[str], max_payload: int) -> None:
        opening = {
            "sid": "s",
            "upgrades": upgrades,
            "pingInterval": 25000,
            "pingTimeout": 20000,
            "maxPayload": max_payload,
        }
        self.answers: asyncio.Queue[str | bytes | web.Response] = asyncio.Queue()
        self.answers.put_nowait("0" + json.dumps(opening))
        self.posts: list[str] = []
        self.requests: list[web.Request] = []
        self.upgrade: Callable[[web.WebSocketResponse], Awaitable[None]] | None = None
        self.may_answer_posts = asyncio.Event()
        self.may_answer_posts.set()
        self.url = ""

    @property
    def packets(self) -> list[str]:
        """All packets that came in POSTs, without CONNECT."""
        return [packet for body in self.posts for packet in body.split("\x1e") if not packet.startswith("40")]

    def say(self, *frames: str) -> None:
        """Answer a poll with frames."""
        self.answers.put_nowait("\x1e".join(frames))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if request.query["transport"] == "websocket":
            return await self._probe(request)
        if request.method == "POST":
            self.posts.append(await request.text())
            await self.may_answer_posts.wait()
            if self.posts[-1].startswith("40"):
                self.say('40{"sid":"socket"}')
            return web.Response(text="ok")
        answer = await self.answers.get()
        if isinstance(answer, web.Response):
            return answer
        return web.Response(body=answer if isinstance(answer, bytes) else answer.encode())

    async def _probe(self, request: web.Request) -> web.StreamResponse:
        if self.upgrade is None:
            return web.Response(status=403)
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await self.upgrade(websocket)
        return websocket


async def text_of(websocket: web.WebSocketResponse) -> str | None:
    """Receive a text frame; ``None`` at the end."""
    message = await websocket.receive()
    return message.data if message.type is WSMsgType.TEXT else None


@asynccontextmanager
async def polled(*, upgrades: tuple[str, ...] = (), max_payload: int = 1_000_000) -> AsyncIterator[PolledServer]:
    """Serve."""
    server = PolledServer(list(upgrades), max_payload)
    application = web.Application(client_max_size=1 << 24)
    application.router.add_route("*", "/socket.io/", server.handle)
    async with TestServer(application) as http:
        server.url = f"http://127.0.0.1:{http.port}"
        yield server
        server.may_answer_posts.set()
        server.say("1")
