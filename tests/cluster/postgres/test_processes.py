"""Three server processes on one PostgreSQL, and official clients whose every connection reaches any of them.

Nothing between is sticky. Processes are killed, and stopped gracefully; one stands still for longer than it may.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

import waypost
from tests.interop.peer import MODES, Client, Peer
from tests.support.server_process import HEARTBEAT, ServerProcess
from tests.support.spread import Spread
from tests.support.waiting import until, until_async
from tests.workers.test_official_clients import Speaker, check

pytestmark = [
    pytest.mark.node,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
]

_SERVERS = 3
_RETURNS_S = 60.0


def server(url: str, folder: Path, number: int, *more: str) -> ServerProcess:
    """Return one of the servers, which is not started."""
    command = ("-m", "waypost", "serve", "tests.workers.app:io", "--port", "{port}", "--store", url, *more)
    options = {"drain_s": 0.1, **HEARTBEAT}
    return ServerProcess(command, folder / f"server{number}.log", options)


@pytest_asyncio.fixture(loop_scope="module")
async def servers(postgres_url: str, tmp_path: Path) -> AsyncIterator[list[ServerProcess]]:
    """Three servers on one database."""
    made = [server(postgres_url, tmp_path, number) for number in range(_SERVERS)]
    for one in made:
        await one.start()
    yield made
    for one in made:
        await one.kill()


async def listeners(peer: Peer, url: str) -> list[Client]:
    """Connect official clients in all modes."""
    found = []
    for transports in MODES.values():
        for _ in range(2):
            client = await peer.client(url, transports=transports, reconnectionDelay=50, reconnectionDelayMax=500)
            await client.connected()
            found.append(client)
    return found


async def finish(speaker: Speaker, outbox: waypost.Client, clients: Sequence[Client]) -> None:
    """Let all come, and check that all have got the same."""
    await speaker.stop()
    await until_async(outbox.outbox.count, lambda waiting: waiting == 0, "all is answered", _RETURNS_S)
    last = speaker.said - 1
    await until(
        lambda: all(last in (args[0] for args in one.args_of("told")) for one in clients), "all came", _RETURNS_S
    )
    check([*clients], speaker.said)
    for client in clients:
        assert all(state.recovered for state in client.connects[1:]), client.summary()


async def forwarded(servers: Sequence[ServerProcess]) -> int:
    """Return how many connections the servers have forwarded."""
    total = 0
    for one in servers:
        async with waypost.Client(one.url) as client:
            total += await client.call("forwarded")
    return total


async def test_killed_and_stopped_servers_cost_nobody_an_event(
    peer: Peer, servers: list[ServerProcess], rng: random.Random, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        spread = await stack.enter_async_context(Spread.over([one.port for one in servers], rng))
        clients = await listeners(peer, spread.url)
        outbox = waypost.Client(spread.url, outbox=tmp_path / "outbox.db", ack_timeout_s=5, reconnection_delay_s=0.05)
        await stack.enter_async_context(outbox)
        speaker = Speaker(outbox, 0.05)
        for how in ("kill", "stop", "kill"):
            seen = len(clients[0].received["told"])
            await until(lambda: len(clients[0].received["told"]) > seen + 20, "events go on", _RETURNS_S)  # noqa: B023
            await rng.choice(servers).restart(how)
        await finish(speaker, outbox, clients)
        assert await forwarded(servers) > 0
        await peer.leave_all()
    for one in servers:
        await one.stop()
        one.check_log()


async def test_a_server_that_stands_still_for_too_long_costs_nobody_an_event(
    peer: Peer, servers: list[ServerProcess], rng: random.Random, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        spread = await stack.enter_async_context(Spread.over([one.port for one in servers], rng))
        clients = await listeners(peer, spread.url)
        outbox = waypost.Client(spread.url, outbox=tmp_path / "outbox.db", ack_timeout_s=5, reconnection_delay_s=0.05)
        await stack.enter_async_context(outbox)
        speaker = Speaker(outbox, 0.05)
        frozen = rng.choice(servers)
        spread.ports.remove(frozen.port)
        os.kill(frozen.pid, signal.SIGSTOP)
        # Its clients notice by their heartbeats, the other servers by its beats.
        await asyncio.sleep(sum(HEARTBEAT.values()) + 1)
        os.kill(frozen.pid, signal.SIGCONT)
        spread.ports.append(frozen.port)
        seen = len(clients[0].received["told"])
        await until(lambda: len(clients[0].received["told"]) > seen + 20, "events go on", _RETURNS_S)
        await finish(speaker, outbox, clients)
        await peer.leave_all()
    for one in servers:
        await one.stop()
        one.check_log()


async def test_servers_with_several_workers_are_one_service(
    peer: Peer, postgres_url: str, rng: random.Random, tmp_path: Path
) -> None:
    servers = [server(postgres_url, tmp_path, number, "--workers", "2") for number in range(2)]
    async with AsyncExitStack() as stack:
        for one in servers:
            stack.push_async_callback(one.kill)
            await one.start()
        spread = await stack.enter_async_context(Spread.over([one.port for one in servers], rng))
        clients = await listeners(peer, spread.url)
        outbox = waypost.Client(spread.url, outbox=tmp_path / "outbox.db")
        await stack.enter_async_context(outbox)
        speaker = Speaker(outbox, 0.05)
        found, unheard = await outbox.call("who")
        assert (len(found), unheard) == (len(clients) + 1, 0)
        await until(lambda: len(clients[0].received["told"]) > 20, "events come", _RETURNS_S)
        await finish(speaker, outbox, clients)
        await peer.leave_all()
        for one in servers:
            await one.stop()
            one.check_log()
