"""Applications served for tests, on a port and in memory: the same for whoever connects."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

import waypost
from tests.support.waiting import until
from tests.testing.conftest import make_application
from waypost.errors import ConfigurationError, ConnectFailed
from waypost.testing import Site, serve, serve_in_memory
from waypost.testing.memory import Pipe

Serve = Callable[[Any], AbstractAsyncContextManager[Site]]

both = pytest.mark.parametrize("serve_one", [serve, serve_in_memory])


@both
async def test_events_go_both_ways(serve_one: Serve) -> None:
    async with serve_one(make_application()) as site:
        client = site.client(headers={"X-Name": "Ada"})
        parcels: list[Any] = []
        client.on("parcel", lambda *args: parcels.append(args))
        await client.connect()
        assert client.transport == "websocket"
        assert await client.call("echo", 1, b"\x00\xff", "ä") == (1, b"\x00\xff", "ä")
        assert await client.call("header", "x-name") == "Ada"
        await site.io.emit("parcel", 7, b"label")
        await until(lambda: parcels == [(7, b"label")], "the parcel has come")
    assert not client.active


@both
async def test_a_refusal_says_why(serve_one: Serve) -> None:
    async with serve_one(make_application()) as site:
        with pytest.raises(ConnectFailed, match="not you") as caught:
            await site.connect(auth={"refuse": "today"})
        assert caught.value.data == {"why": "today"}


@both
async def test_a_request_that_is_refused_names_the_status(serve_one: Serve) -> None:
    async def allow(handshake: waypost.Handshake) -> bool:
        return "token" in handshake.query

    io = waypost.Server(allow_request=allow)
    async with serve_one(io) as site:
        with pytest.raises(ConnectFailed) as caught:
            await site.connect(transports=("websocket",))
        assert caught.value.status == 403
        assert (await site.connect(query={"token": "1"})).connected


@both
async def test_a_lost_connection_is_recovered(serve_one: Serve) -> None:
    async with serve_one(make_application()) as site:
        client = site.client(reconnection_delay_s=0.01, max_payload_bytes=1_000)
        seen: list[int] = []
        client.on("number", seen.append)
        await client.connect()
        await site.io.emit("number", 1)
        await until(lambda: seen == [1], "the first number has come")
        with pytest.raises(waypost.NotConnected):
            await client.call("echo", "x" * 2_000)  # the answer is larger than the client takes
        await site.io.emit("number", 2)
        await until(lambda: seen == [1, 2] and client.connected, "all numbers have come")
        assert client.recovered


@both
async def test_a_flood_arrives_whole(serve_one: Serve) -> None:
    async with serve_one(make_application()) as site:
        client = await site.connect()
        answers = await asyncio.gather(*(client.call("echo", number) for number in range(500)))
        assert answers == list(range(500))


@both
async def test_an_application_around_the_server_starts_and_stops(serve_one: Serve) -> None:
    io, steps = make_application(), []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        steps.append("start")
        async with io.lifespan():
            yield
        steps.append("stop")

    app = FastAPI(lifespan=lifespan)
    app.mount("/socket.io", io)
    async with serve_one(app) as site:
        assert site.io is io
        assert steps == ["start"]
        assert await (await site.connect()).call("echo", "hello") == "hello"
    assert steps == ["start", "stop"]


@both
async def test_an_application_that_does_not_start_is_said(serve_one: Serve) -> None:
    def open_database() -> None:
        raise RuntimeError("no database")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        open_database()
        yield

    app = FastAPI(lifespan=lifespan)
    app.mount("/socket.io", waypost.Server())
    with pytest.raises(ConfigurationError, match="start"):
        async with serve_one(app):
            pass


async def test_in_memory_an_application_that_raises_is_an_error_500(caplog: pytest.LogCaptureFixture) -> None:
    io = waypost.Server()

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            raise RuntimeError("broken")

    broken.server = io  # type: ignore[attr-defined]
    async with serve_in_memory(broken) as site:
        with pytest.raises(ConnectFailed) as caught:
            await site.connect()
        assert caught.value.status == 500
    assert [record.levelno for record in caplog.records if record.name == "waypost.testing"] == [logging.ERROR]


async def test_in_memory_whoever_sends_waits_for_a_slow_reader() -> None:
    pipe = Pipe()

    async def fill(count: int) -> None:
        for number in range(count):
            assert await pipe.put({"number": number})

    await fill(64)
    late = asyncio.create_task(fill(1))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not late.done()
    assert await pipe.take() == {"number": 0}
    await late
    pipe.shut()
    assert not await pipe.put({})
    assert [await pipe.take() for _ in range(65)][-1] is None


async def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigurationError, match="in use"):
        async with serve(make_application(), port=taken.getsockname()[1]):
            pass


async def test_the_fixture_of_a_port(waypost_site: Site) -> None:
    assert waypost_site.url.startswith("http://127.0.0.1:")
    assert await (await waypost_site.connect(transports=("polling",))).call("echo", 1) == 1


async def test_the_fixtures_in_memory(waypost_client: waypost.Client, waypost_in_memory: Site) -> None:
    assert await waypost_client.call("echo", 1) == 1
    assert len(await waypost_in_memory.io.fetch_sockets()) == 1
