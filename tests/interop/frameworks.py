"""The same application alone, in front of another one, and mounted in one: what uvicorn is asked to serve.

`python -m uvicorn tests.interop.frameworks:NAME` runs it.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import waypost


def _server() -> waypost.Server:
    io = waypost.Server()

    @io.event
    async def echo(socket: waypost.Socket, *args: Any) -> tuple[Any, ...]:
        await io.emit("echoed", *args)
        return args

    return io


async def _hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


plain = _server()

in_front = _server().asgi(Starlette(routes=[Route("/hello", _hello)]))

in_starlette = Starlette(routes=[Route("/hello", _hello), Mount("/socket.io", _server())])

in_fastapi = FastAPI()
in_fastapi.add_api_route("/hello", _hello)
in_fastapi.mount("/socket.io", _server())
