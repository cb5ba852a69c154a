"""What handlers see of the request: its cookies, and what ASGI middleware has put into its scope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from starlette.requests import HTTPConnection, Request

import waypost
from tests.server.model_client import HANDSHAKE
from tests.support.waiting import until
from tests.transports.asgi_client import ask, scope, serving
from waypost.testing import serve, serve_in_memory
from waypost.transports.http_answer import Receive, Scope, Send

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Membership:
    """Middleware that knows each visitor by a cookie, as sessions and logins do.

    Attributes:
        server: The server behind it, for `waypost.testing`.
    """

    def __init__(self, server: waypost.Server) -> None:
        self.server = server

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        if scope["type"] != "lifespan":
            cookies = HTTPConnection(scope).cookies
            scope["session"] = {"user": cookies.get("visitor", "nobody")}
            scope["guard"] = self  # no store could keep that
        await self.server(scope, receive, send)


def make_server(**options: Any) -> waypost.Server:
    io = waypost.Server(drain_s=0.0, **options)

    @io.event
    async def whoami(socket: waypost.Socket) -> Any:
        return socket.handshake.scope["session"]["user"], socket.handshake.cookies

    @io.event
    async def forget_me(socket: waypost.Socket) -> None:
        socket.handshake.scope["session"].clear()

    @io.event
    async def session(socket: waypost.Socket) -> Any:
        return socket.handshake.scope["session"]

    return io


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_what_middleware_has_found_out_over_each_transport(
    transport: Literal["polling", "websocket"],
) -> None:
    async with serve(Membership(make_server())) as site:
        client = await site.connect(transports=[transport], cookies={"visitor": "ada"})
        assert await client.call("whoami") == ("ada", {"visitor": "ada"})
        await client.call("forget_me")
        assert await client.call("session") == {}


async def test_fetched_sockets_have_it_too() -> None:
    async with serve_in_memory(Membership(make_server())) as site:
        await site.connect(headers={"Cookie": "visitor=ada"})
        (found,) = await site.io.fetch_sockets()
        assert found.handshake.scope["session"] == {"user": "ada"}


async def test_frameworks_read_the_scope() -> None:
    seen: list[waypost.Handshake] = []
    io = waypost.Server(drain_s=0.0)

    @io.use
    async def look(socket: waypost.Socket) -> None:
        seen.append(socket.handshake)

    async with serve_in_memory(Membership(io)) as site:
        await site.connect(query={"page": "7"}, headers={"Cookie": "visitor=ada", "X-Colour": "blue"})
    request = Request(seen[0].scope)
    assert request.session == {"user": "ada"}
    assert request.cookies == {"visitor": "ada"}
    assert request.query_params["page"] == "7"
    assert request.headers["x-colour"] == "blue"
    assert request.url.path == "/socket.io/"
    assert request.client is not None
    assert request.client.host == "127.0.0.1"


async def test_a_store_keeps_the_handshake_without_it(tmp_path: Path) -> None:
    asked: list[tuple[dict[str, str], Any, Any]] = []

    async def same_visitor(earlier: waypost.Handshake, now: waypost.Handshake) -> bool:
        asked.append((earlier.cookies, earlier.from_middleware, now.scope["session"]))
        return earlier.cookies == now.cookies

    io = make_server(store=tmp_path / "store.db", recovery=waypost.Recovery(may_resume=same_visitor))
    async with serve(Membership(io)) as site:
        url = site.url
        moved = waypost.Client(url, cookies={"visitor": "ada"}, reconnection_delay_s=0.01)
        await moved.connect()
        first = moved.id
    async with serve(Membership(io), port=int(url.rpartition(":")[2])):
        await until(lambda: moved.recovered, "the client recovers")
        assert moved.id == first
        await moved.disconnect()
    assert asked == [({"visitor": "ada"}, None, {"user": "ada"})]


@pytest.mark.parametrize(
    ("header", "cookies"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ("a=1;b=2 ; c = 3", {"a": "1", "b": "2", "c": "3"}),
        ("a=1; a=2", {"a": "1"}),
        ('a="x y"; b="', {"a": "x y", "b": '"'}),
        ("a=b=c; nonsense; =nameless", {"a": "b=c", "": "nameless"}),
        ("a=%20; ä=ö", {"a": "%20", "ä": "ö"}),
    ],
)
def test_cookies_as_browsers_send_them(header: str, cookies: dict[str, str]) -> None:
    assert replace(HANDSHAKE, headers={"cookie": header}).cookies == cookies


async def test_cookies_in_several_headers_as_of_http_2() -> None:
    seen: list[dict[str, str]] = []
    io = waypost.Server(drain_s=0.0)

    @io.hooks.connection_opened
    def look(opened: waypost.ConnectionOpened) -> None:
        seen.append(opened.handshake.cookies)

    async def app(one: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        one["headers"] = [(b"cookie", b"a=1"), (b"cookie", b"b=2")]
        await io(one, receive, send)

    async with serving(io):
        await ask(app)
    assert seen == [{"a": "1", "b": "2"}]


async def test_a_request_without_middleware_keeps_nothing() -> None:
    seen: list[waypost.Handshake] = []
    io = waypost.Server(drain_s=0.0)
    io.hooks.connection_opened(lambda opened: seen.append(opened.handshake))
    async with serving(io):
        await ask(io)
        await ask(io)
    assert [one.from_middleware for one in seen] == [None, None]
    assert seen[0].scope.keys() <= scope("http", "GET", "/", "", {}, "", "").keys()
