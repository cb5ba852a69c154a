"""`waypost.Api` and a service that is killed: each call is one event and one message, over lost answers too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

import waypost
from tests.operations.places import SECRET
from tests.outside.api_service import with_api
from tests.support.waiting import until

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

_EMITTERS = 4
_EVENTS = 400
_KILLS = (60, 200)


async def test_each_call_is_one_event_and_one_message_over_kills(tmp_path: Path) -> None:
    server = with_api(tmp_path, str(tmp_path / "store.db"))
    await server.start()
    got: list[int] = []
    client = waypost.Client(server.url, auth={"rooms": ["order 1"]})
    client.on("shipped", got.append)
    await client.connect()

    def come(count: int) -> Callable[[], bool]:
        return lambda: len(got) >= count

    async def emit(api: waypost.Api, first: int) -> None:
        for number in range(first, _EVENTS, _EMITTERS):
            await api.emit("shipped", number, room="order 1")
            await api.queue("mails").emit("receipt", number)

    try:
        async with waypost.Api(f"{server.url}/api", SECRET, timeout_s=400, retries=1000) as api:
            emitters = [asyncio.create_task(emit(api, first)) for first in range(_EMITTERS)]
            for killed_after in _KILLS:
                await until(come(killed_after), "some events came", 400)
                await server.kill()
                await server.start()
            await asyncio.gather(*emitters)
            await until(come(_EVENTS), "all events came", 400)
            messages = await api.queue("mails").peek(limit=1000)
        assert server.starts == 1 + len(_KILLS)
        assert sorted(got) == list(range(_EVENTS))
        assert sorted(one.args[0] for one in messages) == list(range(_EVENTS))
    finally:
        await client.close()
        await server.stop()
