"""Middleware around Engine.IO is ASGI middleware: of any framework, over both transports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount

import waypost
from tests.transports.asgi_client import POLLING, ask, serving, sid_of, websocket


async def only_with_a_key(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """Starlette's own way: refuse a request, and add a header to an answer."""
    if request.headers.get("x-key") != "right":
        return PlainTextResponse("no key", 401)
    response = await answer(request)
    response.headers["x-answered-by"] = "middleware"
    return response


class Stamp:
    """Plain ASGI, which sees WebSockets too: it tells the application below who the user is."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "websocket" and (b"x-key", b"right") not in scope["headers"]:
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        await self.app({**scope, "headers": [*scope["headers"], (b"x-user", b"anna")]}, receive, send)


async def test_middleware_of_starlette_stands_before_engine_io() -> None:
    io = waypost.Server(drain_s=0.0)
    users: list[str] = []
    io.hooks.connection_opened(lambda opened: users.append(opened.handshake.headers["x-user"]))
    app = Starlette(
        routes=[Mount("/socket.io", io)],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=only_with_a_key), Middleware(Stamp)],
    )
    key = {"X-Key": "right"}
    async with serving(io):
        assert (await ask(app)).status == 401
        opened = await ask(app, headers=key)
        assert opened.headers["x-answered-by"] == "middleware"
        sid = sid_of(opened)
        assert (await ask(app, f"{POLLING}&sid={sid}", method="POST", headers=key, body=[b"40"])).status == 200
        async with websocket(app) as socket:
            assert await socket.next() == {"type": "websocket.close", "code": 1008}
        async with websocket(app, headers=key) as socket:
            assert (await socket.next())["type"] == "websocket.accept"
    assert users == ["anna", "anna"]
