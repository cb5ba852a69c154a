"""How a client's end is told apart: its page was left, or its connection broke. Through every door."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.server.model_client import hub_of
from tests.support.raw import open_polling, open_websocket, request_bytes, target
from tests.support.waiting import until
from tests.transports.direct_site import Site, serving
from waypost.server.connections.connection import Connection

# uvicorn's options: what is in front by default, and plain ASGI.
DOORS: dict[str, dict[str, Any]] = {"direct": {}, "asgi": {"ws": "websockets-sansio", "http": "h11"}}


@pytest.fixture(params=list(DOORS))
def door(request: pytest.FixtureRequest) -> dict[str, Any]:
    return DOORS[str(request.param)]


def only_connection(site: Site) -> Connection:
    [connection] = hub_of(site.io).engine.connections()
    return connection


@pytest.mark.parametrize(
    ("code", "has_left"),
    [(1001, True), (1000, False), (None, False)],
    ids=["as a browser leaves a page", "as a parser that refuses a packet", "without a goodbye"],
)
async def test_websocket(door: dict[str, Any], code: int | None, has_left: bool) -> None:
    async with serving(**door) as site, open_websocket(site.port) as raw:
        connection = only_connection(site)
        if code is None:
            raw.connection.transport.abort()
        else:
            await raw.connection.close(code)
        await until(lambda: not connection.is_open, "the server has noticed")
        assert connection.client_left is has_left


async def test_a_poll_that_waits_and_is_dropped(door: dict[str, Any]) -> None:
    async with serving(**door) as site, open_polling(site.port) as raw:
        connection = only_connection(site)
        _, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(request_bytes("GET", target(sid=raw.sid)))
        await until(lambda: connection._session._poll_open, "the poll waits")
        writer.transport.abort()
        await until(lambda: not connection.is_open, "the server has noticed")
        assert connection.client_left


async def test_silence(door: dict[str, Any]) -> None:
    async with serving(**door) as site, open_websocket(site.port):
        connection = only_connection(site)
        connection.abort("ping timeout")
        assert not connection.client_left
