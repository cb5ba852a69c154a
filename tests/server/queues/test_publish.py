"""Messages that are published in the application's own transactions, in the server's process and in others."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import waypost
from tests.server.model_client import running
from tests.server.queues.client import Site, Worker
from tests.support.waiting import until

DEADLINE_S = 60.0

PUBLISHER = """
import os, signal, sqlite3, sys
import waypost

connection = sqlite3.connect(sys.argv[1])
connection.execute("CREATE TABLE IF NOT EXISTS orders (number INTEGER)")
with connection:
    for number in range(3):
        connection.execute("INSERT INTO orders VALUES (?)", (number,))
        waypost.publish(connection, "jobs", "job", {"order": number, "blob": b"\\x00"}, id=f"order {number}")
if "killed" in sys.argv:
    waypost.publish(connection, "jobs", "job", "never")
    os.kill(os.getpid(), signal.SIGKILL)
"""
SERVER = """
import asyncio, sys
import waypost

async def main():
    io = waypost.Server(store=sys.argv[1])

    @io.consumer("jobs")
    async def handle(message, job):
        print(job["order"], flush=True)

    await io.start()
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
PUBLISHED = [{"order": number, "blob": b"\x00"} for number in range(3)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def site(path: Path) -> Site:
    return Site(waypost.Server(store=str(path), drain_s=0, queues=waypost.QueueOptions(max_messages=5)), {})


@pytest.fixture
def application(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection:
        yield connection


async def publish_elsewhere(path: Path, *words: str) -> int:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PUBLISHER, str(path), *words)
    return await asyncio.wait_for(process.wait(), DEADLINE_S)


async def got(client: Worker, count: int) -> None:
    await until(lambda: len(client.jobs) >= count, f"{count} jobs have come")


async def test_a_message_comes_with_the_commit(site: Site, application: sqlite3.Connection) -> None:
    async with running(site.io):
        client = await site.client(auto_ack=True)
        await site.settled()
        application.execute("CREATE TABLE orders (number INTEGER)")
        application.execute("INSERT INTO orders VALUES (1)")
        message_id = site.queue.publish(application, "job", "one", b"\x00", key="k", ttl_s=60)
        site.queue.publish(application, "job", "two", id="second")
        await asyncio.sleep(0.1)
        assert client.jobs == []
        application.commit()
        await got(client, 2)
        assert client.events == [["job", "one", b"\x00"], ["job", "two"]]
        site.queue.publish(application, "job", "rolled back")
        application.rollback()
        site.queue.publish(application, "job", "repeated", id="second")
        site.queue.publish(application, "job", "three")
        application.commit()
        await got(client, 3)
        assert client.jobs == ["one", "two", "three"]
        assert len(message_id) > 20
        await site.settled()


async def test_it_may_be_called_in_a_thread_by_a_handler(site: Site, path: Path) -> None:
    @site.io.event
    def order(socket: waypost.Socket, number: int) -> str:
        with closing(sqlite3.connect(path)) as connection, connection:
            return site.queue.publish(connection, "job", number)

    async with running(site.io):
        client = await site.client(auto_ack=True)
        (message_id,) = await client.call("order", 7)
        await got(client, 1)
        assert client.jobs == [7]
        assert len(message_id) > 20


async def test_what_can_not_be_published_is_refused_in_a_sentence(
    site: Site, application: sqlite3.Connection, tmp_path: Path
) -> None:
    async with running(site.io):
        with closing(sqlite3.connect(tmp_path / "other.db")) as other:
            with pytest.raises(
                waypost.StorageError, match=r"the connection is to .*other\.db; connect to this store"
            ):
                site.queue.publish(other, "job", 1)
            with pytest.raises(waypost.StorageError, match="it is no store of Waypost's"):
                waypost.publish(other, "jobs", "job", 1)
        with pytest.raises(waypost.ConfigurationError, match="connection"):
            site.queue.publish(None, "job", 1)  # type: ignore[arg-type]
        with pytest.raises(waypost.EncodingFailed):
            site.queue.publish(application, "job", object())
        with pytest.raises(waypost.ConfigurationError, match="delay_s"):
            site.queue.publish(application, "job", 1, delay_s=-2)
        with pytest.raises(waypost.ConfigurationError, match="queue"):
            waypost.publish(application, "", "job", 1)
        assert not application.in_transaction
        for number in range(5):
            await site.put(number)
        with pytest.raises(waypost.QueueFull, match="keeps 5 messages of at most 5"):
            site.queue.publish(application, "job", 6)
        with pytest.raises(waypost.QueueFull):
            waypost.publish(application, "jobs", "job", 6, options=waypost.QueueOptions(max_messages=5))
        assert not application.in_transaction
    memory = waypost.Server()
    await memory.start()
    with pytest.raises(waypost.StorageError, match="keep the store in a file"):
        memory.queue("jobs").publish(application, "job", 1)
    await memory.close()


async def test_without_a_server_a_queue_s_own_window_holds(site: Site, application: sqlite3.Connection) -> None:
    async with running(site.io):
        await site.queue.configure(deduplication_s=0)
        for _ in range(2):
            waypost.publish(application, "jobs", "job", 1, id="same")
            waypost.publish(application, "others", "job", 1, id="same")
        application.commit()
        await until_messages(site.io, {"jobs": 2, "others": 1})


async def until_messages(io: waypost.Server, expected: dict[str, int]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while {name: (await io.queue(name).info()).messages for name in expected} != expected:
            await asyncio.sleep(0.01)


async def test_another_process_publishes_while_the_server_is_idle(site: Site, path: Path) -> None:
    async with running(site.io):
        client = await site.client(auto_ack=True)
        assert await publish_elsewhere(path) == 0
        await got(client, 3)
        assert [job["order"] for job in client.jobs] == [0, 1, 2]
        assert await publish_elsewhere(path) == 0, "the same ids"
        await site.put("the last one")
        await got(client, 4)
        assert client.jobs[3:] == ["the last one"]


async def test_a_publisher_is_killed_after_its_commit_while_no_server_runs(site: Site, path: Path) -> None:
    async with running(waypost.Server(store=str(path), drain_s=0)):
        pass
    assert await publish_elsewhere(path, "killed") == -signal.SIGKILL
    async with running(site.io):
        await until_messages(site.io, {"jobs": 3})
        assert [one.args[0] for one in await site.queue.peek()] == PUBLISHED


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def test_the_server_is_killed_between_a_commit_and_the_pick_up(site: Site, path: Path) -> None:
    command = [sys.executable, "-c", SERVER, str(path)]
    server = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    assert await asyncio.wait_for(server.stdout.readline(), DEADLINE_S) == b"ready\n"
    with closing(sqlite3.connect(path, isolation_level=None)) as turn:
        # It must not be stopped within a transaction of its own: nobody else could write then.
        turn.execute("BEGIN IMMEDIATE")
        os.kill(server.pid, signal.SIGSTOP)
        # Else it may take its turn before the signal reaches it.
        await until(lambda: is_stopped(server.pid), "the server has stopped")
    assert await publish_elsewhere(path) == 0
    server.kill()
    await server.wait()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (3,)
    assert await server.stdout.read() == b""
    async with running(site.io):
        client = await site.client(auto_ack=True)
        await got(client, 3)
        await site.settled()
        assert [job["order"] for job in client.jobs] == [0, 1, 2]
