"""Copies of a store's file: makes them while a server runs, puts them back, and looks for damage.

A copy is read in one transaction, so it is consistent, and comes to an end however much is written meanwhile. It says
that it is a copy: when a server opens it, all clients start anew.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

from waypost.errors import ConfigurationError, StorageError, StoreDamaged
from waypost.file_place import check_place, shown
from waypost.storage.sqlite.checking import TABLES, damaged_records
from waypost.storage.sqlite.file import check_header, check_version, connect, take_ownership, translate
from waypost.storage.sqlite.flushing import flush
from waypost.storage.sqlite.own_log import refuse_foreign_log
from waypost.storage.sqlite.schema import is_current
from waypost.storage.sqlite.sums import leniently

__all__ = ["Progress", "back_up", "check", "restore"]

Progress = Callable[[int, int], None]
"""Called with the amount of work that is done, and all of it."""

_STEP_PAGES = 512
_MOST_RECORDS = 100
_PARTIAL = "-partial"
# No opening has this name.
_COPY = "copy"


def back_up(path: Path, target: Path, progress: Progress, *, wall_time: Callable[[], float] = time.time) -> int:
    """Copy a store's file. A server may have it open, and write to it.

    The log of the store grows meanwhile, as it must keep what the copy still reads.

    Args:
        path: The store's file.
        target: The copy, which does not exist yet.
        progress: Called with the pages that are copied, and all pages.
        wall_time: The clock, in seconds since 1970.

    Returns:
        The copy's size, in bytes.

    Raises:
        ConfigurationError: The store does not exist or can't be opened, or the copy exists or can't be made.
        StorageError: The store can't be read, or the copy not written.
    """
    check_place("copy", target)
    if target.exists():
        raise ConfigurationError("copy", str(target), "a file that does not exist yet")
    partial = Path(f"{target}{_PARTIAL}")
    try:
        _copy(path, partial, progress, wall_time())
        os.rename(partial, target)
        flush(target.parent)
        return target.stat().st_size
    except OSError as error:
        raise StorageError(str(target), f"can't be written ({shown(error)})") from error
    finally:
        partial.unlink(missing_ok=True)


def restore(path: Path, copy: Path, progress: Progress) -> int:
    """Put a copy in the place of a store's file. No server may have the store open.

    A killed restore leaves either file in its place. The log of the file before is removed with it.

    Args:
        path: The store's file; it need not exist.
        copy: The copy: of `back_up`, or any sound store's file.
        progress: Called with the pages that are copied, and all pages.

    Returns:
        The file's size, in bytes.

    Raises:
        ConfigurationError: The copy does not exist or can't be opened, or no file can stand in the store's place.
        StoreBusy: A server has the store open.
        StoreDamaged: The copy is no store, or damaged. The store was left as it is.
        StorageError: The copy can't be read, or the store not written.
    """
    if path.exists() and copy.exists() and path.samefile(copy):
        raise ConfigurationError("copy", str(copy), "another file than the store")
    # Before the lock, which leaves a file beside a store that may not be there either.
    if not copy.exists():
        raise ConfigurationError("copy", str(copy), "the file of a store; there is none")
    owner = take_ownership(path)
    partial = Path(f"{path}{_PARTIAL}")
    try:
        _copy(copy, partial, progress, None)
        with _errors_of(copy), closing(sqlite3.connect(partial)) as connection:
            problems = _check_all(connection)
            if problems:
                raise StoreDamaged(str(copy), f"{problems[0]}; the store was left as it is")
        # In this order: with the old log beside it, the copy is still known as one, and the log as foreign.
        os.rename(partial, path)
        for suffix in ("-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        flush(path.parent)
        return path.stat().st_size
    except OSError as error:
        raise StorageError(str(path), f"can't be written ({shown(error)})") from error
    finally:
        partial.unlink(missing_ok=True)
        owner.close()


def check(path: Path, progress: Progress) -> list[str]:
    """Look for damage in all of a store's file. A server may have it open.

    Args:
        path: The store's file.
        progress: Called with the tables that were checked, and all tables.

    Returns:
        The problems; none in a sound file.

    Raises:
        ConfigurationError: The store does not exist, or can't be opened.
        StorageError: The file is no store, or can't be read.
    """
    with _errors_of(path), closing(_open(path)) as connection:
        connection.execute("BEGIN")
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        problems: list[str] = []
        for done, table in enumerate(tables):
            progress(done, len(tables))
            problems += _problems(connection, f"integrity_check('{table}')", table)
            problems += _damaged(connection, table)
        progress(len(tables), len(tables))
        return problems


def _open(path: Path) -> sqlite3.Connection:
    check_place("path", path)
    if not path.exists():
        raise ConfigurationError("path", str(path), "the file of a store; there is none")
    refuse_foreign_log(path)
    try:
        check_header(path)
    except OSError as error:
        raise ConfigurationError("path", str(path), f"a file that can be read ({shown(error)})") from error
    connection = connect(path)
    try:
        check_version(str(path), connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _copy(path: Path, target: Path, progress: Progress, copied_at: float | None) -> None:
    target.unlink(missing_ok=True)
    with _errors_of(path), closing(_open(path)) as source, closing(sqlite3.connect(target)) as connection:
        # The transaction stays open over all steps: without it each step would begin anew after a commit.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        source.backup(
            connection,
            pages=_STEP_PAGES,
            progress=lambda _, left, total: progress(total - left, total),
            sleep=0,
        )
        connection.execute("PRAGMA journal_mode = DELETE")
        _stamp(connection, copied_at)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _stamp(connection: sqlite3.Connection, copied_at: float | None) -> None:
    """Note in a copy that it is one. A format before version 6 has no room for that."""
    columns = [name for (name,) in connection.execute("SELECT name FROM pragma_table_info('opening')").fetchall()]
    if "copied_at" in columns:
        with connection:
            connection.execute("UPDATE opening SET copied_at = coalesce(?, copied_at, unixepoch())", (copied_at,))
            connection.execute("UPDATE owner SET token = ?", (_COPY,))


def _check_all(connection: sqlite3.Connection) -> list[str]:
    return _problems(connection, "quick_check", "it")


def _problems(connection: sqlite3.Connection, check: str, what: str) -> list[str]:
    try:
        found = [verdict for (verdict,) in connection.execute(f"PRAGMA {check}").fetchall()]
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        return [f"{what}: {error}"]
    # The lines before the last one only say of which database it speaks.
    return [f"{what}: {verdict.splitlines()[-1]}" for verdict in found if verdict != "ok"]


def _damaged(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the damaged records of a table, up to a number; a format before version 6 has no sums."""
    if table not in TABLES or not is_current(connection):
        return []
    try:
        with leniently(connection):
            return [*islice(damaged_records(connection, table), _MOST_RECORDS)]
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        return [f"{table}: {error}"]


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise translate(str(path), error) from error
