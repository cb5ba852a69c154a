"""A copy of a store's file in its older format, kept before the format is changed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from waypost.logs import fields, get_logger
from waypost.storage.sqlite.flushing import flush

__all__ = ["keep_copy"]

_logger = get_logger(__name__)


def keep_copy(connection: sqlite3.Connection, path: Path) -> Path:
    """Copy a file to ``<path>-v<format>`` beside it; an earlier copy of that name is replaced.

    Args:
        connection: A connection to the file, outside a transaction.
        path: The file.

    Returns:
        The copy. It is complete and on disk; a kill meanwhile leaves ``<copy>.part``.

    Raises:
        sqlite3.Error: There is no space for it, or it can't be written.
        OSError: It can't be written.
    """
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    copy = Path(f"{path}-v{version}")
    part = Path(f"{copy}.part")
    part.unlink(missing_ok=True)
    with closing(sqlite3.connect(part)) as target:
        connection.backup(target)
        # The format of the copy's log is the file's own, and would leave files beside it.
        target.execute("PRAGMA journal_mode = DELETE")
    flush(part)
    part.replace(copy)
    flush(path.parent)
    _logger.info("%s: its format, version %d, is kept in %s", path, version, copy, extra=fields(store=path))
    return copy
