"""``waypost serve --workers`` with real processes: how it starts, what ends it, and what it survives."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import waypost
from tests.support.raw import request, target
from tests.support.server_process import ServerProcess
from tests.support.waiting import until, until_async

pytestmark = pytest.mark.asyncio

_PIDS = re.compile(r"workers: (\d+) \(pids ([\d, ]+)\)")


def lives(pid: int) -> bool:
    """Return whether a process lives; one that has ended and was not waited for does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


class Site:
    """A command with several workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mode_file = folder / "mode"
        self.server = self.process()

    def process(self, workers: str = "2", store: str | None = None, **options: Any) -> ServerProcess:
        store = store or str(self.folder / "store.db")
        # Not by the tests' nursery: the command's own start is a part of what is tested.
        command = ("-X", "utf8", "-m", "waypost", "serve", "tests.workers.app:io", "--port", "{port}")
        options = {"drain_s": 0.1, "mode_file": str(self.mode_file), **options}
        self.server = ServerProcess(
            (*command, "--workers", workers, "--store", store), self.folder / "server.log", options
        )
        return self.server

    def set_mode(self, mode: str) -> None:
        """Let the application be another one from its next import on."""
        self.mode_file.write_text(mode)

    def pids(self) -> list[int]:
        """Return the workers that the last start-up line names."""
        return [int(pid) for pid in _PIDS.findall(self.server.log())[-1][1].split(", ")]

    async def connect(self, **options: Any) -> waypost.Client:
        client = waypost.Client(self.server.url, **options)
        await client.connect()
        return client

    async def end(self) -> int | None:
        """Wait for the command's end; return its exit code."""
        await until(lambda: not self.server.alive(), f"the command has ended: {self.server.log()}")
        return self.server.exit_code

    async def none_left(self, pids: list[int]) -> None:
        await until(lambda: not any(map(lives, pids)), f"no worker is left: {self.server.log()}")


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    yield made
    await made.server.kill()


async def of_each(site: Site, count: int = 2) -> dict[int, waypost.Client]:
    """Connect clients until each worker has one."""
    found: dict[int, waypost.Client] = {}

    async def one_more() -> int:
        client = await site.connect(transports=["websocket"])
        pid, _ = await client.call("where")
        if pid in found:
            await client.disconnect()
        found.setdefault(pid, client)
        return len(found)

    await until_async(one_more, lambda workers: workers == count, "a client at each worker")
    return found


@pytest.mark.parametrize("store", ["file", "memory:", "postgres"])
async def test_what_one_worker_emits_reaches_the_clients_of_all(
    site: Site, store: str, request: pytest.FixtureRequest
) -> None:
    if store == "postgres":
        # Each worker opens the database by itself, as a node.
        store = request.getfixturevalue("postgres_url")
    server = site.process(store=None if store == "file" else store)
    await server.start()
    (line,) = (line for line in server.log().splitlines() if line.startswith("Waypost "))
    assert f"listening on {server.url}  store: " in line
    assert "workers: 2 (pids " in line
    clients = await of_each(site)
    assert sorted(clients) == sorted(site.pids())
    told: dict[int, list[int]] = {pid: [] for pid in clients}
    for pid, client in clients.items():
        client.on("told", told[pid].append)
    for number, client in enumerate([*clients.values()] * 10):
        await client.call("tell", number)
    await until(lambda: all(len(one) == 20 for one in told.values()), f"all events: {told}")
    assert [*told.values()] == [list(range(20))] * 2
    pids = site.pids()
    await server.stop()
    await site.none_left(pids)
    server.check_log()
    for number in (1, 2):
        assert re.search(rf"INFO    worker {number} waypost\.server: started", server.log()), server.log()


@pytest.mark.parametrize("start", ["first", "after a kill"])
async def test_nobody_is_let_in_before_all_workers_have_started(site: Site, start: str) -> None:
    server = site.process("3")
    if start == "after a kill":
        await server.start()
        await server.kill()
        await site.none_left(site.pids())
    position = server.log_position() if start == "after a kill" else 0
    server._spawn()

    async def answers() -> bool:
        with suppress(OSError):
            return (await request(server.port, "GET", target())).status == 200
        return False

    await until_async(answers, bool, "somebody is let in")
    started = [line for line in server.log_since(position) if "waypost.server: started" in line]
    assert len(started) == 3, server.log()
    await server.stop()


async def test_one_worker_is_one_process(site: Site) -> None:
    server = site.process("1")
    await server.start()
    client = await site.connect()
    assert (await client.call("where"))[0] == server.pid
    assert "workers" not in server.log()
    await client.disconnect()
    await server.stop()


@pytest.mark.long
async def test_a_free_port_is_the_same_for_all(site: Site) -> None:
    server = site.process()
    server._command[server._command.index(str(server.port))] = "0"
    await server.start()
    found = re.search(r"listening on (http://127\.0\.0\.1:\d+)", server.log())
    assert found is not None
    server.url = found[1]
    assert server.url[-2:] != ":0"
    assert len(await of_each(site)) == 2
    await server.stop()


@pytest.mark.parametrize(
    ("mode", "code", "said"),
    [
        ("broken", 1, "RuntimeError: broken on purpose"),
        ("ends", 7, "ended with exit code 7 before it accepted clients"),
        ("own options", 2, "; to change them, restart the whole service"),
    ],
)
async def test_what_is_wrong_at_the_first_start_ends_the_command(site: Site, mode: str, code: int, said: str) -> None:
    site.set_mode(mode)
    server = site.process()
    server._spawn()
    assert await site.end() == code
    assert server.log().count(said) >= 1, server.log()
    assert server.log().count("Traceback") <= 1
    assert "another one is started" not in server.log()


@pytest.mark.parametrize("number", [pytest.param(1, marks=pytest.mark.long), 2])
async def test_a_worker_that_is_killed_while_the_command_starts_is_replaced(site: Site, number: int) -> None:
    server = site.process()
    server._spawn()
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")

    def workers() -> list[str]:
        pids = children.read_text().split()
        return [pid for pid in pids if b"\0worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    await until(lambda: len(workers()) == number, f"worker {number} is being started")
    os.kill(int(workers()[-1]), signal.SIGKILL)
    await until(lambda: "listening on" in server.log(), "the command has started all the same")
    assert re.search(rf"worker {number} \(pid \d+\) was ended by SIGKILL; another one is started", server.log())
    assert len(await of_each(site)) == 2
    await server.stop()
    await site.none_left(site.pids())


async def test_a_killed_worker_is_replaced_and_its_clients_recover(site: Site) -> None:
    server = site.process()
    await server.start()
    clients = await of_each(site)
    (killed, client), (kept, other) = clients.items()
    told: list[int] = []
    client.on("told", told.append)
    os.kill(killed, signal.SIGKILL)
    for number in range(20):
        await other.call("tell", number)
    await until(lambda: told == list(range(20)), f"the client has all events: {told}")
    assert client.recovered
    await until(lambda: server.log().count("waypost.server: started") == 3, "another worker has started")
    pids = [*(await of_each(site))]
    assert killed not in pids
    assert kept in pids
    assert "was ended by SIGKILL; another one is started" in server.log()
    await server.stop()
    await site.none_left(pids)


@pytest.mark.long
async def test_nobody_waits_for_a_worker_that_can_not_be_replaced(site: Site) -> None:
    server = site.process()
    await server.start()
    killed, kept = site.pids()
    site.set_mode("broken")
    os.kill(killed, signal.SIGKILL)
    await until(lambda: "broken on purpose" in server.log(), "the next one fails")
    for _ in range(30):
        answer = await asyncio.wait_for(request(server.port, "GET", target()), 15)
        assert answer.status == 200
    # The worker that is left has both sockets, and gives one back to the next one.
    site.set_mode("")
    assert kept in await of_each(site)
    await server.stop()
    await site.none_left([kept])


@pytest.mark.long
async def test_a_store_that_another_process_has_is_waited_for(site: Site) -> None:
    first = waypost.Server(store=str(site.folder / "store.db"))
    await first.start()
    server = site.process(store_wait_s=0.5)
    server._spawn()
    assert await site.end() == 1
    assert f"process {os.getpid()} has had it open since" in server.log()
    assert "did not end within 0.5 s" in server.log()
    server = site.process(store_wait_s=60)
    starting = asyncio.ensure_future(server.start())
    await until(lambda: "waiting up to 60 s for its end" in server.log(), "it waits")
    await first.close()
    await starting
    await server.stop()


async def test_nothing_outlives_a_killed_parent(site: Site) -> None:
    server = site.process()
    await server.start()
    clients = await of_each(site)
    # A worker whose loop is stuck ends too.
    stuck = next(iter(clients.values()))
    await stuck.emit("hang", 60.0)
    pids = site.pids()
    await server.kill()
    await site.none_left(pids)
    assert re.search(r"worker \d ends, (its parent is gone|its link to the store was cut)", server.log())
    assert "Traceback" not in server.log()
    await server.start()
    for client in clients.values():
        await until(lambda client=client: client.connected, "it is connected again")  # type: ignore[misc]
    await server.stop()


async def test_sigterm_drains_all_at_once(site: Site) -> None:
    server = site.process()
    await server.start()
    clients = await of_each(site)
    calls = [asyncio.ensure_future(client.call("slow", 1.0)) for client in clients.values()]
    await asyncio.sleep(0.3)
    began = time.monotonic()
    pids = site.pids()
    # As a terminal and systemd do: the signal goes to all processes.
    for pid in (*pids, server.pid):
        os.kill(pid, signal.SIGTERM)
    assert await site.end() == 0, server.log()
    assert time.monotonic() - began < 10
    await site.none_left(pids)
    await asyncio.gather(*calls, return_exceptions=True)
    server.check_log()
    assert sorted(os.listdir(site.folder)) == ["server.log", "store.db", "store.db-owner", "store.db-turn"]


@pytest.mark.long
async def test_a_second_sigterm_ends_it_whatever_handlers_do(site: Site) -> None:
    server = site.process(stop_timeout_s=60)
    await server.start()
    clients = await of_each(site)
    for client in clients.values():
        await client.emit("hang", 60.0)
    pids = site.pids()
    os.kill(server.pid, signal.SIGTERM)
    await asyncio.sleep(0.5)
    assert server.alive()
    os.kill(server.pid, signal.SIGTERM)
    assert await site.end() == 128 + signal.SIGTERM
    await site.none_left(pids)


async def test_a_reload_that_can_not_be_leaves_the_old_workers(site: Site) -> None:
    server = site.process()
    await server.start()
    clients = await of_each(site)
    for mode, said in (("broken", "broken on purpose"), ("other options", "answer_ttl_s")):
        site.set_mode(mode)
        failures = server.log().count("not reloaded")
        os.kill(server.pid, signal.SIGHUP)
        await until(lambda: server.log().count("not reloaded") > failures, f"{mode}: {server.log()}")  # noqa: B023
        assert said in server.log()
    for pid, client in clients.items():
        assert await client.call("where") == [pid, ""]
    site.set_mode("new")
    os.kill(server.pid, signal.SIGHUP)
    for client in clients.values():
        await until_async(lambda: client.call("where"), lambda told: told[1] == "new", "the new code")  # noqa: B023
    await site.none_left([*clients])
    await server.stop()


@pytest.mark.long
async def test_no_request_fails_during_reloads(site: Site) -> None:
    """Requests on connections of their own, polling clients and WebSockets, while all workers are replaced."""
    server = site.process(drain_s=1)
    await server.start()
    stop = asyncio.Event()
    statuses: list[int] = []

    async def ask() -> None:
        while not stop.is_set():
            statuses.append((await request(server.port, "GET", target())).status)

    clients = [await site.connect(transports=[transport]) for transport in ("polling", "websocket") * 4]
    told: list[list[int]] = [[] for _ in clients]
    for client, mine in zip(clients, told, strict=True):
        client.on("told", mine.append)
    asking = [asyncio.ensure_future(ask()) for _ in range(4)]
    # An answer may be cut off with its connection; the outbox asks for it again, and the event is handled once.
    speaker = await site.connect(outbox=site.folder / "outbox.db")
    sent = 0
    for mode in ("second", "third"):
        site.set_mode(mode)
        before = site.server.log().count("reloaded: ")
        os.kill(server.pid, signal.SIGHUP)
        ends = time.monotonic() + 30
        while site.server.log().count("reloaded: ") == before or time.monotonic() < ends - 27:
            assert time.monotonic() < ends, server.log()
            await speaker.emit("tell", sent)
            sent += 1
            await asyncio.sleep(0.01)
    stop.set()
    await asyncio.gather(*asking)
    assert set(statuses) == {200}, statuses
    await until_async(speaker.outbox.count, lambda waiting: waiting == 0, "all is answered")
    await until(lambda: all(len(mine) >= sent for mine in told), "all events")
    assert told == [list(range(sent))] * len(clients)
    for client in clients:
        await until_async(lambda: client.call("where"), lambda told: told[1] == "third", "the new code")  # noqa: B023
    await server.stop()
    server.check_log()


@pytest.mark.long
@pytest.mark.parametrize("when", ["first start", "reload"])
async def test_a_worker_that_hangs_in_its_import_is_not_waited_for(site: Site, when: str) -> None:
    server = site.process()
    pids: list[int] = []
    if when == "reload":
        await server.start()
        pids = site.pids()
        site.set_mode("hangs")
        os.kill(server.pid, signal.SIGHUP)
        await until(lambda: "hanging in its import" in server.log(), "the new one hangs")
        client = await site.connect()
        assert (await client.call("where"))[1] == ""
    else:
        site.set_mode("hangs")
        server._spawn()
        await until(lambda: "hanging in its import" in server.log(), "the first one hangs")
    os.kill(server.pid, signal.SIGTERM)
    assert await site.end() == 0
    await site.none_left(pids)
