"""An opening after a crash tells the file that was there from an older one."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.server_process import REPOSITORY
from waypost.storage.sqlite.store import SqliteStore

ANEW = "all clients start anew"


def write_and_be_killed(path: Path, lines: int, during: Callable[[], None] = lambda: None) -> None:
    """Let a process open a store and write to it as fast as it can, until it is killed.

    Args:
        path: The store's file.
        lines: After so many promises it is killed.
        during: Called while it writes, after half of them.
    """
    command = [sys.executable, "-m", "tests.storage.crash_child", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as child:
        assert child.stdout is not None
        for number in range(lines):
            assert child.stdout.readline()
            if number == lines // 2:
                during()
        child.kill()


async def opened(path: Path, caplog: pytest.LogCaptureFixture) -> str:
    """Open a store and close it; returns what it logged at the opening, and that it is whole."""
    caplog.clear()
    caplog.set_level(logging.INFO)
    store = SqliteStore(path)
    await store.open()
    log = caplog.text
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


async def test_a_crash_leaves_no_doubt(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for lines in (1, 20, 300, 1000):
        write_and_be_killed(path, lines)
        assert ANEW not in await opened(path, caplog), lines


async def test_neither_does_another_program_that_closes_the_file_after_it(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for lines in (20, 300):
        write_and_be_killed(path, lines)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("SELECT count(*) FROM message").fetchall()
        assert not Path(f"{path}-wal").exists(), "the last one to close the file removes the log"
        assert ANEW not in await opened(path, caplog)


async def test_a_log_that_was_removed_after_a_crash(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_and_be_killed(path, 300)
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()
    assert ANEW in await opened(path, caplog)


async def test_a_file_and_its_log_of_some_moment_before(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As from a snapshot of the file system, of which all but the mark was put back."""
    saved = tmp_path / "saved"

    def save() -> None:
        saved.mkdir()
        for suffix in ("-wal", ""):
            shutil.copy(f"{path}{suffix}", saved)

    write_and_be_killed(path, 1000, save)
    Path(f"{path}-shm").unlink()
    for suffix in ("-wal", ""):
        shutil.copy(saved / f"{path.name}{suffix}", f"{path}{suffix}")
    assert ANEW in await opened(path, caplog)


async def test_a_file_without_its_mark(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_and_be_killed(path, 100)
    Path(f"{path}-owner").unlink()
    assert "has no mark beside it" in await opened(path, caplog)
    Path(f"{path}-owner").unlink()
    assert ANEW not in await opened(path, caplog), "it was closed, so nothing is missing"


@pytest.mark.parametrize("pragma", ["fullfsync", "checkpoint_fullfsync"])
async def test_commits_flush_the_disks_own_memory_on_macos(path: Path, pragma: str) -> None:
    store = SqliteStore(path)
    await store.open()
    for run in (store._open().reader.run, lambda ask: store._open().writer.submit(lambda tx: ask(tx.connection))):
        assert await run(lambda connection: connection.execute(f"PRAGMA {pragma}").fetchall()) == [(1,)]
    await store.close()
