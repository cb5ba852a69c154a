"""What is no longer kept can't be replayed: the client is told so, with the reason, and the server counts it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.peer import Client, Peer
from tests.interop.publishing import ROOM
from tests.recovery.clients import Clients, come_back, numbers, publish, reason, state
from tests.recovery.conftest import Launch
from tests.support.waiting import until_async

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

EVENTS = 60
STORES = pytest.mark.parametrize("store", [None, "memory:"], ids=["sqlite", "memory"])
LIMITS: dict[str, dict[str, Any]] = {
    "age": {"max_age_s": 0.5},
    "count": {"max_events": 20},
    "bytes": {"max_bytes": 500},
}


async def trimmed(control: Client) -> Any:
    """Wait until the journal has been trimmed, and all that fell out is counted; return the server's numbers then."""

    def is_counted(found: Any) -> bool:
        gone = found["counters"]["trimmed_events"]
        return bool(gone >= EVENTS // 2 and gone + found["journals"]["/"]["events"] == EVENTS)

    return await until_async(lambda: state(control), is_counted, "what fell out is counted")


@STORES
@pytest.mark.parametrize("limit", LIMITS)
async def test_what_has_fallen_out_is_told(peer: Peer, launch: Launch, limit: str, store: str | None) -> None:
    clients = Clients(peer, await launch(store=store, recovery=LIMITS[limit], upkeep_s=0.05))
    client, speaker, control = await clients.listen(), await clients.connect(), await clients.control()
    await publish(speaker, 0, 1)
    await client.gets("news", 1)
    await client.away()
    await publish(speaker, 1, EVENTS)
    found = await trimmed(control)
    journal = found["journals"]["/"]
    assert journal["bytes"] <= 2000
    assert int(journal["oldest_offset"].split(".")[1]) == found["counters"]["trimmed_events"] + 1
    assert int(journal["newest_offset"].split(".")[1]) == EVENTS
    await come_back(client, recovered=False)
    assert await reason(client) == "retention"
    assert (await state(control))["counters"]["recoveries"] == {"retention": 1}
    await client.away()
    await publish(speaker, EVENTS, EVENTS + 2)
    await come_back(client)
    await client.gets("news", 3)
    assert numbers(client) == [0, EVENTS, EVENTS + 1]
    counters = (await state(control))["counters"]
    assert counters["recoveries"] == {"retention": 1, "recovered": 1}
    assert counters["replayed_events"] == 2


@STORES
@pytest.mark.parametrize("limit", LIMITS)
async def test_a_quiet_client_is_not_lost(peer: Peer, launch: Launch, limit: str, store: str | None) -> None:
    """Nothing is meant for it while all that was there when it came falls out of the journal."""
    server = await launch(store=store, recovery=LIMITS[limit], upkeep_s=0.05, ping_interval_s=0.2)
    clients = Clients(peer, server)
    quiet, speaker = await clients.connect(auth={"rooms": ["quiet"]}), await clients.connect()
    control = await clients.control()
    await publish(speaker, 0, EVENTS)
    found = await trimmed(control)
    await quiet.pinged(quiet.pings + 2)
    if store is None:
        await server.restart("stop")
        await quiet.connected(2)
        await speaker.connected(2)
    await quiet.away()
    await speaker.call("publish", "quiet", "at last")
    await come_back(quiet)
    assert await quiet.gets("news") == [("at last",)]
    assert all(found.recovered for found in quiet.connects[1:])
    assert found["counters"]["recoveries"] == {}


@pytest.mark.parametrize("limit", [{"replay_max_events": 10}, {"replay_max_bytes": 200}], ids=["count", "bytes"])
async def test_more_than_one_replay_brings(peer: Peer, launch: Launch, limit: dict[str, Any], mode: str) -> None:
    clients = Clients(peer, await launch(recovery=limit))
    client, speaker = await clients.listen(mode), await clients.connect()
    await client.away()
    await publish(speaker, 0, 20)
    await come_back(client, recovered=False)
    assert await reason(client) == "too far"
    await client.away()
    await publish(speaker, 20, 23)
    await come_back(client)
    await client.gets("news", 3)
    assert numbers(client) == [20, 21, 22]


@STORES
async def test_a_session_that_expires(peer: Peer, launch: Launch, store: str | None) -> None:
    clients = Clients(peer, await launch(store=store, recovery={"session_ttl_s": 0.3}, upkeep_s=0.05))
    client, stays, control = await clients.listen(), await clients.listen(), await clients.control()
    await client.call("remember", "name", "ann")
    await client.away()

    async def expired() -> list[Any]:
        [found] = await control.call("expired")
        return list(found)

    assert await until_async(expired, bool, "a session expires") == [[client.connects[0].id, {"name": "ann"}]]
    await stays.call("publish", ROOM, "while it was away")
    await come_back(client, recovered=False)
    assert await reason(client) == "expired"
    assert await client.call("recall") == [{}]
    counters = (await state(control))["counters"]
    assert counters["expired_sessions"] == 1
    assert counters["recoveries"] == {"expired": 1}
    await client.away()
    await stays.call("publish", ROOM, "again")
    await come_back(client)
    assert await client.gets("news") == [("again",)]
    assert await expired() == [[client.connects[0].id, {"name": "ann"}]]
    assert stays.disconnects == []
