"""Watches over a store's file in the writer's thread: is it still ours, and how far has it come?

Each transaction looks whether the file still has the fence of this opening, and whether it is still in its place. So
a server that has lost its file to another one, or whose file was removed, writes and reports nothing more.

The mark in the file moves with the commits, at most some times a second, because each move costs a page; the mark
beside the file follows it. The first commit after a mark that does not move it says so beside the file, and soon a
commit of its own moves it on.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import replace
from pathlib import Path

from waypost.errors import StoreLost
from waypost.storage.sqlite.mark import Beside, Mark
from waypost.storage.sqlite.own_log import read_bare, read_salt
from waypost.watched_file import WatchedFile

__all__ = ["Guard"]

_MARK_EVERY_S = 0.05
_LOOK_EVERY_S = 0.5
# Looking for the file by its name takes long enough to be felt where commits follow each other at once.
_PLACE_EVERY_S = 0.02
_FRAME_HEADER_BYTES = 24
_LOG_HEADER_BYTES = 32
# Read again, as another program may be copying the log into the file.
_TRIES = 3
_BETWEEN_TRIES_S = 0.02


class Guard:
    """Watches over the file of an open store.

    Args:
        path: The file.
        beside: The count and the mark beside it.
        mark: The mark that is beside it now.

    Attributes:
        mark: The mark that is beside the file now.
        lost: Why the file is not this opening's any more; ``None`` while it is.
    """

    __slots__ = (
        "_beside",
        "_file",
        "_index",
        "_log",
        "_looked_at",
        "_marked_at",
        "_moved",
        "_others_wrote",
        "_page_bytes",
        "_path",
        "_placed_at",
        "_position",
        "_schema",
        "lost",
        "mark",
    )

    def __init__(self, path: Path, beside: Beside, mark: Mark) -> None:
        self.mark = mark
        self._path = path
        self._beside = beside
        self.lost: StoreLost | None = None
        self._moved = False
        self._others_wrote = True
        self._position = mark.position
        self._schema = mark.schema
        self._marked_at = 0.0
        self._looked_at = self._placed_at = time.monotonic()
        self._page_bytes = 0
        store = str(path)
        self._file = WatchedFile(store, path)
        # SQLite has made both, and keeps them while it has the file open.
        self._log = WatchedFile(store, Path(f"{path}-wal"), f"{path}-wal", is_held=True)
        self._index = WatchedFile(store, Path(f"{path}-shm"), f"{path}-shm")

    @property
    def wait_s(self) -> float:
        """Seconds after which `look` should be called, if nothing is written meanwhile."""
        return _LOOK_EVERY_S if self.mark.is_sealed else _MARK_EVERY_S

    def close(self) -> None:
        """Let go of the files that it holds open."""
        self._log.close()

    def note_others(self) -> None:
        """Note that another connection has written to the file, so that the next transaction looks at the fence."""
        self._others_wrote = True

    # -- around a transaction -------------------------------------------------------------------------------

    def before(self, connection: sqlite3.Connection) -> None:
        """Look at the file; called before a transaction.

        Raises:
            StoreLost: The file is not this opening's any more. Each later call raises it too.
        """
        if self.lost is not None:
            raise self.lost
        now = time.monotonic()
        try:
            # At each transaction, as the next one would make the log as long as before, with a hole.
            if self._log.shrank():
                self._check_log_whole(connection)
            if now - self._placed_at >= _PLACE_EVERY_S:
                self._placed_at = now
                self._check_place(now)
        except StoreLost as lost:
            self.lost = lost
            raise

    def within(self, connection: sqlite3.Connection) -> None:
        """Look at the fence, and move the mark if it is time; called at the beginning of a transaction.

        Raises:
            StoreLost: Another opening has taken the file over. Each later call of `before` raises it too.
        """
        if self._others_wrote:
            ((fence,),) = connection.execute("SELECT token FROM owner").fetchall()
            if fence != self.mark.fence:
                self.lost = _taken_over(self._path)
                raise self.lost
            self._others_wrote = False
        self._moved = time.monotonic() - self._marked_at >= _MARK_EVERY_S
        if self._moved:
            moving = connection.execute("UPDATE opening SET mark = mark + 1 RETURNING mark")
            ((self._position,),) = moving.fetchall()
            ((self._schema,),) = connection.execute("PRAGMA schema_version").fetchall()
        elif self.mark.is_sealed:
            self.mark = replace(self.mark, is_sealed=False)
            self._beside.write(self.mark)

    def after(self) -> None:
        """Note the moved mark beside the file; called after the commit."""
        if not self._moved:
            return
        self._moved = False
        self._marked_at = time.monotonic()
        mark, salt = self.mark, read_salt(self._path)
        if salt != mark.salt and mark.salt is not None:
            # The log was begun anew, so all that the mark before spoke of is in the file itself.
            mark = replace(mark, is_rooted=True, base=mark.position, first_schema=mark.schema)
        self.mark = replace(mark, position=self._position, schema=self._schema, salt=salt, is_sealed=True)
        self._beside.write(self.mark)

    # -- the file in its place ------------------------------------------------------------------------------

    def _check_place(self, now: float) -> None:
        if self._file.look():
            self._check_whole()
        # Its size was compared a moment ago.
        self._log.look()
        is_due = now - self._looked_at >= _LOOK_EVERY_S
        # SQLite keeps a log for each name, so that the file alone tells of an owner under another name.
        if is_due or self._file.names > 1:
            self._check_fence_in_file()
        if is_due:
            self._looked_at = now
            self._index.look()

    def _check_whole(self) -> None:
        for _ in range(_TRIES):
            # Smaller than it was: by VACUUM, which leaves it readable, or cut.
            if read_bare(self._path, is_whole=True) is not None:
                return
            time.sleep(_BETWEEN_TRIES_S)
        raise self._file.cut()

    def _check_fence_in_file(self) -> None:
        if not self.mark.is_rooted:
            return
        for _ in range(_TRIES):
            bare = read_bare(self._path)
            if bare is None or bare.fence == self.mark.fence:
                return
            time.sleep(_BETWEEN_TRIES_S)
        raise _taken_over(self._path)

    def _check_log_whole(self, connection: sqlite3.Connection) -> None:
        if not self._page_bytes:
            ((self._page_bytes,),) = connection.execute("PRAGMA page_size").fetchall()
        try:
            # A checkpoint tells how many pages the log should have.
            ((_, frames, _),) = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR:
                raise self._log.cut() from error
            return
        if (
            self._log.size_bytes < _LOG_HEADER_BYTES + frames * (self._page_bytes + _FRAME_HEADER_BYTES)
            and frames > 0
        ):
            raise self._log.cut()


def _taken_over(path: Path) -> StoreLost:
    return StoreLost(str(path), "another server has opened it since", is_taken_over=True)
