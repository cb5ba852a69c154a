"""Official clients on several workers: killed workers and reloads cost nobody an event, and no order."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import waypost
from tests.interop.peer import MODES, Client, Peer
from tests.support.waiting import until, until_async
from tests.workers.test_serving import Site, lives

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

_WORKER = re.compile(r"worker (\d+) waypost\.server: started")


@pytest_asyncio.fixture(loop_scope="module")
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    yield made
    await made.server.kill()


async def listeners(peer: Peer, site: Site) -> list[Client]:
    found = []
    for transports in MODES.values():
        for _ in range(3):
            client = await peer.client(site.server.url, transports=transports, reconnectionDelay=50)
            await client.connected()
            found.append(client)
    return found


def workers_of(site: Site) -> list[int]:
    """Return the living worker processes."""
    parent = site.server.pid
    return [pid for pid in map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()) if lives(pid)]


class Speaker:
    """Emits numbers, one after the other, through a client whose outbox repeats what had no answer.

    Args:
        client: The client.
        pause_s: Seconds between two of them.
    """

    def __init__(self, client: waypost.Client, pause_s: float = 0.005) -> None:
        self.client = client
        self.pause_s = pause_s
        self.said = 0
        self._is_stopping = False
        self._task = asyncio.ensure_future(self._speak())

    async def _speak(self) -> None:
        while not self._is_stopping:
            await self.client.emit("tell", self.said)
            self.said += 1
            await asyncio.sleep(self.pause_s)

    async def stop(self) -> None:
        self._is_stopping = True
        await self._task


def check(clients: list[Client], said: int) -> None:
    """Check that all have got the same events in the same order, each offset once, and every number.

    A number may come twice: its handler was killed after the emit, and before its answer.
    """
    first = [(one.offset, one.args) for one in clients[0].received["told"]]
    assert len({offset for offset, _ in first}) == len(first)
    numbers = list(dict.fromkeys(args[0] for _, args in first))
    assert numbers == list(range(said))
    for client in clients[1:]:
        assert [(one.offset, one.args) for one in client.received["told"]] == first


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="who a parent's children are is known on Linux")
@pytest.mark.long
async def test_killed_workers_cost_nobody_an_event(peer: Peer, site: Site, rng: random.Random) -> None:
    # Short, as an official client that has paused polling at an upgrade's end notices a cut by the heartbeat only.
    server = site.process(ping_interval_s=2, ping_timeout_s=3)
    await server.start()
    clients = await listeners(peer, site)
    outbox = waypost.Client(server.url, outbox=site.folder / "outbox.db", ack_timeout_s=5)
    await outbox.connect()
    speaker = Speaker(outbox)
    for number in range(3):
        await until(lambda: len(_WORKER.findall(server.log())) >= 2 + number, "two workers serve")  # noqa: B023
        seen = len(clients[0].received["told"])
        await until(lambda: len(clients[0].received["told"]) > seen + 20, "events go on")  # noqa: B023
        os.kill(rng.choice(workers_of(site)), signal.SIGKILL)
    await speaker.stop()
    await until_async(outbox.outbox.count, lambda waiting: waiting == 0, "all is answered")
    await until(
        lambda: all(speaker.said - 1 in (args[0] for args in one.args_of("told")) for one in clients),
        "all have the last one",
    )
    check(clients, speaker.said)
    for client in clients:
        assert all(state.recovered for state in client.connects[1:]), client.summary()
    await outbox.disconnect()
    await peer.leave_all()
    await server.stop()
    server.check_log()


@pytest.mark.long
async def test_a_reload_costs_nobody_an_event_and_no_request(peer: Peer, site: Site) -> None:
    server = site.process("2", drain_s=0.5)
    await server.start()
    clients = await listeners(peer, site)
    outbox = waypost.Client(server.url, outbox=site.folder / "outbox.db")
    await outbox.connect()
    speaker = Speaker(outbox)
    for number in (1, 2):
        old = workers_of(site)
        os.kill(server.pid, signal.SIGHUP)
        await until(lambda: not any(map(lives, old)), f"the old workers have ended: {server.log()}")  # noqa: B023
        assert server.log().count("reloaded: ") == number
        for client in clients:
            assert (await client.connected(1 + number)).recovered
    await speaker.stop()
    await until_async(outbox.outbox.count, lambda waiting: waiting == 0, "all is answered")
    await until(
        lambda: all(speaker.said - 1 in (args[0] for args in one.args_of("told")) for one in clients),
        "all have the last one",
    )
    check(clients, speaker.said)
    assert [client.refusals for client in clients] == [[]] * len(clients)
    await outbox.disconnect()
    await peer.leave_all()
    await server.stop()
    server.check_log()


async def test_polling_goes_on_over_both_workers(peer: Peer, site: Site) -> None:
    """Each request of an official client that polls is a connection of its own: half of them reach the other one."""
    server = site.process("2")
    await server.start()
    clients = [await peer.client(server.url, transports=MODES["polling"]) for _ in range(4)]
    for client in clients:
        await client.connected()
    for number in range(25):
        for client in clients:
            await client.call("tell", number)
    for client in clients:
        assert [args[0] for args in client.args_of("told")] == [number for number in range(25) for _ in clients]
        assert len(client.connects) == 1
    await peer.leave_all()
    await server.stop()
    server.check_log()
