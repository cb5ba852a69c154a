"""The seam below Socket.IO: what the official Engine.IO suite asks of a server, without a class of ours replaced."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.raw import Answer, request
from waypost.testing import EngineApplication
from waypost.transports.uvicorn_runner import bind, running

pytestmark = pytest.mark.asyncio

_INTERVAL_S, _TIMEOUT_S = 0.3, 0.2


@pytest_asyncio.fixture
async def port() -> AsyncIterator[int]:
    suite = EngineApplication(
        lambda client, message: client.send(message),
        path="/engine.io/",
        ping_interval_s=_INTERVAL_S,
        ping_timeout_s=_TIMEOUT_S,
        drain_s=0,
    )
    async with running(suite, suite, bind("127.0.0.1", 0)) as url:
        yield int(url.rpartition(":")[2])


async def ask(port: int, method: str = "GET", sid: str = "", body: bytes | None = None) -> Answer:
    where = f"/engine.io/?EIO=4&transport=polling{sid and '&sid='}{sid}"
    return await request(port, method, where, body=body)


async def opened(port: int) -> str:
    answer = await ask(port)
    parameters = json.loads(answer.body[1:])
    assert (parameters["pingInterval"], parameters["pingTimeout"]) == (300, 200)
    return str(parameters["sid"])


async def test_messages_come_back(port: int) -> None:
    sid = await opened(port)
    assert (await ask(port, "POST", sid, b"4hello\x1ebAQIDBA==")).status == 200
    assert (await ask(port, sid=sid)).body == b"4hello\x1ebAQIDBA=="


async def test_a_poll_at_interval_and_timeout_is_refused(port: int) -> None:
    sid = await opened(port)
    await asyncio.sleep(_INTERVAL_S + _TIMEOUT_S)
    assert (await ask(port, sid=sid)).status == 400


async def test_pings_come_in_time(port: int) -> None:
    sid = await opened(port)
    for _ in range(3):
        assert (await ask(port, sid=sid)).body == b"2"
        assert (await ask(port, "POST", sid, b"3")).status == 200


async def test_a_client_can_be_closed() -> None:
    suite = EngineApplication(lambda client, message: client.close(), path="/engine.io/", drain_s=0)
    async with running(suite, suite, bind("127.0.0.1", 0)) as url:
        port = int(url.rpartition(":")[2])
        sid = str(json.loads((await ask(port)).body[1:])["sid"])
        await ask(port, "POST", sid, b"4bye")
        assert (await ask(port, sid=sid)).body == b"1"
        assert (await ask(port, sid=sid)).status == 400
