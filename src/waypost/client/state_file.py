"""A client's file: an SQLite database that one client at a time has open, and the thread that uses it."""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from waypost.daemon_threads import DaemonThreads
from waypost.errors import ConfigurationError, StorageError, StoreDamaged, StoreFull, StoreLost, WaypostError
from waypost.file_place import check_place, shown
from waypost.logs import get_logger
from waypost.owning import OwnerFile
from waypost.watched_file import WatchedFile

__all__ = ["StateFile"]

logger = get_logger("waypost.client")

_T = TypeVar("_T")

_APPLICATION_ID = 0x57415943  # "WAYC"
_VERSION = 1
_OPTION = "outbox or state"
# The client's id is a secret, because it gives access to the server's answers to this client.
_SECRET_BYTES = 15

_SCHEMA = """
CREATE TABLE identity (client TEXT NOT NULL) STRICT;

-- The outbox. A number is never used twice.
CREATE TABLE event (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    id        TEXT NOT NULL,
    at        REAL NOT NULL,
    record    BLOB NOT NULL
) STRICT;
CREATE INDEX event_namespace ON event (namespace, number);
CREATE TABLE total (events INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
INSERT INTO total VALUES (0, 0);
CREATE TRIGGER event_put AFTER INSERT ON event BEGIN
    UPDATE total SET events = events + 1, bytes = bytes + length(NEW.record);
END;
CREATE TRIGGER event_removed AFTER DELETE ON event BEGIN
    UPDATE total SET events = events - 1, bytes = bytes - length(OLD.record);
END;

-- The handled messages of queues with their acknowledgements, until the queue can't deliver them again.
CREATE TABLE handled (
    namespace TEXT NOT NULL,
    queue     TEXT NOT NULL,
    consumer  TEXT NOT NULL,
    epoch     TEXT NOT NULL,
    position  INTEGER NOT NULL,
    record    BLOB NOT NULL,
    PRIMARY KEY (namespace, queue, consumer, epoch, position)
) STRICT, WITHOUT ROWID;
"""

_NO_SPACE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NO_ACCESS = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}


@dataclass(slots=True)
class _Job:
    work: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: WaypostError | None = None


@dataclass(frozen=True, slots=True)
class _Opened:
    owner: OwnerFile
    connection: sqlite3.Connection
    watched: tuple[WatchedFile, ...]


class StateFile:
    """A client's file. The first use opens or creates it, and so does the first use after `close`.

    Args:
        path: The file's path; its directory must exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Resolves links: a file with two names must still have one owner.
        self._path = Path(os.path.realpath(path))
        self._thread: DaemonThreads | None = None
        self._opened: _Opened | None = None
        self._lost: StoreLost | None = None
        self._jobs: list[_Job] = []
        self._worker: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The file's path, as errors name it."""
        return str(self._path)

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Read or write the file. Calls at the same time share a transaction, in the order of the calls.

        If the call is cancelled, its work may still be done.

        Args:
            work: The function that reads or writes, called in the file's thread. It may refuse by raising a
                `WaypostError` before it has written.

        Returns:
            The function's result, once the transaction is on disk.

        Raises:
            ConfigurationError: The file can't be opened.
            StoreBusy: Another client or another process has the file open.
            StoreDamaged: The file is not a client's file, or it is damaged. It was not changed.
            StoreFull: The disk is full.
            StoreLost: The file was removed or cut short since it was opened.
            StorageError: The file can't be read or written.
        """
        job = _Job(work, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        result: _T = await job.future
        return result

    async def close(self) -> None:
        """Finish the pending calls and close the file. A second call does nothing."""
        while self._worker is not None:
            await asyncio.wait((self._worker,))
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._close)
            thread.shutdown()

    async def _work(self) -> None:
        try:
            while self._jobs:
                batch, self._jobs = self._jobs, []
                if self._thread is None:
                    self._thread = DaemonThreads(f"waypost {self.name}", most=1)
                await asyncio.get_running_loop().run_in_executor(self._thread, self._commit, batch)
                for job in batch:
                    if job.future.done():
                        continue
                    if job.error is None:
                        job.future.set_result(job.result)
                    else:
                        job.future.set_exception(job.error)
        finally:
            self._worker = None

    # -- in the thread --------------------------------------------------------------------------------------

    def _commit(self, batch: list[_Job]) -> None:
        try:
            if self._opened is None:
                self._opened = self._open()
            self._check_in_place(self._opened.watched)
            self._transact(self._opened.connection, batch)
            for file in self._opened.watched:
                file.note()
        except (WaypostError, sqlite3.Error) as error:
            failure = self._translate(error) if isinstance(error, sqlite3.Error) else error
            for job in batch:
                job.error = failure

    def _check_in_place(self, files: tuple[WatchedFile, ...]) -> None:
        # SQLite would go on writing to a file that nobody finds again.
        if self._lost is None:
            try:
                for file in files:
                    if file.look():
                        raise file.cut()
            except StoreLost as lost:
                self._lost = lost
        if self._lost is not None:
            raise copy(self._lost)

    def _transact(self, connection: sqlite3.Connection, batch: list[_Job]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for job in batch:
                try:
                    job.result = job.work(connection)
                except WaypostError as refusal:
                    job.error = refusal
            connection.execute("COMMIT")
        except BaseException:
            # After some errors SQLite has rolled back by itself.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _open(self) -> _Opened:
        check_place(_OPTION, self._path)
        owner = self._take_ownership()
        try:
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(connection)
                watched = self._watched()
            except BaseException:
                connection.close()
                raise
        except BaseException:
            owner.close()
            raise
        return _Opened(owner, connection, watched)

    def _watched(self) -> tuple[WatchedFile, ...]:
        log = Path(f"{self._path}-wal")
        return WatchedFile(self.name, self._path), WatchedFile(self.name, log, str(log))

    def _take_ownership(self) -> OwnerFile:
        try:
            # The client's id is a secret, and its owner's file no less private.
            return OwnerFile(self._path, 0o600)
        except OSError as error:
            expected = f"a file in a directory that can be written to; {self._path}-owner can't: {shown(error)}"
            raise ConfigurationError(_OPTION, self.name, expected) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        if not tables:
            # The client's id is a secret, so no other user may read the file.
            self._path.chmod(0o600)
            connection.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {_VERSION};"
                f"{_SCHEMA} INSERT INTO identity VALUES ('{secrets.token_urlsafe(_SECRET_BYTES)}'); COMMIT;"
            )
        ((application,),) = connection.execute("PRAGMA application_id").fetchall()
        ((version,),) = connection.execute("PRAGMA user_version").fetchall()
        if (application, version) != (_APPLICATION_ID, _VERSION):
            raise StoreDamaged(self.name, "it is not the file of a client of this Waypost; use another file")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # On macOS a plain fsync leaves the data in the disk's own memory. Elsewhere this changes nothing.
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute("PRAGMA checkpoint_fullfsync = ON")
        # The log is made by the first transaction.
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("COMMIT")

    def _close(self) -> None:
        opened, self._opened, self._lost = self._opened, None, None
        if opened is not None:
            opened.connection.close()
            opened.owner.close()

    def _translate(self, error: sqlite3.Error) -> WaypostError:
        # Errors of Python's sqlite3 module itself have no code.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code in _NO_SPACE:
            return StoreFull(self.name)
        if code & 0xFF in _DAMAGED:
            return StoreDamaged(self.name, f"{error}; it was left as it is")
        if code & 0xFF in _NO_ACCESS:
            return ConfigurationError(_OPTION, self.name, f"a file that can be written ({error})")
        return StorageError(self.name, str(error))
