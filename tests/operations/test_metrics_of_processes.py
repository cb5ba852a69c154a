"""What Prometheus reads of a service of several processes: real workers, of one store or on PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import aiohttp
import pytest

import waypost
from tests.operations.scraping import Samples, samples
from tests.support.server_process import ServerProcess, free_port
from tests.support.waiting import until_async

pytestmark = [pytest.mark.asyncio, pytest.mark.long]

_PIDS = re.compile(r"workers: \d+ \(pids ([\d, ]+)\)")
_TELLS = 40
_JOBS = 12


class Service:
    """Two workers, and the address that Prometheus scrapes."""

    def __init__(self, folder: Path, store: str) -> None:
        self.side = free_port()
        command = ("-X", "utf8", "-m", "waypost", "serve", "tests.workers.app:io", "--port", "{port}")
        side = ("--workers", "2", "--metrics", f"127.0.0.1:{self.side}")
        log = folder / "server.log"
        self.server = ServerProcess((*command, "--store", store, *side), log, {"drain_s": 0.1, "stop_timeout_s": 1})

    async def scrape(self) -> Samples:
        """Scrape one of the workers; which one, the parent decides."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.side}/metrics") as answer:
            assert answer.status == 200, await answer.text()
            return samples(await answer.text())

    async def all_show(self, **expected: float) -> None:
        """Wait until scrapes in a row show some values, so that each worker has been asked."""

        async def look() -> list[dict[str, float]]:
            found = [await self.scrape() for _ in range(6)]
            return [{name: _sum(one, name) for name in expected} for one in found]

        await until_async(look, lambda all_: all_ == [expected] * 6, f"each worker shows {expected}")

    @property
    def pids(self) -> list[int]:
        """The workers that the start-up line names."""
        return [int(pid) for pid in _PIDS.findall(self.server.log())[-1].split(", ")]


def _sum(found: Samples, name: str) -> float:
    """Return a value, summed over its labels."""
    return sum(value for key, value in found.items() if key[0] == name)


async def clients_of_each(service: Service) -> dict[int, waypost.Client]:
    found: dict[int, waypost.Client] = {}

    async def one_more() -> int:
        client = waypost.Client(service.server.url, transports=["websocket"])
        await client.connect()
        pid, _ = await client.call("where")
        if pid in found:
            await client.disconnect()
        found.setdefault(pid, client)
        return len(found)

    await until_async(one_more, lambda workers: workers == 2, "a client at each worker")
    return found


@pytest.mark.parametrize("store", ["file", "memory:", "postgres"])
async def test_each_worker_shows_the_sums_and_those_of_one_that_was_killed(
    tmp_path: Path, store: str, request: pytest.FixtureRequest
) -> None:
    address = {"file": str(tmp_path / "store.db"), "memory:": "memory:"}.get(store)
    service = Service(tmp_path, address or request.getfixturevalue("postgres_url"))
    await service.server.start()
    try:
        clients = await clients_of_each(service)
        for client in clients.values():
            client.on("job", lambda number: None)
            await client.call("work")
        for number, client in enumerate([*clients.values()] * (_TELLS // 2)):
            await client.call("tell", number)
        for number, client in enumerate([*clients.values()] * (_JOBS // 2)):
            await client.call("put", number)
        kept = {
            "waypost_queue_enqueued_total": _JOBS,
            "waypost_queue_acknowledged_total": _JOBS,
            "waypost_queue_process_seconds_count": _JOBS,
        }
        now = {
            "waypost_servers": 2,
            "waypost_connections": 2,
            "waypost_sockets": 2,
            "waypost_queue_in_flight": 0,
            "waypost_queue_messages": 0,
        }
        await service.all_show(**kept, **now, waypost_queue_attached=2)
        found = await service.scrape()
        tells = "waypost_events_received_total", "/", "tell"
        assert found[tells] == found["waypost_handler_seconds_count", "/", "tell"] == _TELLS
        assert found["waypost_emits_total", "/", "journal"] == _TELLS
        assert found["waypost_bytes_received_total",] > 0
        if store == "memory:":
            assert found["waypost_store_commit_seconds_count",] == 0
        else:
            # Writes of all workers; each emit and each message is one at least.
            assert found["waypost_store_commit_rows_sum",] >= _TELLS + _JOBS

            async def store_bytes() -> float:
                return _sum(await service.scrape(), "waypost_store_bytes")

            await until_async(store_bytes, lambda size: size > 0, "the size, which a busy store may tell later")
        pid, client = next(iter(clients.items()))
        os.kill(pid, signal.SIGKILL)
        # The client comes back, to either worker, but does not ask for jobs; the new worker learns of what was.
        await service.all_show(**kept, **now)
        assert (await service.scrape())[tells] == _TELLS
        for client in clients.values():
            await asyncio.wait_for(client.disconnect(), 30)
    finally:
        await service.server.kill()
