"""A server is started, closed and started again: on one event loop, and on several, one after the other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import waypost
from tests.server.model_client import ModelClient, until
from waypost.testing import serve_in_thread


def make_server(store: str | Path) -> tuple[waypost.Server, list[Any]]:
    io = waypost.Server(store=store, drain_s=0.0)
    seen: list[Any] = []

    @io.use
    async def note(socket: waypost.Socket) -> None:
        seen.append("middleware")

    @io.event
    def add(socket: waypost.Socket, a: int, b: int) -> int:
        return a + b

    @io.consumer("jobs")
    async def work(message: waypost.Message, job: int) -> None:
        seen.append(job)

    return io, seen


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    return "memory:" if request.param == "memory" else tmp_path / "store.db"


async def live(io: waypost.Server, seen: list[Any], number: int) -> None:
    """One life of the server: a client with its handlers, a worker, a room, a child namespace."""
    await io.start()
    client = ModelClient(io)
    await client.connect()
    assert await client.call("add", number, 1) == [number + 1]
    await io.queue("jobs").emit("job", number)
    await until(lambda: number in seen)
    await io.emit("told", number)
    await until(lambda: any(event[0] == "told" for event in client.events))
    await io.close()


async def test_on_one_event_loop(store: str | Path) -> None:
    io, seen = make_server(store)
    for number in range(3):
        await live(io, seen, number)
    assert seen == ["middleware", 0, "middleware", 1, "middleware", 2]


def test_on_several_event_loops(store: str | Path) -> None:
    io, seen = make_server(store)
    for number in range(3):
        asyncio.run(live(io, seen, number))
    assert seen == ["middleware", 0, "middleware", 1, "middleware", 2]


async def test_memory_is_empty_at_each_start_and_a_file_is_not(tmp_path: Path) -> None:
    for store, left in (("memory:", 0), (tmp_path / "store.db", 1)):
        io = waypost.Server(store=store, drain_s=0.0)
        await io.start()
        await io.queue("mail").get_consumer().create()
        await io.queue("mail").emit("letter")
        await io.close()
        await io.start()
        assert len(await io.queue("mail").peek()) == left
        await io.close()


async def test_children_that_clients_made_are_forgotten() -> None:
    io = waypost.Server(drain_s=0.0)
    parent = io.of(lambda name, auth: name.startswith("/child-"))
    for _ in range(2):
        await io.start()
        client = ModelClient(io, "/child-1")
        await client.connect()
        assert list(parent.children) == ["/child-1"]
        await io.close()
        await io.start()
        assert parent.children == {}
        await io.close()


async def test_a_start_that_failed_is_no_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "waypost")
    io = waypost.Server(store=str(tmp_path / "missing" / "store.db"), drain_s=0.0)
    with pytest.raises(waypost.ConfigurationError, match="make it first"):
        await io.start()
    await io.close()
    assert "stopped" not in caplog.messages
    with pytest.raises(waypost.ConfigurationError, match="make it first"):
        await io.start()
    (tmp_path / "missing").mkdir()
    await io.start()
    await io.close()
    assert "stopped" in caplog.messages


async def test_a_start_during_a_stop_waits_for_its_end() -> None:
    io = waypost.Server(drain_s=0.0)
    order: list[str] = []

    @io.on("disconnect")
    async def disconnect(socket: waypost.Socket, reason: str) -> None:
        await asyncio.sleep(0.05)
        order.append("stopped")

    await io.start()
    await ModelClient(io).connect()
    stops = [asyncio.ensure_future(io.close()) for _ in range(2)]
    await asyncio.sleep(0)
    await io.start()
    order.append("started")
    await asyncio.gather(*stops)
    assert order == ["stopped", "started"]
    await ModelClient(io).connect()
    await io.close()


def test_a_server_that_was_not_closed_says_so() -> None:
    io = waypost.Server()
    asyncio.run(io.start())
    with pytest.raises(waypost.WrongEventLoop, match=r"await its close\(\) there first"):
        asyncio.run(io.start())


def make_application() -> FastAPI:
    io = waypost.Server(drain_s=0.0)
    app = FastAPI(lifespan=io.lifespan)
    app.mount("/socket.io", io)

    @app.post("/tell")
    async def tell() -> str:
        await io.emit("told")
        return "told"

    return app


@pytest.mark.long
def test_an_application_is_tested_twice() -> None:
    app = make_application()
    for _ in range(2):
        with TestClient(app) as client:
            assert client.post("/tell").json() == "told"
            assert client.get("/socket.io/?EIO=4&transport=polling").text.startswith("0{")


async def test_an_emit_without_a_lifespan_says_what_to_write() -> None:
    app = make_application()
    for _ in range(2):
        with pytest.raises(waypost.StoreClosed, match=r"lifespan"):
            TestClient(app).post("/tell")
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        with pytest.raises(waypost.StoreClosed, match=r"lifespan"):
            await client.post("/tell")


def test_a_thread_serves_it_twice() -> None:
    io, _ = make_server("memory:")
    for _ in range(2):
        with serve_in_thread(io) as site:
            assert site.connect().call("add", 1, 2) == 3


async def test_a_request_does_not_start_a_closed_server() -> None:
    io = waypost.Server(drain_s=0.0)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(io), base_url="http://test") as client:
        await io.start()
        await io.close()
        assert (await client.get("/socket.io/?EIO=4&transport=polling")).status_code == 503


POLL = "/socket.io/?EIO=4&transport=polling"


async def test_a_mounted_server_without_a_lifespan_is_noticed_at_the_first_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    io = waypost.Server(drain_s=0.0)
    app = FastAPI()
    app.mount("/socket.io", io)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        for _ in range(2):
            assert (await client.get(POLL)).status_code == 200
        await io.emit("told")  # it has started now
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "FastAPI(lifespan=io.lifespan)" in record.getMessage()
    await io.close()


async def test_a_transport_without_a_lifespan_has_one_around_it(caplog: pytest.LogCaptureFixture) -> None:
    io = waypost.Server(drain_s=0.0)
    async with (
        io.lifespan(),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(io), base_url="http://test") as client,
    ):
        await io.emit("told")
        assert (await client.get(POLL)).status_code == 200
    assert not caplog.records


@pytest.mark.long
def test_a_test_client_without_with_says_what_to_write(caplog: pytest.LogCaptureFixture) -> None:
    io = waypost.Server(drain_s=0.0)
    app = FastAPI()
    app.mount("/socket.io", io)
    client = TestClient(app)  # each of its requests has an event loop of its own
    assert client.get(POLL).status_code == 200
    assert "`with TestClient(app) as client:`" in caplog.records[0].getMessage()
    with pytest.raises(waypost.WrongEventLoop, match=r"`with TestClient\(app\) as client:`"):
        client.get(POLL)
