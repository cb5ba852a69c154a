"""Acks that cross the server's close of their connection: they count, over every transport and through every door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.server.model_client import hub_of
from tests.support.raw import RawPolling, open_polling, open_websocket
from tests.support.waiting import until, until_async
from tests.transports.direct_site import Site, serving
from waypost.server.connections import engine
from waypost.server.connections.connection import Connection

DOORS: dict[str, dict[str, Any]] = {"direct": {}, "asgi": {"ws": "websockets-sansio", "http": "h11"}}


@pytest.fixture(params=list(DOORS))
def door(request: pytest.FixtureRequest) -> dict[str, Any]:
    return DOORS[str(request.param)]


@asynccontextmanager
async def at_work(
    door: dict[str, Any], transport: str, store: str = "memory:"
) -> AsyncIterator[tuple[Site, Connection, Any, str]]:
    """Have a client with a job in hand; returns the packet that acknowledges it, too."""
    opener = open_polling if transport == "polling" else open_websocket
    async with serving(**door) as site:
        site.io.use_store(store)

        @site.io.on("connect")
        async def connect(socket: waypost.Socket) -> None:
            await socket.consume("jobs")

        async with opener(site.port) as raw:
            await raw.send("40")
            await site.io.queue("jobs").emit("job", 1)
            while not (packet := str(await raw.receive())).startswith("42"):
                pass
            ack_id = packet[2 : packet.index("[")]
            (connection,) = hub_of(site.io).engine.connections()
            yield site, connection, raw, f"43{ack_id}[]"


async def fetch_goodbye(raw: RawPolling) -> None:
    """Poll until the server says that it closes; a busy one may have asked before whether a message came."""
    while (body := (await raw.poll()).body) != b"1":
        assert body == b"2"


async def acknowledged(site: Site) -> int:
    return sum(one.acknowledged for one in await site.io.queue("jobs").consumers())


@pytest.mark.parametrize("is_fetched", [True, False], ids=["the goodbye was fetched", "the goodbye waits"])
async def test_a_post_that_crosses_the_close(door: dict[str, Any], is_fetched: bool) -> None:
    async with at_work(door, "polling") as (site, connection, raw, ack):
        assert isinstance(raw, RawPolling)
        connection.close("server shutting down")
        if is_fetched:
            await fetch_goodbye(raw)
            assert not hub_of(site.io).engine.connections()
        assert (await raw.post(ack.encode())).status == 200
        await until_async(lambda: acknowledged(site), lambda number: number == 1, "the ack counts")


async def test_what_comes_too_late_is_an_unknown_session(
    door: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_LATE_S", 0.0)
    async with at_work(door, "polling") as (site, connection, raw, ack):
        connection.close("server shutting down")
        await raw.poll()
        await until(lambda: hub_of(site.io).engine.get(raw.sid) is None, "it is forgotten")
        answer = await raw.post(ack.encode())
        assert (answer.status, answer.code) == (400, 1)


async def test_nothing_but_acks_counts_late(door: dict[str, Any]) -> None:
    async with at_work(door, "polling") as (site, connection, raw, _ack):
        connection.close("server shutting down")
        await raw.poll()
        assert (await raw.poll()).status == 400
        assert (await raw.post(b'420["echo",1]')).status == 200
        assert (await raw.post(b"\x00nonsense")).status == 400
        assert site.io.state().counters.unexpected_acks == 0


# An ASGI server drops what comes over a WebSocket behind its own close.
@pytest.mark.parametrize(("door", "transport"), [("direct", "polling"), ("asgi", "polling"), ("direct", "websocket")])
async def test_a_stop_hears_the_acks_that_cross_it(door: str, transport: str, tmp_path: Path) -> None:
    store = str(tmp_path / "store.db")
    async with at_work(DOORS[door], transport, store) as (site, connection, raw, ack):
        connection.close("server shutting down")
        if isinstance(raw, RawPolling):
            await fetch_goodbye(raw)
        stop = asyncio.ensure_future(hub_of(site.io).close(drain_s=0))
        # Over a WebSocket it is on its way before the client can have read the close.
        await raw.send(ack)
        await stop
    later = waypost.Server(store=store)
    async with later.lifespan():
        (found,) = await later.queue("jobs").consumers()
        assert found.acknowledged == 1
