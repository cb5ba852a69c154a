"""The ported example servers do what the originals do, for python-socketio's own clients and for pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import socketio  # type: ignore[import-untyped]

from examples.ported import fiddle, flask_rooms, latency, rooms
from waypost.testing import serve

_DEADLINE_S = 60


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[socketio.AsyncSimpleClient]:
    """Connect python-socketio's client."""
    async with socketio.AsyncSimpleClient() as client:
        await client.connect(url, **options)
        yield client


async def response(client: socketio.AsyncSimpleClient) -> Any:
    """Wait for the data of the next response."""
    event, message = await client.receive(timeout=_DEADLINE_S)
    assert event == "my_response"
    return message["data"]


@pytest.mark.parametrize("application", [rooms, flask_rooms], ids=["rooms", "flask_rooms"])
async def test_echo_broadcast_and_rooms(application: Any) -> None:
    async with (
        serve(application.app) as site,
        connected(site.url) as first,
        connected(site.url) as second,
    ):
        assert [await response(client) for client in (first, second)] == ["Connected", "Connected"]
        await first.emit("my_event", {"data": "echo"})
        assert await response(first) == "echo"
        await first.emit("my_broadcast_event", {"data": "all"})
        assert [await response(client) for client in (first, second)] == ["all", "all"]
        await second.emit("join", {"room": "a"})
        assert "a" in await response(second)
        await first.emit("my_room_event", {"room": "a", "data": "room"})
        assert await response(second) == "room"
        await first.emit("close_room", {"room": "a"})
        assert await response(second) == "Room a is closing."
        await first.emit("my_room_event", {"room": "a", "data": "nobody"})
        await first.emit("my_broadcast_event", {"data": "end"})
        assert [await response(client) for client in (first, second)] == ["end", "end"]
        await second.emit("join", {"room": "room b"})
        assert "room b" in await response(second)
        await second.emit("leave", {"room": "room b"})
        await response(second)
        await first.emit("my_room_event", {"room": "room b", "data": "nobody"})
        await first.emit("my_broadcast_event", {"data": "end"})
        assert await response(second) == "end"


@pytest.mark.parametrize("application", [rooms, flask_rooms], ids=["rooms", "flask_rooms"])
async def test_a_client_asks_to_be_sent_away(application: Any) -> None:
    gone = asyncio.Event()
    client = socketio.AsyncClient(reconnection=False)
    client.on("disconnect", lambda *_: gone.set())
    client.on("my_response", lambda _message: None)  # its acknowledgement is what flask_rooms waits for
    async with serve(application.app) as site:
        await client.connect(site.url)
        await client.emit("disconnect_request")
        await asyncio.wait_for(gone.wait(), _DEADLINE_S)
        await client.disconnect()


async def test_a_background_task_emits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "PAUSE_S", 0.01)
    async with serve(rooms.app) as site, connected(site.url) as client:
        while await response(client) != "Server generated event":
            pass


async def test_the_page_is_served_beside_it() -> None:
    async with serve(rooms.app) as site, aiohttp.ClientSession() as browser, browser.get(site.url + "/") as answer:
        assert "/socket.io/socket.io.js" in await answer.text()


async def test_a_tuple_becomes_several_arguments() -> None:
    async with serve(fiddle.app) as site, connected(site.url, auth={"user": "ada"}) as client:
        assert await client.receive(timeout=_DEADLINE_S) == ["hello", 1, 2, {"hello": "you"}]
        async with aiohttp.ClientSession() as browser, browser.get(site.url + "/hello") as answer:
            assert await answer.json() == {"message": "Hello, World!"}


async def test_a_ping_and_its_pong() -> None:
    async with serve(latency.io) as site, connected(site.url) as client:
        await client.emit("ping_from_client")
        assert await client.receive(timeout=_DEADLINE_S) == ["pong_from_server"]


async def test_a_session_of_flask_a_catch_all_and_a_counter() -> None:
    async with serve(flask_rooms.app) as site, aiohttp.ClientSession() as browser:
        async with browser.get(site.url + "/login/ada") as answer:
            assert await answer.text() == "welcome, ada"
            cookie = f"session={answer.cookies['session'].value}"
        async with connected(site.url, headers={"Cookie": cookie}) as client:
            assert await client.receive(timeout=_DEADLINE_S) == [
                "my_response",
                {"data": "Connected", "count": 0, "user": "ada"},
            ]
            await client.emit("whatever", 7)
            assert await client.receive(timeout=_DEADLINE_S) == ["my_response", {"data": ["whatever", 7], "count": 1}]
            await client.emit("my_event", {"data": "x"})
            assert await client.receive(timeout=_DEADLINE_S) == ["my_response", {"data": "x", "count": 2}]


async def test_an_emit_from_a_view_of_flask() -> None:
    async with serve(flask_rooms.app) as site, connected(site.url) as client, aiohttp.ClientSession() as browser:
        assert await response(client) == "Connected"
        async with browser.get(site.url + "/announce/hello") as answer:
            assert await answer.text() == "announced"
        assert await response(client) == "hello"
