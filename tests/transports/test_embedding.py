"""A server before and inside other ASGI applications: what each is asked, and when it starts and stops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import waypost
from tests.server.model_client import hub_of
from tests.support.raw import request
from waypost.transports.uvicorn_runner import configure

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


def named(name: str, **options: Any) -> waypost.Server:
    """Make a server that says its name."""
    io = waypost.Server(drain_s=0, **options)

    @io.event
    async def who(socket: waypost.Socket) -> str:
        return name

    return io


async def hello(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """The least that is an ASGI application: HTTP, and nothing of a lifespan."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def serving(app: Any, io: waypost.Server) -> AsyncIterator[int]:
    """Serve an application; gives the port. At the end all servers in it must have been told to stop."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = configure(app, io.options)
    config.lifespan = "on"
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not task.done()
        await asyncio.sleep(0.005)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task
        listener.close()


async def answer(port: int, path: str = "/socket.io/") -> Any:
    """Ask the server at a path for its name."""
    async with waypost.Client(f"http://127.0.0.1:{port}", path=path) as client:
        return await client.call("who")


def is_open(io: waypost.Server) -> bool:
    return hub_of(io).directory.core("/").ownership.keeper is not None and not hub_of(io).gate.is_shut


@pytest.mark.parametrize(
    "other", [bare, Starlette(routes=[Route("/hello", hello)]), FastAPI(routes=[Route("/hello", hello)])]
)
async def test_before_any_application(other: Any) -> None:
    io = named("io")
    async with serving(io.asgi(other), io) as port:
        assert is_open(io), "before anybody has come"
        assert await answer(port) == "io"
        assert (await request(port, "GET", "/hello")).body == b"hello"
    assert not is_open(io)


async def test_the_other_application_s_lifespan_is_inside_the_server_s() -> None:
    io = named("io")
    states: list[bool] = []

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        states.append(is_open(io))
        await io.emit("starting")
        yield
        await io.emit("stopping")
        states.append(is_open(io))

    async with serving(io.asgi(Starlette(lifespan=lifespan)), io):
        pass
    assert states == [True, True]
    assert not is_open(io)


@pytest.mark.parametrize(("prefix", "path"), [("/socket.io", "/socket.io/"), ("/live/chat", "/live/chat/socket.io/")])
@pytest.mark.parametrize("framework", ["starlette", "fastapi"])
async def test_mounted_at_a_prefix(prefix: str, path: str, framework: str) -> None:
    io = named("io")
    app: Any
    if framework == "starlette":
        app = Starlette(routes=[Route("/hello", hello), Mount(prefix, io)], lifespan=io.lifespan)
    else:
        app = FastAPI(routes=[Route("/hello", hello)], lifespan=io.lifespan)
        app.mount(prefix, io)
    async with serving(app, io) as port:
        assert is_open(io)
        assert await answer(port, path) == "io"
        assert (await request(port, "GET", "/hello")).body == b"hello"
    assert not is_open(io)


async def test_two_servers_one_before_the_other() -> None:
    first, second = named("first"), named("second", path="/second/")
    async with serving(first.asgi(second.asgi(bare)), first) as port:
        assert await answer(port) == "first"
        assert await answer(port, "/second/") == "second"
        assert (await request(port, "GET", "/hello")).body == b"hello"
    assert [is_open(io) for io in (first, second)] == [False, False]


async def test_two_servers_mounted_in_one_application() -> None:
    first, second = named("first"), named("second")

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for io in (first, second):
                await stack.enter_async_context(io.lifespan(app))
            yield

    app = Starlette(routes=[Mount("/one", first), Mount("/two", second)], lifespan=lifespan)
    async with serving(app, first) as port:
        assert await answer(port, "/one/socket.io/") == "first"
        assert await answer(port, "/two/socket.io/") == "second"
        assert [is_open(io) for io in (first, second)] == [True, True]
    assert [is_open(io) for io in (first, second)] == [False, False]
