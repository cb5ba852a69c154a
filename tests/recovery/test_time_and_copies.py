"""The store is put back to an older copy, or the clock to another time, while the server is stopped.

Clients of all transports are on one server at once, since it is the server's starts that take the time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.peer import MODES, Client, Peer
from tests.recovery.clients import Clients, came_back, come_back, numbers, publish, reason, state
from tests.recovery.conftest import SHORT_HEARTBEAT, Launch
from tests.support.server_process import ServerProcess

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

HOUR_S = 3600.0


@dataclass
class Copies:
    """A server whose store can be saved and put back."""

    server: ServerProcess
    directory: Path

    @property
    def saved(self) -> Path:
        return self.directory.with_name("saved")

    async def save(self) -> None:
        await self.server.stop()
        shutil.copytree(self.directory, self.saved)
        await self.server.start()

    async def put_back(self) -> None:
        """Put everything back, also what stands beside the file and counts its openings."""
        await self.server.kill()
        shutil.rmtree(self.directory)
        shutil.copytree(self.saved, self.directory)
        await self.server.start()

    async def put_back_alone(self) -> None:
        """Put only the file back, as who restores a backup would."""
        await self.server.kill()
        for name in ("store.db-wal", "store.db-shm"):
            (self.directory / name).unlink(missing_ok=True)
        shutil.copy(self.saved / "store.db", self.directory / "store.db")
        await self.server.start()

    async def lose(self) -> None:
        await self.server.kill()
        shutil.rmtree(self.directory)
        os.mkdir(self.directory)
        await self.server.start()


@pytest.fixture
def store_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "store"
    directory.mkdir()
    return directory


async def launch_copies(launch: Launch, directory: Path) -> Copies:
    return Copies(await launch(store=str(directory / "store.db"), **SHORT_HEARTBEAT), directory)


async def listen_all(clients: Clients) -> list[Client]:
    return [await clients.listen(mode) for mode in MODES]


async def all_hear(listeners: Sequence[Client], number: int) -> None:
    for listener in listeners:
        await listener.hears("news", number)


async def all_leave(listeners: Sequence[Client]) -> None:
    for listener in listeners:
        await listener.away()


async def all_start_anew(listeners: Sequence[Client]) -> None:
    """Fail unless each has been told that the store is another one."""
    for listener in listeners:
        assert not listener.connects[-1].recovered
        assert await reason(listener) == "generation"


async def all_come_back(listeners: Sequence[Client], *, recovered: bool = True) -> None:
    for listener in listeners:
        await come_back(listener, recovered=recovered)


async def test_an_older_copy_of_the_store(peer: Peer, launch: Launch, store_directory: Path) -> None:
    copies = await launch_copies(launch, store_directory)
    clients = Clients(peer, copies.server)
    present, behind, speaker = await listen_all(clients), await listen_all(clients), await clients.connect()
    await publish(speaker, 0, 2)
    await all_hear(present + behind, 1)
    await all_leave(behind)
    await copies.save()
    for client in (*present, speaker):
        await came_back(client, 2)
    await publish(speaker, 2, 4)
    await all_hear(present, 3)
    await copies.put_back()
    for client in present:
        await came_back(client, 3, recovered=False)
    await all_start_anew(present)
    # The speaker has seen nothing of the lost part; it may have been back before it was known.
    await speaker.connected(3)
    # Those that were away all the time have seen nothing of it either, but it is known now.
    await all_come_back(behind, recovered=False)
    await all_start_anew(behind)
    control = await clients.control()
    recoveries = (await state(control))["counters"]["recoveries"]
    assert recoveries["generation"] in (len(present) + len(behind), len(present) + len(behind) + 1)
    await publish(speaker, 4, 6)
    await all_hear(present + behind, 5)
    await all_leave(present + behind)
    await publish(speaker, 6, 8)
    await all_come_back(present + behind)
    await all_hear(present + behind, 7)
    assert [numbers(client) for client in present] == [list(range(8))] * len(present)
    assert [numbers(client) for client in behind] == [[0, 1, 4, 5, 6, 7]] * len(behind)


async def test_an_older_copy_of_the_file_alone_is_told_to_everybody(
    peer: Peer, launch: Launch, store_directory: Path
) -> None:
    copies = await launch_copies(launch, store_directory)
    clients = Clients(peer, copies.server)
    behind, speaker = await listen_all(clients), await clients.connect()
    await publish(speaker, 0, 2)
    await all_hear(behind, 1)
    await all_leave(behind)
    await copies.save()
    await came_back(speaker, 2)
    await publish(speaker, 2, 4)
    await copies.put_back_alone()
    await came_back(speaker, 3, recovered=False)
    await all_come_back(behind, recovered=False)
    await all_start_anew(behind)
    await publish(speaker, 4, 6)
    await all_hear(behind, 5)
    await all_leave(behind)
    await publish(speaker, 6, 8)
    await all_come_back(behind)
    await all_hear(behind, 7)
    assert [numbers(client) for client in behind] == [[0, 1, 4, 5, 6, 7]] * len(behind)


async def test_the_copy_has_grown_past_the_client(peer: Peer, launch: Launch, store_directory: Path) -> None:
    """Its offset names a position that exists again, but what stands there is something else."""
    copies = await launch_copies(launch, store_directory)
    clients = Clients(peer, copies.server)
    ahead, speaker = await listen_all(clients), await clients.connect()
    await publish(speaker, 0, 2)
    await copies.save()
    for client in (*ahead, speaker):
        await came_back(client, 2)
    await publish(speaker, 2, 4)
    await all_hear(ahead, 3)
    await all_leave(ahead)
    await speaker.disconnect()
    await copies.put_back()
    stranger = await clients.connect()
    await publish(stranger, 100, 105)
    await all_come_back(ahead, recovered=False)
    await all_start_anew(ahead)
    await publish(stranger, 105, 106)
    await all_hear(ahead, 105)
    assert [numbers(client) for client in ahead] == [[0, 1, 2, 3, 105]] * len(ahead)


async def test_an_empty_store_in_its_place(peer: Peer, launch: Launch, store_directory: Path) -> None:
    copies = await launch_copies(launch, store_directory)
    clients = Clients(peer, copies.server)
    client, quiet = await clients.listen(), await clients.listen(auth={"rooms": []})
    speaker = await clients.connect()
    await publish(speaker, 0, 2)
    await client.gets("news", 2)
    await copies.lose()
    await came_back(client, 2, recovered=False)
    assert await reason(client) == "generation"
    await came_back(quiet, 2, recovered=False)
    assert await reason(quiet) == "unknown session"
    await speaker.connected(2)
    await publish(speaker, 2, 3)
    await client.hears("news", 2)
    await client.away()
    await publish(speaker, 3, 4)
    await come_back(client)
    await client.hears("news", 3)
    assert numbers(client) == [0, 1, 2, 3]


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("offset_s", [HOUR_S, -HOUR_S], ids=["forward", "back"])
async def test_the_clock_moves_by_an_hour(
    peer: Peer, launch: Launch, tmp_path: Path, offset_s: float, how: str
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("0")
    # Sessions are kept for longer than the clock jumps: a jump by more than that ends them, as time would.
    server = await launch(clock_file=str(clock), recovery={"session_ttl_s": 2 * HOUR_S}, upkeep_s=0.1)
    clients = Clients(peer, server)
    client, away, speaker = await clients.listen(), await clients.listen(), await clients.connect()
    await publish(speaker, 0, 2)
    await away.away()
    await publish(speaker, 2, 4)
    for times, moved_s in ((2, offset_s), (3, 0.0)):
        clock.write_text(str(moved_s))
        await server.restart(how)
        await came_back(client, times)
        await came_back(speaker, times)
        await publish(speaker, 2 * times, 2 * times + 2)
    await client.gets("news", 8)
    await come_back(away)
    await away.hears("news", 7)
    assert numbers(client) == list(range(8))
    assert numbers(away) == list(range(8))
