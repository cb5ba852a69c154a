"""Whether the log beside a store's file, ``<path>-wal``, belongs to the file.

SQLite replays any log that it finds there. If an older copy of the file was put back and the log of the file before
was left, that would undo the restore, or mix pages of both. The mark beside the file says what the file itself must
hold if the log is its own: SQLite begins a log anew only when all of the earlier log is in the file.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from waypost.errors import StorageError
from waypost.logs import fields, get_logger
from waypost.storage.sqlite.mark import Mark, peek_mark

__all__ = ["Bare", "LogState", "check_log", "read_bare", "read_salt", "refuse_foreign_log"]

_logger = get_logger(__name__)

_HEADER_BYTES = 32
_SALT = slice(16, 20)
_SALTS = 1 << 32
# SQLite adds one to the salt whenever it begins the same log anew, and begins another log with a random one.
_NEAR = 1 << 20


@dataclass(frozen=True, slots=True)
class Bare:
    """The content of a file without its log.

    Attributes:
        fence: The name of the opening that wrote to it last; ``""`` after a clean end.
        position: Its mark.
        schema: The version of its tables, which SQLite counts.
    """

    fence: str
    position: int
    schema: int


@dataclass(frozen=True, slots=True)
class LogState:
    """The log beside a file that is about to be opened.

    Attributes:
        has_log: Whether there is a log with something in it.
        is_foreign: Whether the log belonged to another file.
    """

    has_log: bool
    is_foreign: bool


def read_salt(path: Path) -> int | None:
    """Return the salt in the header of a file's log; ``None`` without a header."""
    try:
        with Path(f"{path}-wal").open("rb", buffering=0) as log:
            header = log.read(_HEADER_BYTES)
    except OSError:
        return None
    return int.from_bytes(header[_SALT], "big") if len(header) == _HEADER_BYTES else None


def read_bare(path: Path, *, is_whole: bool = False) -> Bare | None:
    """Return what a file holds without its log; ``None`` if that can't be said, as of a file of an older format.

    Args:
        path: The file.
        is_whole: Whether a file that is shorter than it says counts as unreadable.
    """
    try:
        # As a file that does not change: no lock is taken, and no log is looked at or made.
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)) as connection:
            # A copying of the log that was killed leaves a header that speaks of more pages than there are.
            connection.execute(f"PRAGMA writable_schema = {int(not is_whole)}")
            ((fence, position),) = connection.execute("SELECT token, mark FROM owner, opening").fetchall()
            ((schema,),) = connection.execute("PRAGMA schema_version").fetchall()
    except (sqlite3.Error, ValueError):
        return None
    return Bare(str(fence), int(position), int(schema))


def look(path: Path, mark: Mark | None) -> LogState:
    """Find out whether a file has a log, and whether the log is its own.

    Args:
        path: The file.
        mark: The mark beside it.
    """
    salt = read_salt(path)
    if salt is None:
        return LogState(has_log=False, is_foreign=False)
    if mark is None or not mark.is_rooted or not _continues(salt, mark):
        return LogState(has_log=True, is_foreign=False)
    bare = read_bare(path)
    return LogState(has_log=True, is_foreign=bare is not None and not _fits(bare, mark, salt))


def check_log(path: Path, mark: Mark | None) -> LogState:
    """Find out whether a file's log is its own, and put a foreign one aside. The caller owns the file.

    Args:
        path: The file, which nobody has open.
        mark: The mark beside it.
    """
    state = look(path, mark)
    if state.is_foreign:
        aside = _aside(path)
        os.rename(f"{path}-wal", aside)
        Path(f"{path}-shm").unlink(missing_ok=True)
        _logger.error(
            "%s: its log %s-wal belongs to the file that was here before, and was moved to %s: it must not be "
            "replayed over a copy that was put back",
            path,
            path,
            aside,
            extra=fields(store=path),
        )
    return state


def refuse_foreign_log(path: Path) -> None:
    """Refuse a file with a foreign log, which opening the file would replay.

    Raises:
        StorageError: The log belongs to another file.
    """
    if look(path, peek_mark(path)).is_foreign:
        raise StorageError(
            str(path),
            f"its log {path}-wal belongs to the file that was here before; start the server on it, which puts the "
            "log aside",
        )


def _continues(salt: int, mark: Mark) -> bool:
    # Another log came here together with its file, and belongs to it.
    return mark.salt is None or (salt - mark.salt) % _SALTS < _NEAR


def _fits(bare: Bare, mark: Mark, salt: int) -> bool:
    if mark.next_fence and bare.fence == mark.next_fence:
        return True
    # A log that was begun anew since: all that the mark speaks of is in the file itself.
    base = mark.base if salt == mark.salt else mark.position
    is_same = bare.fence in ("", mark.fence) and bare.position >= base
    # A copy that SQLite made has counted its tables' version differently.
    return is_same and mark.first_schema <= bare.schema <= mark.schema


def _aside(path: Path) -> Path:
    number = 1
    while (aside := Path(f"{path}-wal-foreign-{number}")).exists():
        number += 1
    return aside
