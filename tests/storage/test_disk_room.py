"""The reserve of the disk, while another program holds the file's lock."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.waiting import DEADLINE_S
from waypost.errors import StoreFull
from waypost.storage.sqlite import disk_room
from waypost.storage.sqlite.store import SqliteStore

_RESERVE_BYTES = 1 << 20


async def test_emits_that_come_while_others_wait_for_a_lock_leave_the_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, free_bytes = tmp_path / "store.db", 4 * _RESERVE_BYTES
    monkeypatch.setattr(disk_room, "_free_bytes", lambda _directory: free_bytes)
    store = SqliteStore(path, disk_reserve_bytes=_RESERVE_BYTES, patience_s=2 * DEADLINE_S)
    await store.open()
    journal = await store.journal("/")
    reported: list[int] = []
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        first = asyncio.ensure_future(journal.append(b"x" * (_RESERVE_BYTES // 2), reported.append))
        # What waits is counted, though it is not written yet: there is room for this one alone, and not behind it.
        await asyncio.sleep(0.05)
        free_bytes = 3 * _RESERVE_BYTES
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(StoreFull):
                await journal.append(b"x" * (_RESERVE_BYTES // 2 + 100_000), reported.append)
        assert not reported
        other.execute("ROLLBACK")
    async with asyncio.timeout(DEADLINE_S):
        assert await first == 1
    assert reported == [1]
    free_bytes = 4 * _RESERVE_BYTES
    await store.close()
