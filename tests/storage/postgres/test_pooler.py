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

from tests.storage.postgres.stores import DEADLINE_S, followed, opened, until
from tests.support.postgres import PostgresServer, _as_user
from tests.support.require import skip_or_fail
from tests.support.server_process import free_port
from waypost.storage.queue_records import NewMessageRow

_CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
pool_mode = transaction
default_pool_size = 3
unix_socket_dir =
"""


@pytest.fixture
def pooled_url(postgres: PostgresServer, postgres_url: str) -> Iterator[str]:
    """The address of the test's database, over a pooler that gives a connection away after each transaction."""
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None:
        skip_or_fail("pgbouncer is not installed")
        return
    port = free_port()
    configuration = _CONFIGURATION.format(server=postgres.port, port=port).replace("* =", "* = user=postgres")
    # Readable for the user that runs it, who is not always this one.
    with tempfile.NamedTemporaryFile("w", suffix=".ini", dir="/tmp") as file:
        file.write(configuration)
        file.flush()
        Path(file.name).chmod(0o644)
        process = subprocess.Popen([program, file.name], **_as_user())
        url = f"postgresql://postgres@127.0.0.1:{port}/{postgres_url.rpartition('/')[2]}"
        try:
            _wait_for(url)
            yield f"{url}?waypost_pooled=yes"
        finally:
            process.kill()
            process.wait()


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


@pytest.mark.parametrize("is_direct", [True, False])
async def test_two_nodes_behind_a_pooler_are_one_service(pooled_url: str, postgres_url: str, is_direct: bool) -> None:
    url = f"{pooled_url}&waypost_direct={quote(postgres_url, safe='')}" if is_direct else pooled_url
    async with opened(url) as one, opened(url) as two:
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
