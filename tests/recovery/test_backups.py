"""A copy of the store, made while the server ran, is put back after the server was killed.

The client was away all the time: its offset is no evidence of what the copy lacks.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.interop.peer import Client, Peer
from tests.recovery.clients import Clients, came_back, come_back, numbers, publish, reason
from tests.recovery.conftest import SHORT_HEARTBEAT, Launch
from tests.support.server_process import ServerProcess
from waypost.cli import main

pytestmark = [pytest.mark.node, pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]

LOST = 600


def backup(store: Path, copy: Path) -> None:
    """Copy a store as SQLite's online backup does."""
    with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def vacuum(store: Path, copy: Path) -> None:
    with closing(sqlite3.connect(store)) as source:
        source.execute("VACUUM INTO ?", (str(copy),))


def own_backup(store: Path, copy: Path) -> None:
    assert main(["store", "backup", str(store), str(copy)]) == 0


def own_restore(store: Path, copy: Path) -> None:
    assert main(["store", "restore", str(store), str(copy), "--yes"]) == 0


def restore_alone(store: Path, copy: Path) -> None:
    """Put a copy back as SQLite's documentation says."""
    shutil.copyfile(copy, store)
    for suffix in ("-wal", "-shm"):
        Path(f"{store}{suffix}").unlink(missing_ok=True)


def restore_beside_log(store: Path, copy: Path) -> None:
    """Put a copy back, and forget the log."""
    shutil.copyfile(copy, store)


def move_beside_log(store: Path, copy: Path) -> None:
    os.replace(shutil.copy(copy, f"{copy}-2"), store)


async def away_while_copied(
    peer: Peer, server: ServerProcess, store: Path, make: Callable[[Path, Path], None]
) -> tuple[Clients, Client, Client, Path]:
    """Let a client go away, copy the store, and publish more."""
    clients = Clients(peer, server)
    client, speaker = await clients.listen(), await clients.connect()
    await publish(speaker, 0, 50)
    await client.hears("news", 49)
    await client.away()
    copy = store.with_name("copy.db")
    make(store, copy)
    await publish(speaker, 50, 50 + LOST)
    await server.kill()
    return clients, client, speaker, copy


async def told_and_going_on(client: Client, speaker: Client) -> None:
    """Fail unless both are told, and both get what comes from now on."""
    await came_back(speaker, 2, recovered=False)
    await come_back(client, recovered=False)
    assert await reason(client) == "generation"
    await publish(speaker, 1000, 1002)
    await client.hears("news", 1001)
    assert numbers(client) == [*range(50), 1000, 1001]


def content_is_sound(store: Path) -> None:
    with closing(sqlite3.connect(store)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("make", [backup, vacuum, own_backup])
@pytest.mark.parametrize("put_back", [restore_alone, restore_beside_log, move_beside_log, own_restore])
async def test_a_copy_that_was_made_while_the_server_ran_is_recognised(
    peer: Peer,
    launch: Launch,
    tmp_path: Path,
    make: Callable[[Path, Path], None],
    put_back: Callable[[Path, Path], None],
) -> None:
    server = await launch(**SHORT_HEARTBEAT)
    store = tmp_path / "0" / "store.db"
    _, client, speaker, copy = await away_while_copied(peer, server, store, make)
    log = Path(f"{store}-wal").read_bytes()
    assert log
    put_back(store, copy)
    await server.start()
    aside = Path(f"{store}-wal-foreign-1")
    assert aside.exists() == (put_back in (restore_beside_log, move_beside_log))
    assert not aside.exists() or aside.read_bytes() == log, "kept for those who want to look into it"
    await told_and_going_on(client, speaker)
    await server.stop()
    content_is_sound(store)
