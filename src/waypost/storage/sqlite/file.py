"""The store's file: its owner, its soundness, and the meaning of SQLite's errors."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from waypost.errors import ConfigurationError, StorageError, StoreDamaged, StoreFull
from waypost.file_place import check_place, shown
from waypost.owning import OwnerFile
from waypost.storage.base import PATIENCE_S
from waypost.storage.sqlite.older import keep_copy
from waypost.storage.sqlite.own_log import refuse_foreign_log
from waypost.storage.sqlite.schema import OLDEST_VERSION, SCHEMA_VERSION, is_current, migrate, read_schema

__all__ = [
    "check_header",
    "check_version",
    "connect",
    "is_store",
    "lacks_space",
    "open_beside",
    "open_database",
    "take_ownership",
    "translate",
]

_MAGIC = b"SQLite format 3\x00"
_APPLICATION_ID = 0x57415950  # "WAYP"
_PAGE_BYTES = 8192
# The log is copied into the file when it has grown to this many pages; larger means fewer, longer copies.
_CHECKPOINT_PAGES = 4096
# What of the log's file stays when it was copied. A reader that stays open makes it large.
_LOG_BYTES = 64 << 20
# A full check reads the whole file. Up to this size that takes a moment only.
_FULL_CHECK_BYTES = 64 << 20
_SMALL_TABLES = ("journal", "queue", "consumer", "outstanding", "holding", "outbox", "changed")
_LARGE_TABLES = (
    "body",
    "chunk",
    "session",
    "membership",
    "tombstone",
    "message",
    "scheduled",
    "deduplication",
    "dead_letter",
    "answer",
)

# Quotas and file size limits come as these; only ENOSPC comes as SQLITE_FULL.
_NO_SPACE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_NO_ACCESS = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_UNTOUCHED = "it was left as it is: put a good copy in its place, or move it away to begin with an empty store"


def translate(store: str, error: sqlite3.Error) -> StorageError:
    """Return our error for an error of SQLite.

    Args:
        store: The store, as errors name it.
        error: SQLite's error.

    Returns:
        The error to raise instead.
    """
    # Errors of the Python module itself carry no code.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code in _NO_SPACE:
        return StoreFull(store)
    if code & 0xFF == sqlite3.SQLITE_READONLY:
        return StorageError(store, f"{error}: its file or directory can't be written to by this user")
    if code & 0xFF in _DAMAGED:
        return StoreDamaged(store, f"{error}; {_UNTOUCHED}")
    if code == sqlite3.SQLITE_BUSY_SNAPSHOT:
        return StorageError(store, f"{error}: written to since this transaction read it; begin with BEGIN IMMEDIATE")
    if code & 0xFF == sqlite3.SQLITE_BUSY:
        return StorageError(store, f"{error}: another connection's transaction takes too long; commit it sooner")
    return StorageError(store, str(error))


def lacks_space(store: str, error: Exception) -> bool:
    """Return whether an error means that the disk is full."""
    return isinstance(error, sqlite3.Error) and isinstance(translate(store, error), StoreFull)


def is_store(connection: sqlite3.Connection) -> bool:
    """Return whether a connection's file is a store."""
    cursor = connection.cursor()
    cursor.row_factory = None
    return bool(cursor.execute("PRAGMA main.application_id").fetchone() == (_APPLICATION_ID,))


def take_ownership(path: Path) -> OwnerFile:
    """Become the only owner of a store, until the result is closed or the process ends.

    Args:
        path: The store's file, with symbolic links resolved.

    Returns:
        The owner's file beside the store; closing it gives the ownership up.

    Raises:
        ConfigurationError: No file can stand there, or its directory can't be written to.
        StoreBusy: Another process owns the store.
    """
    check_place("path", path)
    try:
        return OwnerFile(path)
    except OSError as error:
        expected = f"a file in a directory that can be written to; {path}-owner can't: {shown(error)}"
        raise ConfigurationError("path", str(path), expected) from error


def open_database(path: Path, patience_s: float = PATIENCE_S, *, copies: bool = False) -> sqlite3.Connection:
    """Open a store's file for writing, or create it. The caller must own it.

    Args:
        path: The file.
        patience_s: Seconds to wait for another program that holds its lock.
        copies: Whether a file in an older format is copied before that is changed.

    Returns:
        The connection, which any one thread may use.

    Raises:
        ConfigurationError: The file can't be opened.
        StoreDamaged: The file is not a Waypost store, is of a newer version, or is damaged.
    """
    store = str(path)
    try:
        check_header(path)
        connection = connect(path, patience_s)
    except (OSError, sqlite3.Error) as error:
        raise _refusal(store, error) from error
    try:
        if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            _create(connection)
        check_version(store, connection)
        if copies and not is_current(connection):
            keep_copy(connection, path)
        migrate(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute("PRAGMA foreign_keys = ON")
        _check_content(store, connection)
    except BaseException as error:
        connection.close()
        if isinstance(error, (OSError, sqlite3.Error)):
            raise _refusal(store, error) from error
        raise
    return connection


def open_beside(path: Path) -> sqlite3.Connection:
    """Open a store's file for writing beside its owner, without conversion and without a search for damage.

    A file that can't be written is opened for reading.

    Returns:
        The connection, which any one thread may use.

    Raises:
        ConfigurationError: The file does not exist, or can't be opened.
        StoreDamaged: The file is not a Waypost store, or is of another version.
    """
    store = str(path)
    check_place("path", path)
    if not path.exists():
        raise ConfigurationError("path", store, "the file of a store; there is none")
    refuse_foreign_log(path)
    try:
        check_header(path)
        connection = connect(path)
    except (OSError, sqlite3.Error) as error:
        raise _refusal(store, error) from error
    try:
        ((version,),) = connection.execute("PRAGMA user_version").fetchall()
        if version != SCHEMA_VERSION:
            reads = f"its format is version {version}, this Waypost's is version {SCHEMA_VERSION}"
            raise StoreDamaged(store, f"{reads}; use the Waypost that serves it, or let this one open it once")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise _refusal(store, error) from error
        raise
    return connection


def connect(path: Path, patience_s: float = PATIENCE_S) -> sqlite3.Connection:
    """Open a further connection to a store's file; transactions are the caller's business."""
    # Without its log, and where no log can be made, a file is read only if it is said that it does not change.
    is_fixed = not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?immutable=1" if is_fixed else path,
        timeout=patience_s,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        uri=is_fixed,
    )
    try:
        connection.execute("PRAGMA cache_size = -16384")
        # On macOS a plain fsync leaves the data in the disk's own memory. Elsewhere this changes nothing.
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute("PRAGMA checkpoint_fullfsync = ON")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _refusal(store: str, error: OSError | sqlite3.Error) -> ConfigurationError | StorageError:
    if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF not in _NO_ACCESS:
        return translate(store, error)
    return ConfigurationError("path", store, f"a file that can be opened and written to ({error})")


def _create(connection: sqlite3.Connection) -> None:
    # In one transaction and before the switch to a log, so that a file is whole and says whose it is.
    schema = read_schema()
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    connection.executescript(
        f"BEGIN IMMEDIATE; PRAGMA application_id = {_APPLICATION_ID};"
        f"PRAGMA user_version = {SCHEMA_VERSION}; {schema}; COMMIT;"
    )


def check_header(path: Path) -> None:
    """Refuse a foreign file without letting SQLite near it, which might alter it.

    Raises:
        StoreDamaged: The file is no database, or another program's.
        OSError: The file can't be read.
    """
    # A rollback journal means that it was killed while it was made; SQLite undoes that.
    if not path.exists() or Path(f"{path}-journal").exists():
        return
    with path.open("rb") as file:
        header = file.read(100)
    if not header:
        return
    if not header.startswith(_MAGIC):
        raise StoreDamaged(str(path), f"it is not a database; {_UNTOUCHED}")
    if int.from_bytes(header[68:72], "big") != _APPLICATION_ID:
        raise StoreDamaged(str(path), "it is the database of another program; use another file")


def check_version(store: str, connection: sqlite3.Connection) -> None:
    """Refuse a file in a format that this Waypost can't read.

    Raises:
        StoreDamaged: The format is older than all that are known, or newer.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not OLDEST_VERSION <= version <= SCHEMA_VERSION:
        reads = f"this Waypost reads versions {OLDEST_VERSION} to {SCHEMA_VERSION}"
        raise StoreDamaged(store, f"its format is version {version}, {reads}; use {_writer_of(connection)}")


def _writer_of(connection: sqlite3.Connection) -> str:
    """Return the name of the Waypost that wrote a file; before version 6 it did not say."""
    try:
        ((version,),) = connection.execute("SELECT version FROM opening").fetchall()
    except (sqlite3.Error, ValueError):
        version = None
    return f"Waypost {version} or later" if version else "the Waypost that wrote it"


def _check_content(store: str, connection: sqlite3.Connection) -> None:
    """Look for damage, in a time that does not grow with the file.

    SQLite itself refuses a file that was cut short. A small one is checked whole here; of a large one the small
    tables, on which all else hangs, and both ends of the large ones. Damage elsewhere is found when it is read.
    """
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    if pages * page_bytes <= _FULL_CHECK_BYTES:
        checks = ["PRAGMA quick_check(1)"]
    else:
        checks = [f"PRAGMA quick_check({table})" for table in _SMALL_TABLES]
        for table in _LARGE_TABLES:
            key = ", ".join(_key(connection, table))
            last = key.replace(",", " DESC,") + " DESC"
            connection.execute(f"SELECT * FROM {table} ORDER BY {key} LIMIT 1").fetchall()
            connection.execute(f"SELECT * FROM {table} ORDER BY {last} LIMIT 1").fetchall()
    for check in checks:
        (verdict,) = connection.execute(check).fetchone()
        if verdict != "ok":
            # The lines before the last one only say of which database it speaks.
            raise StoreDamaged(store, f"it is damaged ({verdict.splitlines()[-1]}); {_UNTOUCHED}")


def _key(connection: sqlite3.Connection, table: str) -> list[str]:
    columns = connection.execute(
        "SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", (table,)
    ).fetchall()
    return [name for (name,) in columns]
