"""The server is stopped, or killed, while others publish: every client recovers and misses nothing.

Clients of all transports are on one server at once, since it is the server's start that takes the time.
"""

from __future__ import annotations

import random

import pytest

from tests.interop.peer import MODES, Client, Peer
from tests.interop.publishing import ROOM, check, more, publishing
from tests.support.server_process import ServerProcess

pytestmark = [pytest.mark.long, pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

HOW = pytest.mark.parametrize("how", ["stop", "kill"])


async def listen(peer: Peer, server: ServerProcess, mode: str) -> Client:
    client = await peer.client(server.url, transports=MODES[mode], auth={"rooms": [ROOM]})
    await client.connected()
    return client


async def listen_all(peer: Peer, server: ServerProcess) -> list[Client]:
    return [await listen(peer, server, mode) for mode in MODES]


@HOW
async def test_restarts_while_others_publish(
    peer: Peer, store_server: ServerProcess, how: str, rng: random.Random
) -> None:
    listeners = [*await listen_all(peer, store_server), await listen(peer, store_server, "websocket")]
    speakers = [await peer.client(store_server.url, transports=transports) for transports in MODES.values()]
    async with publishing(*speakers) as publishers:
        for times in (2, 3):
            for listener in listeners:
                await more(listener, rng.randrange(5, 40))
            await store_server.restart(how)
            for listener in listeners:
                assert (await listener.connected(times)).recovered
                await more(listener, 1)
    await check(publishers, *listeners)
    for listener in listeners:
        assert {(state.id, state.pid) for state in listener.connects} == {
            (listener.connects[0].id, listener.connects[0].pid)
        }


@HOW
async def test_a_client_that_never_got_an_event(peer: Peer, store_server: ServerProcess, how: str) -> None:
    clients = await listen_all(peer, store_server)
    for client in clients:
        await client.call("remember", "key", "value")
        await client.away()
    speaker = await peer.client(store_server.url)
    await speaker.call("publish", ROOM, "before")
    await store_server.restart(how)
    await speaker.connected(2)
    await speaker.call("publish", ROOM, "after")
    for client in clients:
        await client.resume()
        assert (await client.connected(2)).recovered
        assert await client.gets("news", 2) == [("before",), ("after",)]
        assert await client.call("rooms") == [[ROOM]]
        assert await client.call("recall") == [{"key": "value"}]


@HOW
async def test_two_restarts_while_they_are_away(peer: Peer, store_server: ServerProcess, how: str) -> None:
    clients = await listen_all(peer, store_server)
    speaker = await peer.client(store_server.url)
    await speaker.call("publish", ROOM, 0)
    for client in clients:
        await client.gets("news")
        await client.away()
    for number in (1, 2):
        await speaker.call("publish", ROOM, number)
        await store_server.restart(how)
        await speaker.connected(number + 1)
    await speaker.call("publish", ROOM, 3)
    for client in clients:
        await client.resume()
        assert (await client.connected(2)).recovered
        assert await client.gets("news", 4) == [(0,), (1,), (2,), (3,)]
        offsets = [event.offset for event in client.received["news"]]
        assert len(set(offsets)) == 4


async def test_a_store_in_memory_is_honest_about_a_restart(peer: Peer, server: ServerProcess) -> None:
    clients = await listen_all(peer, server)
    await server.restart("kill")
    for client in clients:
        assert not (await client.connected(2)).recovered
        assert await client.call("rooms") == [[ROOM]]
    await peer.leave_all()
