"""The disk space that emits leave free, so that what waits can always be delivered and acknowledged.

Acknowledgements, joins, stops and starts need little space each, and give space back in the end. Emits only take. So
they are refused while a reserve is left, and all else goes on.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path

from waypost.errors import StoreFull
from waypost.logs import fields, get_logger
from waypost.storage.sqlite.jobs import Write, is_emit, size_of

__all__ = ["DiskRoom", "is_ample", "shortage"]

_logger = get_logger(__name__)

# So far from the reserve nothing else counts, whatever is written at once and however long the log is.
_PLENTY_BYTES = 4 << 30
# In this time nothing can use it up.
_PLENTY_S = 0.1
# Emits are refused until there is room for so much.
_ENOUGH_BYTES = 1 << 20
# What is written stands in the log first, then in the file too.
_TIMES_WRITTEN = 2

Run = Callable[[str], int]
"""Runs a statement that returns one number."""


class DiskRoom:
    """Decides whether emits may be written. Used in the writer's thread, but for `check`.

    Args:
        path: The store's file.
        reserve_bytes: The bytes that emits leave free on its disk; 0 to use all of it.
    """

    __slots__ = ("_directory", "_log", "_path", "_plenty_until", "_reserve_bytes", "_short", "_short_since")

    def __init__(self, path: Path, reserve_bytes: int) -> None:
        self._path = path
        # As text, since a path takes longer to use than the system to answer.
        self._directory = str(path.parent)
        self._log = f"{path}-wal"
        self._reserve_bytes = reserve_bytes
        self._short: StoreFull | None = None
        self._short_since = 0.0
        self._plenty_until = 0.0

    def check(self) -> None:
        """Check that emits were not refused lately; for emits that are reported before they are written.

        Raises:
            StoreFull: They were, and there is no space yet.
        """
        if self._short is not None:
            raise copy(self._short)

    @property
    def shortage(self) -> StoreFull | None:
        """Why emits are refused at the moment; ``None`` if they are not."""
        return self._short

    @property
    def short_s(self) -> float:
        """For how many seconds they have been."""
        return time.monotonic() - self._short_since if self._short is not None else 0.0

    def refuse(
        self, connection: sqlite3.Connection, batch: list[Write], earlier: Sequence[Write] = ()
    ) -> tuple[list[Write], StoreFull | None]:
        """Find out whether the emits of a batch must be refused.

        Args:
            connection: The writer's connection.
            batch: Writes of all kinds.
            earlier: Writes that wait already, and are written before them.

        Returns:
            The emits to refuse, and why.
        """
        if not self._reserve_bytes or time.monotonic() < self._plenty_until:
            return [], None
        size = sum(map(size_of, batch)) + sum(map(size_of, earlier))
        if self._is_ample(size):
            return [], None
        short = self._shortage(connection, size)
        self._note(connection, short)
        return ([], None) if short is None else ([job for job in batch if is_emit(job)], short)

    def look(self, connection: sqlite3.Connection) -> None:
        """Look whether there is space again; called now and then while nothing is written."""
        if self._short is not None:
            self._note(connection, None)

    def _is_ample(self, size: int) -> bool:
        try:
            left = _free_bytes(self._directory) - self._reserve_bytes
            if self._short is not None:
                return False
            if left > _PLENTY_BYTES:
                self._plenty_until = time.monotonic() + _PLENTY_S
                return True
            # The file grows by no more than there is in its log.
            return left > os.stat(self._log).st_size + _TIMES_WRITTEN * size
        except OSError:
            # The transaction itself will say what is wrong.
            return True

    def _shortage(self, connection: sqlite3.Connection, size: int) -> StoreFull | None:
        def run(sql: str) -> int:
            ((number,),) = connection.execute(sql).fetchall()
            return int(number)

        try:
            return shortage(self._path, run, self._reserve_bytes, size)
        except (sqlite3.Error, OSError):
            return None

    def _note(self, connection: sqlite3.Connection, short: StoreFull | None) -> None:
        if short is None and self._short is not None:
            short = self._shortage(connection, _ENOUGH_BYTES)
            if short is None:
                _logger.warning(
                    "%s: emits are stored again: there is space on its disk",
                    self._path,
                    extra=fields(store=self._path),
                )
        elif short is not None and self._short is None:
            self._short_since = time.monotonic()
            _logger.error(
                "%s: emits are refused, all else goes on: %s",
                self._path,
                short.problem,
                extra=fields(store=self._path),
            )
        self._short = short


def is_ample(path: Path, reserve_bytes: int) -> bool:
    """Return whether there is so much space on a file's disk that no emit needs a closer look."""
    return not reserve_bytes or _free_bytes(str(path.parent)) > reserve_bytes + _PLENTY_BYTES


def shortage(path: Path, run: Run, reserve_bytes: int, size: int) -> StoreFull | None:
    """Return why emits of so many bytes must be refused now; ``None`` if they need not.

    Args:
        path: The store's file.
        run: Runs a statement on a connection to the file.
        reserve_bytes: The bytes that emits leave free on its disk.
        size: The size of the emits, in bytes.
    """
    page_bytes = run("PRAGMA main.page_size")
    # Free pages inside the file are used first. What is in the log only will make the file grow.
    inside = run("PRAGMA main.freelist_count") * page_bytes
    grows_by = max(0, run("PRAGMA main.page_count") * page_bytes - os.stat(path).st_size)
    room = _free_bytes(str(path.parent)) + inside - grows_by
    if room - _TIMES_WRITTEN * size >= reserve_bytes:
        return None
    return StoreFull(str(path), room_bytes=max(0, room), reserve_bytes=reserve_bytes)


if hasattr(os, "statvfs"):

    def _free_bytes(directory: str) -> int:
        stat = os.statvfs(directory)
        return stat.f_bavail * stat.f_frsize

else:

    def _free_bytes(directory: str) -> int:
        return shutil.disk_usage(directory).free
