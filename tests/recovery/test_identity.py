"""Who comes back is who it was: id, data and rooms; and is asked at the door again like everyone."""

from __future__ import annotations

import pytest

from tests.interop.peer import Peer
from tests.interop.publishing import ROOM
from tests.recovery.clients import Clients, came_back, come_back, numbers, publish, reason, state
from tests.recovery.conftest import SHORT_HEARTBEAT, Launch

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

SERVER_OPTIONS = {"guarded": True}


async def test_everything_of_it_is_restored(peer: Peer, launch: Launch, mode: str) -> None:
    server = await launch(**SHORT_HEARTBEAT)
    clients = Clients(peer, server)
    client = await clients.listen(mode)
    await client.call("join", "später")
    await client.call("remember", "name", {"nested": [1, "ü", None]})
    await client.call("remember", "n", 2)
    for times, how in ((2, "kill"), (3, "stop"), (4, None)):
        if how is None:
            await client.cut()
        else:
            await server.restart(how)
        await came_back(client, times)
        assert await client.call("recall") == [{"name": {"nested": [1, "ü", None]}, "n": 2}]
        assert await client.call("rooms") == [[ROOM, "später"]]
        assert await client.call("outcome") == [{"recovered": True, "reason": None, "replayed": 0}]


async def test_middleware_runs_at_each_recovery(clients: Clients, mode: str) -> None:
    client, speaker, control = await clients.listen(mode), await clients.connect(), await clients.control()
    await client.away()
    await publish(speaker, 0, 3)
    await come_back(client)
    assert await client.call("outcome") == [{"recovered": True, "reason": None, "replayed": 3}]
    assert await control.call("gate_runs", client.connects[0].id) == [[False, True]]


async def test_a_revoked_token(clients: Clients, mode: str) -> None:
    speaker, control = await clients.connect(), await clients.control()
    client = await clients.listen(mode, auth={"token": f"of {mode}"})
    await client.away()
    await publish(speaker, 0, 2)
    await control.call("revoke", f"of {mode}")
    await client.resume()
    refusal = await client.refused()
    assert (refusal.message, refusal.active) == ("revoked", False)
    await publish(speaker, 2, 3)
    assert numbers(client) == []
    # Whoever logs in again goes on where it was: a refusal has taken nothing away.
    await client.resume({"token": "a new one"})
    await came_back(client, 2)
    await client.gets("news", 3)
    assert numbers(client) == [0, 1, 2]


async def test_a_stolen_pid(clients: Clients, mode: str) -> None:
    speaker, control = await clients.connect(), await clients.control()
    owner = await clients.listen(mode, auth={"user": "owner"})
    await publish(speaker, 0, 1)
    await owner.gets("news", 1)
    before = (await state(control))["counters"]["recoveries"].get("refused", 0)
    thief = await clients.connect(mode, auth={"user": "thief"})
    await thief.away()
    await thief.forge(owner.connects[0].pid, None)
    await thief.resume()
    assert not (await thief.connected(2)).recovered
    assert await reason(thief) == "refused"
    assert await thief.call("rooms") == [[]]
    assert thief.connects[1].id != owner.connects[0].id
    assert (await state(control))["counters"]["recoveries"]["refused"] == before + 1
    await publish(speaker, 1, 2)
    await owner.gets("news", 2)
    assert owner.disconnects == []
    await owner.away()
    await publish(speaker, 2, 3)
    await come_back(owner)
    await owner.gets("news", 3)
    assert numbers(owner) == [0, 1, 2]
    assert numbers(thief) == []


async def test_a_stolen_pid_while_its_owner_is_away(clients: Clients, mode: str) -> None:
    speaker = await clients.connect()
    owner = await clients.listen(mode, auth={"user": "owner"})
    await owner.away()
    await publish(speaker, 0, 2)
    thief = await clients.connect(mode, auth={"user": "thief"})
    await thief.away()
    await thief.forge(owner.connects[0].pid, None)
    await thief.resume()
    assert not (await thief.connected(2)).recovered
    await publish(speaker, 2, 3)
    await come_back(owner)
    await owner.gets("news", 3)
    assert numbers(owner) == [0, 1, 2]
    assert numbers(thief) == []
