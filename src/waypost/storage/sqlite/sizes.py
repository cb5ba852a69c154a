"""The size of the store's file, and how far back its journals reach."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from waypost.storage.store_numbers import MOST_JOURNALS, StoreSize

__all__ = ["read_size"]

# An entry is as old as the chunk that it stands in.
_OLDEST = """
    SELECT name, (SELECT at FROM chunk WHERE journal = journal.id ORDER BY first LIMIT 1) FROM journal LIMIT ?
"""


def read_size(path: Path, connection: sqlite3.Connection) -> StoreSize:
    """Return the size of a store's file with its log; runs in the reader's thread.

    Args:
        path: The file.
        connection: The connection to read with.
    """
    size = sum(_bytes(one) for one in (path, path.with_name(path.name + "-wal")))
    oldest = {name: at for name, at in connection.execute(_OLDEST, (MOST_JOURNALS,)) if at is not None}
    return StoreSize(size, shutil.disk_usage(path.parent).free, oldest)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
