"""The server's disk is full: what needs it is refused in a sentence, all else goes on; then there is space again.

And a server whose store is damaged, or finds no space at its start, says so and touches nothing.
"""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio

import waypost
from tests.interop.disk_app import STORED
from tests.interop.peer import MODES, Client, Peer
from tests.support.server_process import ServerProcess
from tests.support.small_disk import LARGE, small_disk
from tests.support.waiting import until_async

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

QUEUE = "jobs"
REFUSED = "no space left on its disk; free some, and the store works again"


class Disk(Protocol):
    """Where the server's store lives."""

    directory: Path

    def fill(self, server: ServerProcess) -> None:
        """Leave next to no space."""

    def free(self, server: ServerProcess) -> None:
        """Give the space back."""


class LimitedFiles:
    """A disk on which the server's process may not write large files, as under a quota."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def fill(self, server: ServerProcess) -> None:
        self._limit(server, max(file.stat().st_size for file in self.directory.iterdir()) + 4 * LARGE)

    def free(self, server: ServerProcess) -> None:
        self._limit(server, resource.RLIM_INFINITY)

    def _limit(self, server: ServerProcess, size: int) -> None:
        _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, hard))


@pytest.fixture(params=["quota", "small disk"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    directory = tmp_path / "disk"
    directory.mkdir()
    if request.param == "quota":
        yield LimitedFiles(directory)
        return
    with small_disk(directory) as mounted:
        yield mounted


def make_server(store: Path, log: Path, **options: Any) -> ServerProcess:
    command = ("-m", "waypost", "serve", "tests.interop.disk_app:io", "--port", "{port}", "--store", str(store))
    return ServerProcess(command, log, options)


@pytest_asyncio.fixture(loop_scope="module")
async def disk_server(peer: Peer, disk: Disk, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    # Without a reserve, as if another program had taken it.
    server = make_server(disk.directory / "store.db", tmp_path / "server.log", disk_reserve_bytes=0)
    await server.start()
    yield server
    await peer.leave_all()
    await server.kill()
    server.check_log()


async def enqueue_until_full(producer: Client) -> tuple[list[int], str]:
    """Put large messages into the queue until one is refused; returns what was accepted, and the sentence."""
    accepted: list[int] = []
    while True:
        number = len(accepted) + 1
        [problem] = await producer.call("enqueue", QUEUE, number, LARGE)
        if problem != STORED:
            return accepted, problem
        accepted.append(number)


async def can(client: Client, event: str, *args: object) -> None:
    """Ask for something until the store takes it."""
    await until_async(lambda: client.call(event, *args), lambda answer: answer == [STORED], event)


async def settled(client: Client) -> None:
    await until_async(lambda: client.call("waiting", QUEUE), lambda waiting: waiting == [0], "all is settled")


def numbers(client: Client, event: str) -> list[int]:
    return [args[0] for args in client.args_of(event)]


async def test_a_full_disk(peer: Peer, disk: Disk, disk_server: ServerProcess) -> None:
    producer = await peer.client(disk_server.url, transports=["websocket"])
    consumer = await peer.client(disk_server.url, auth={"consume": QUEUE}, rules={"job": "hold"})
    for client in (producer, consumer):
        await client.connected()
    await can(producer, "enqueue", QUEUE, 0, 10)
    await can(producer, "publish", 0, 10)
    await consumer.gets("job")

    disk.fill(disk_server)
    accepted, problem = await enqueue_until_full(producer)
    assert problem.startswith("StoreFull: ")
    assert REFUSED in problem
    assert accepted, "until then there was space"
    # Larger than the message that did not fit: an event needs a page or two less.
    [problem] = await producer.call("publish", 1, 4 * LARGE)
    assert REFUSED in problem
    # What needs no disk goes on, also the delivery of what was accepted.
    await producer.call("whisper", 1)
    await consumer.gets("whisper")
    assert await producer.call("echo", 1, b"two") == [1, b"two"]
    await consumer.rule("job", "ack")
    await consumer.ack(consumer.received["job"][0])
    await consumer.gets("job", 1 + len(accepted))
    late = await peer.client(disk_server.url, transports=["websocket"])

    disk.free(disk_server)
    await can(producer, "enqueue", QUEUE, -1, LARGE)
    await can(producer, "publish", 2, LARGE)
    await late.connected()
    await consumer.gets("news", 2)
    await settled(producer)
    await disk_server.restart("kill")
    await producer.connected(2)
    await can(producer, "enqueue", QUEUE, -2, 10)
    await settled(producer)
    assert numbers(consumer, "job") == [0, *accepted, -1, -2], "nothing lost, refused or settled came"
    assert numbers(consumer, "news") == [0, 2]
    assert all(state.recovered for state in consumer.connects[1:])


def refused_for_room() -> AbstractContextManager[object]:
    return pytest.raises(waypost.StoreFull, match="emits leave")


@pytest.fixture
def drained_disk(tmp_path: Path) -> Iterator[Path]:
    """The directory of a disk of 24 MB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    with small_disk(directory, 24 << 20):
        yield directory


@pytest_asyncio.fixture(loop_scope="module", params=["commit", "async"])
async def drained_server(
    request: pytest.FixtureRequest, peer: Peer, drained_disk: Path, tmp_path: Path
) -> AsyncIterator[ServerProcess]:
    server = make_server(drained_disk / "store.db", tmp_path / "server.log", durability=request.param)
    await server.start()
    yield server
    await peer.leave_all()
    await server.kill()
    server.check_log()


async def test_a_disk_that_emits_have_filled_is_drained(
    peer: Peer, drained_disk: Path, drained_server: ServerProcess
) -> None:
    """Emits leave a reserve, with which all else works: who comes in, acknowledgements, a stop, a kill, a start."""
    server = drained_server
    producer = await peer.client(server.url, transports=["websocket"])
    accepted, sentence = await enqueue_until_full(producer)
    assert len(accepted) > 20
    assert "emits leave 16,777,216 free" in sentence
    [refused] = await producer.call("publish", 1, LARGE)
    assert "emits leave 16,777,216 free" in refused
    with closing(sqlite3.connect(drained_disk / "store.db")) as connection, refused_for_room():
        waypost.publish(connection, QUEUE, "job", -1, "x" * LARGE)
    for how in ("stop", "kill"):
        for mode in MODES.values():
            newcomer = await peer.client(server.url, transports=mode)
            await newcomer.connected()
        await server.restart(how)
    consumer = await peer.client(server.url, auth={"consume": QUEUE}, rules={"job": "ack"})
    await consumer.gets("job", len(accepted))
    assert numbers(consumer, "job") == accepted
    await settled(consumer)
    await can(consumer, "publish", 2, LARGE)
    await can(consumer, "enqueue", QUEUE, 0, LARGE)
    await consumer.gets("job", len(accepted) + 1)
    assert "emits are refused, all else goes on" in server.log()


async def put_and_stop(peer: Peer, server: ServerProcess) -> None:
    """Let a server take a message that nobody has got, and stop it."""
    await server.start()
    producer = await peer.client(server.url, transports=["websocket"])
    await can(producer, "enqueue", QUEUE, 1, 10 * LARGE)
    await peer.leave_all()
    await server.stop()


async def start_and_get(peer: Peer, server: ServerProcess) -> None:
    """Start a server, and get its message."""
    await server.start()
    consumer = await peer.client(server.url, auth={"consume": QUEUE}, rules={"job": "ack"})
    await consumer.gets("job")
    assert numbers(consumer, "job") == [1]
    await peer.leave_all()
    await server.stop()
    server.check_log()


async def refused(server: ServerProcess, store: Path) -> str:
    """Start a server that must refuse, in one line, and leave its store as it is; return the line."""
    before, logged = store.read_bytes(), server.log_position()
    with pytest.raises(AssertionError, match="did not start"):
        await server.start()
    assert store.read_bytes() == before
    assert server.exit_code == 1
    lines = server.log_since(logged)
    assert len(lines) == 1, lines
    [line] = lines
    assert line.startswith(f"waypost: store {store}: ")
    return line


async def test_a_damaged_store_is_refused_with_what_to_do_and_left_as_it_is(peer: Peer, tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    server = make_server(store, tmp_path / "server.log")
    await put_and_stop(peer, server)
    whole = store.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:8192] + b"\xa5" * 8192 * 12 + whole[8192 * 13 :]):
        store.write_bytes(damaged)
        assert "put a good copy in its place, or move it away" in await refused(server, store)
    store.write_bytes(whole)
    await start_and_get(peer, server)


async def test_a_start_without_space_is_refused_and_works_when_there_is_some(peer: Peer, tmp_path: Path) -> None:
    directory = tmp_path / "disk"
    directory.mkdir()
    with small_disk(directory) as disk:
        store = directory / "store.db"
        server = make_server(store, tmp_path / "server.log", disk_reserve_bytes=0)
        await put_and_stop(peer, server)
        disk.leave(0)
        assert REFUSED in await refused(server, store)
        disk.free(server)
        await start_and_get(peer, server)
