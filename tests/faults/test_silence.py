"""Peers that fall silent, or take nothing: they are noticed in time, and cost the others nothing."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.faults.conftest import Case
from tests.interop.peer import MODES, Client, Peer
from tests.interop.publishing import ROOM
from tests.support.link import Link
from tests.support.raw import OPENERS, Raw, join, open_websocket
from tests.support.waiting import until_async

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

SERVER_OPTIONS = {
    "ping_interval_s": 0.3,
    "ping_timeout_s": 0.4,
    "max_stalled_s": 1,
    "max_buffered_bytes": 100_000,
}


async def reason_for(client: Client, sid: str) -> str:
    """Wait until the server has seen a socket off, and return the reason it gives."""

    async def left() -> dict[str, str]:
        [answer] = await client.call("left")
        return dict(answer)

    return (await until_async(left, lambda all_left: sid in all_left, f"{sid} leaves"))[sid]


async def observer(peer: Peer, case: Case) -> Client:
    """Connect a client that asks the server what it has seen."""
    client = await peer.client(case.server.url, namespace="/control")
    await client.connected()
    return client


async def sid_of(raw: Raw, auth: str = "") -> str:
    """Join the main namespace and return the socket's public id."""
    await raw.send(f"40{auth}")
    packet = await raw.receive()
    assert isinstance(packet, str)
    return packet.split('"sid":"')[1].split('"')[0]


async def test_a_peer_that_answers_no_ping(peer: Peer, case: Case, transport: str) -> None:
    asking = await observer(peer, case)
    async with OPENERS[transport](case.port) as raw:
        sid = await sid_of(raw)
        assert await reason_for(asking, sid) == "ping timeout"


@pytest.mark.parametrize("mode", MODES)
async def test_a_link_that_goes_dead(peer: Peer, case: Case, mode: str) -> None:
    asking = await observer(peer, case)
    async with Link.to(case.port) as link:
        client = await peer.client(link.url, transports=MODES[mode])
        sid = (await client.connected()).id
        assert sid is not None
        await client.pinged(2)
        await client.pause()
        link.freeze(new=True)
        assert await client.disconnected() == "ping timeout"
        assert await reason_for(asking, sid) == "ping timeout"


@pytest.mark.parametrize("mode", MODES)
async def test_it_comes_back_over_the_dead_connection(peer: Peer, case: Case, mode: str) -> None:
    case.lines_allowed = 2  # a recovery is told in a line, too
    speaker = await peer.client(case.server.url)
    await speaker.connected()
    async with Link.to(case.port) as link:
        client = await peer.client(link.url, transports=MODES[mode], auth={"rooms": ["own"]})
        before = await client.connected()
        for times in (2, 3):
            link.freeze()
            await speaker.call("publish", "own", times)
            await client.cut()
            after = await client.connected(times)
            assert after.recovered
            assert after.id == before.id
        await client.pinged(4)  # longer than the dead connections can last
        await speaker.call("publish", "own", 4)
        assert await client.gets("news", 3) == [(2,), (3,), (4,)]
        assert len(client.disconnects) == 2


async def test_heartbeats_keep_an_idle_client(peer: Peer, case: Case) -> None:
    clients = [await peer.client(case.server.url, transports=transports) for transports in MODES.values()]
    for client in clients:
        await client.pinged(5)
        assert await client.call("echo", 1) == [1]
        assert client.disconnects == []


async def test_a_peer_that_reads_nothing(peer: Peer, case: Case) -> None:
    asking = await observer(peer, case)
    speaker = await peer.client(case.server.url)
    await speaker.connected()
    async with open_websocket(case.port) as raw:
        sid = await sid_of(raw, '{"rooms":["flood"]}')
        raw.connection.transport.pause_reading()
        for number in range(40):
            await speaker.call("publish", "flood", number, "x" * 200_000)
        assert await reason_for(asking, sid) in ("slow client", "ping timeout")


async def test_a_slow_client_catches_up(peer: Peer, case: Case, rng: random.Random) -> None:
    case.lines_allowed = 20
    speaker = await peer.client(case.server.url)
    await speaker.connected()
    async with Link.to(case.port, lambda: rng.uniform(0, 0.01)) as link:
        client = await peer.client(link.url, transports=MODES["websocket"], auth={"rooms": ["flood"]})
        await client.connected()
        for number in range(40):
            await speaker.call("publish", "flood", number, "x" * 50_000)
        await client.gets("news", 40)
        assert [args[0] for args in client.args_of("news")] == list(range(40))
        assert all(state.recovered for state in client.connects[1:])


async def test_many_connections_that_say_nothing(peer: Peer, case: Case) -> None:
    case.lines_allowed = 100
    writers = []
    for _ in range(100):
        _, writer = await asyncio.open_connection("127.0.0.1", case.port)
        writers.append(writer)
    speaker = await peer.client(case.server.url)
    await speaker.connected()
    assert await speaker.call("echo", ROOM) == [ROOM]
    for writer in writers:
        writer.transport.abort()


async def test_a_crowd_that_vanishes(case: Case, transport: str) -> None:
    case.lines_allowed = 30

    async def appear() -> None:
        async with OPENERS[transport](case.port) as raw:
            await join(raw)

    await asyncio.gather(*(appear() for _ in range(30)))
