"""Limits of a PostgreSQL server that are reached while a store is open: clear errors, and it goes on by itself."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.storage.postgres.stores import followed, insist, opened, until
from tests.support.postgres import PostgresServer
from waypost.errors import StorageError, StoreFull
from waypost.storage.postgres.driver import connect

_SMALL = "32m"
_END_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'waypost %'"
_BALLAST = "CREATE TABLE ballast AS SELECT repeat('x', 1000) AS text FROM generate_series(1, 500)"


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A folder on a file system of its own, of a few megabytes."""
    folder = Path(tempfile.mkdtemp(prefix="waypost-disk-", dir="/tmp"))
    mounted = subprocess.run(
        ("mount", "-t", "tmpfs", "-o", f"size={_SMALL}", "tmpfs", str(folder)), check=False, capture_output=True
    )
    try:
        if mounted.returncode:
            pytest.skip("a small file system can't be mounted here: that takes root")
        yield folder
    finally:
        if not mounted.returncode:
            subprocess.run(("umount", "--lazy", str(folder)), check=True)
        shutil.rmtree(folder, ignore_errors=True)


def _end_all(server: PostgresServer) -> bool:
    """End the store's connections; tells whether there were any, or whether even the reserved one is taken."""
    try:
        return bool(server.execute(_END_ALL))
    except psycopg.OperationalError:
        return True


async def test_others_that_take_every_connection_are_said_and_outlived(own_postgres: PostgresServer) -> None:
    own_postgres.configuration |= {"max_connections": "20", "superuser_reserved_connections": "1"}
    own_postgres.restart()
    own_postgres.execute("CREATE ROLE app LOGIN")
    own_postgres.execute("ALTER DATABASE postgres OWNER TO app")
    async with opened(own_postgres.url(user="app")) as store:
        rows = await followed(store)
        assert await rows.append(b"before") == 1
        with contextlib.ExitStack() as others:
            # The store may be quicker at taking again what came free.
            while _end_all(own_postgres):
                with contextlib.suppress(psycopg.OperationalError):
                    while True:
                        others.enter_context(psycopg.connect(own_postgres.url(user="app")))
            with pytest.raises(StorageError, match=r"53300|can't be reached"):
                await rows.append(b"refused")
        await insist(lambda: rows.append(b"after"))
        await until(lambda: not store.troubles())
        assert [record for _, record in rows.rows] == [b"before", b"after"]


async def test_a_full_disk_is_said_and_outlived(own_postgres: PostgresServer, small_disk: Path) -> None:
    own_postgres.own(small_disk)
    own_postgres.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    own_postgres.execute("CREATE DATABASE full_one TEMPLATE template0 TABLESPACE small")
    async with opened(own_postgres.url("full_one")) as store:
        rows = await followed(store)
        await rows.append(b"before")
        own_postgres.execute(_BALLAST, database="full_one")
        with contextlib.suppress(psycopg.Error):
            while True:
                own_postgres.execute("INSERT INTO ballast SELECT * FROM ballast", database="full_one")
        stored = [b"before"]
        is_full = False
        while not is_full:
            record = b"%06d" % len(stored) * 1000
            try:
                await rows.append(record)
            except StoreFull:
                is_full = True
            else:
                stored.append(record)
        own_postgres.execute("DROP TABLE ballast", database="full_one")
        await insist(lambda: rows.append(b"after"))
        await until(lambda: not store.troubles())
        assert [record for _, record in rows.rows] == [*stored, b"after"]


async def test_timeouts_that_a_role_has_set_end_no_write(postgres: PostgresServer, postgres_url: str) -> None:
    database = postgres_url.rpartition("/")[2]
    for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        postgres.execute(f"ALTER DATABASE {database} SET {name} = '1ms'")
    async with opened(postgres_url) as store:
        rows = await followed(store)
        for at in range(50):
            assert await rows.append(b"x" * 100_000) == at + 1


async def test_no_plan_is_compiled(postgres: PostgresServer, postgres_url: str) -> None:
    """The upkeep's plans look dear, as they use what is turned off: compiling them would take most of its time."""
    postgres.execute(f"ALTER DATABASE {postgres_url.rpartition('/')[2]} SET jit = on")
    connection = await connect(postgres_url, "one")
    try:
        dear = "EXPLAIN (ANALYZE) SELECT count(*) FROM pg_class a, pg_class b WHERE a.relpages + b.relpages > -9"
        await connection.rows("SELECT set_config('jit_above_cost', '0', false)")
        assert not any("JIT" in row[0] for row in await connection.rows(dear))
    finally:
        await connection.close()
