"""Behind pgbouncer in transaction mode: with a direct URL for notices, and without one."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from tests.storage.followers import Rows
from tests.storage.postgres.stores import DEADLINE_S, followed, insist, opened, until
from tests.support.postgres import PostgresServer, _as_user
from tests.support.require import skip_or_fail
from tests.support.server_process import free_port
from waypost.errors import StorageUncertain
from waypost.storage.postgres.store import PostgresStore
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import NewMessageRow

_CONFIGURATION = """
[databases]
* = user=postgres host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
pool_mode = transaction
default_pool_size = 3
unix_socket_dir =
"""


class Pooler:
    """A pgbouncer in front of the test's server, on a port of its own.

    Attributes:
        url: The address of a database over it.
    """

    def __init__(self, program: str, file: Path, server_port: int, database: str) -> None:
        port = free_port()
        file.write_text(_CONFIGURATION.format(server=server_port, port=port))
        file.chmod(0o644)  # for the user that runs it, who is not always this one
        self.url = f"postgresql://postgres@127.0.0.1:{port}/{database}"
        self._command = (program, str(file))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL, **_as_user())
        _wait_for(self.url)

    def kill(self) -> None:
        """End it with all the connections that it carries."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def pooler(postgres: PostgresServer, postgres_url: str) -> Iterator[Pooler]:
    """A pooler that gives a connection away after each transaction, in front of the test's database."""
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None:
        skip_or_fail("pgbouncer is not installed")
        return
    with tempfile.NamedTemporaryFile("w", suffix=".ini", dir="/tmp") as file:
        pooler = Pooler(program, Path(file.name), postgres.port, postgres_url.rpartition("/")[2])
        try:
            pooler.start()
            yield pooler
        finally:
            pooler.kill()


@pytest.fixture(params=["direct", "poll", "neither"])
def pooled_url(request: pytest.FixtureRequest, pooler: Pooler, postgres_url: str) -> str:
    """The address of a store over the pooler, with each way to hear of other nodes' writes."""
    hears = {
        "direct": f"&waypost_direct={quote(postgres_url, safe='')}",
        "poll": "&waypost_listen=poll",
        "neither": "",
    }
    return f"{pooler.url}?waypost_pooled=yes{hears[request.param]}"


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


async def test_two_nodes_behind_a_pooler_are_one_service(pooled_url: str) -> None:
    async with opened(pooled_url) as one, opened(pooled_url) as two:
        rows = [await followed(one), await followed(two)]
        await asyncio.gather(*(rows[at % 2].append(b"%d" % at) for at in range(200)))
        await until(lambda: all(one.journal.top == 200 for one in rows))
        assert rows[0].rows == rows[1].rows
        await rows[0].journal.open_session(b"key", "sid", b"data", lambda _: None)
        found = await rows[1].journal.find_session(b"key")
        assert found is not None
        assert found.start == 200
        queue = one.queue("q")
        await queue.add_consumer("c")
        await queue.enqueue([NewMessageRow("m", b"record")], deduplicate_s=60, on_commit=lambda _: None)
        (message,) = await two.queue("q").fetch("c", after=0, max_messages=9, max_bytes=99)
        assert message.record == b"record"


async def test_two_nodes_go_on_after_their_pooler_was_killed(pooled_url: str, pooler: Pooler) -> None:
    async with opened(pooled_url) as one, opened(pooled_url) as two:
        rows = [await followed(one), await followed(two)]
        await rows[0].journal.open_session(b"key", "sid", b"data", lambda _: None)
        queues = [one.queue("q"), two.queue("q")]
        epoch = (await queues[0].add_consumer("c")).epoch
        unclear: list[bytes] = []

        async def store(node: Rows, record: bytes) -> int:
            try:
                return await node.append(record)
            except StorageUncertain:
                unclear.append(record)
                raise

        async def publish(number: int) -> None:
            for at in range(number, number + 20):
                await insist(lambda at=at: store(rows[at % 2], b"%d" % at))  # type: ignore[misc]
                message = NewMessageRow(str(at), b"job")
                await insist(lambda at=at, message=message: _enqueue(queues[at % 2], message))  # type: ignore[misc]

        async with asyncio.TaskGroup() as group:
            for number in range(0, 200, 20):
                group.create_task(publish(number))
            await until(lambda: rows[0].journal.top > 20)
            pooler.kill()
            await until(lambda: all(_is_unreachable(store) for store in (one, two)))
            pooler.start()
        await until(lambda: not one.troubles() and not two.troubles())
        await until(lambda: rows[0].journal.top == rows[1].journal.top)
        assert rows[0].rows == rows[1].rows
        records = [record for _, record in rows[0].rows]
        assert {*records} == {b"%d" % at for at in range(200)}
        assert {record for record in records if records.count(record) > 1} <= {*unclear}
        found = await rows[1].journal.find_session(b"key")
        assert found is not None
        assert found.expires_at is None, "its node lives"
        messages = await queues[1].fetch("c", after=0, max_messages=999, max_bytes=99_999)
        assert {message.id for message in messages} == {str(at) for at in range(200)}
        await queues[0].settle("c", epoch, [message.position for message in messages])
        assert await queues[1].fetch("c", after=0, max_messages=9, max_bytes=99) == []


async def _enqueue(queue: StoredQueue, message: NewMessageRow) -> int:
    await queue.enqueue([message], deduplicate_s=60, on_commit=lambda _: None)
    return 0


def _is_unreachable(store: PostgresStore) -> bool:
    return [trouble.code for trouble in store.troubles()] == ["unreachable"]
