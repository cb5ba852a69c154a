"""Makes a store, or a visitor of one, from the text that names it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from os import PathLike, fspath
from os.path import realpath
from typing import Any, Final

from waypost.checking.arguments import check
from waypost.checking.constraints import FilePath
from waypost.checking.rules import rule_of
from waypost.errors import ConfigurationError
from waypost.storage.answer_base import AnswerLimits
from waypost.storage.base import ANSWER_TTL_S, PATIENCE_S, RESERVE_BYTES, Durability, Store
from waypost.storage.journal_records import Retention
from waypost.storage.memory.store import MemoryStore
from waypost.storage.postgres.address import SCHEMES, parse_address
from waypost.storage.queue_records import QueueLimits
from waypost.storage.sqlite.store import SqliteStore
from waypost.storage.sqlite.visitor import SqliteVisitor

__all__ = [
    "MACHINE_CLOCKS",
    "Clocks",
    "StoreOptions",
    "check_store",
    "file_of_store",
    "is_database",
    "make_store",
    "make_visitor",
    "shown_spec",
    "whole_spec",
]

_EXPECTED = (
    'a file\'s path, "sqlite:" and a file\'s path, "memory:", or "postgresql://user@host/database" and the like'
)

_FILE = rule_of(FilePath)

# One letter is a drive of Windows and not a scheme.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """The options of a store: where it is, and what it keeps. Plain data, that other processes can be sent.

    Attributes:
        spec: ``"memory:"``, the path of a SQLite file, with or without ``sqlite:`` before it, or the URL of a
            PostgreSQL database; see `whole_spec`.
        durability: The time at which a write is reported; see `SqliteStore`. A store in memory ignores it.
        retention: The limits of each journal.
        queue_limits: The limits of each queue without its own.
        answer_ttl_s: Seconds for which an answer is kept.
        answer_limits: The limits on the bytes of answers.
        tail_bytes: The bytes of each journal's newest records that a store in a file keeps in memory too.
        orphan_ttl_s: Seconds for which a session is kept that a crash left attached.
        disk_reserve_bytes: The bytes that emits leave free on the file's disk.
        patience_s: Seconds for which a write to a file waits while another program holds its lock.
        copy_before_upgrade: Whether a file is copied before its format is changed.
    """

    spec: str = field(repr=False)
    durability: Durability = "commit"
    retention: Retention = field(default_factory=Retention)
    queue_limits: QueueLimits = field(default_factory=QueueLimits)
    answer_ttl_s: float = ANSWER_TTL_S
    answer_limits: AnswerLimits = field(default_factory=AnswerLimits)
    tail_bytes: int = 64 << 20
    orphan_ttl_s: float = 3600
    disk_reserve_bytes: int = RESERVE_BYTES
    patience_s: float = PATIENCE_S
    copy_before_upgrade: bool = False

    def path(self) -> str | None:
        """Return the whole path of the store's file; ``None`` for a store that is no file.

        Raises:
            ConfigurationError: The text names no store.
        """
        path = file_of_store(self.spec)
        return None if path is None else realpath(path)

    def difference(self, came: StoreOptions) -> str:
        """Return in words in what other options differ from these; "" if they agree."""
        expected, others = _flat(asdict(self)), _flat(asdict(came))
        if expected["spec"] != others["spec"]:
            expected["spec"], others["spec"] = shown_spec(self.spec), shown_spec(came.spec)
        return ", ".join(
            f"{name} {value!r} (came {others[name]!r})" for name, value in expected.items() if value != others[name]
        )


def _flat(options: dict[str, Any]) -> dict[str, object]:
    """Return options with those of groups under the names of both: ``retention.max_bytes``."""
    flat: dict[str, object] = {}
    for name, value in options.items():
        flat |= {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    return flat


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """The clocks of a store.

    Attributes:
        wall_time: The wall clock, in seconds since 1970.
        steady_time: The clock for durations; see `StoreClock`.
    """

    wall_time: Callable[[], float] = time.time
    steady_time: Callable[[], float] | None = None


MACHINE_CLOCKS: Final = Clocks()
"""The clocks of the machine."""


def whole_spec(spec: str | PathLike[str]) -> str:
    """Return the text that names a store from everywhere.

    That is ``"memory:"``, ``sqlite:`` and the file's whole path, or the URL of a database, with its password.

    Args:
        spec: A text that names a store; a `pathlib.Path` is always a file's.

    Raises:
        ConfigurationError: The text names no store.
    """
    if is_database(spec):
        check_store(spec)
        return fspath(spec)
    path = file_of_store(spec)
    return "memory:" if path is None else f"sqlite:{realpath(path)}"


def shown_spec(spec: str | PathLike[str]) -> str:
    """Return the text that names a store, for people: without a password.

    Raises:
        ConfigurationError: The text names no store.
    """
    return parse_address(fspath(spec)).shown if is_database(spec) else whole_spec(spec)


def is_database(spec: str | PathLike[str]) -> bool:
    """Return whether a text is the URL of a database: each process opens it by itself, as a node of one service."""
    return isinstance(spec, str) and spec.partition(":")[0].lower() in SCHEMES


def make_store(options: StoreOptions, clocks: Clocks = MACHINE_CLOCKS) -> Store:
    """Make the store that options describe. The caller opens it.

    Raises:
        ConfigurationError: The text names no store, or an option has a value that it does not accept.
    """
    if is_database(options.spec):
        return _database(options, clocks)
    path = file_of_store(options.spec)
    if path is None:
        return MemoryStore(
            retention=options.retention,
            queue_limits=options.queue_limits,
            answer_ttl_s=options.answer_ttl_s,
            answer_limits=options.answer_limits,
            wall_time=clocks.wall_time,
            steady_time=clocks.steady_time,
        )
    return SqliteStore(
        path,
        durability=options.durability,
        retention=options.retention,
        queue_limits=options.queue_limits,
        answer_ttl_s=options.answer_ttl_s,
        answer_limits=options.answer_limits,
        tail_bytes=options.tail_bytes,
        orphan_ttl_s=options.orphan_ttl_s,
        disk_reserve_bytes=options.disk_reserve_bytes,
        wall_time=clocks.wall_time,
        steady_time=clocks.steady_time,
        patience_s=options.patience_s,
        copy_before_upgrade=options.copy_before_upgrade,
    )


def _database(options: StoreOptions, clocks: Clocks) -> Store:
    # Only here: its driver is an extra.
    try:
        from waypost.storage.postgres.store import PostgresStore
    except ImportError as error:
        raise ConfigurationError(
            "store", shown_spec(options.spec), 'the driver of PostgreSQL: pip install "waypost[postgres]"'
        ) from error
    return PostgresStore(
        options.spec,
        retention=options.retention,
        queue_limits=options.queue_limits,
        answer_ttl_s=options.answer_ttl_s,
        answer_limits=options.answer_limits,
        tail_bytes=options.tail_bytes,
        orphan_ttl_s=options.orphan_ttl_s,
        patience_s=options.patience_s,
        wall_time=clocks.wall_time,
        steady_time=clocks.steady_time,
    )


def check_store(spec: str | PathLike[str]) -> None:
    """Check a text that names a store; see `make_store`.

    Raises:
        ConfigurationError: The text names no store.
    """
    if is_database(spec):
        parse_address(fspath(spec))
    else:
        file_of_store(spec)


def make_visitor(spec: str | PathLike[str]) -> SqliteVisitor:
    """Make a visitor of the store that a text names, which another process may have open. The caller opens it.

    Args:
        spec: As for `make_store`.

    Raises:
        ConfigurationError: The text names no store, or a store that other processes can't open.
    """
    path = file_of_store(spec)
    if path is None:
        raise ConfigurationError(
            "store", shown_spec(spec), "a file: what is in memory is seen only by the process that has it"
        )
    return SqliteVisitor(path)


def file_of_store(spec: str | PathLike[str]) -> str | None:
    """Return the path of the file that a text names, ``None`` for a store that is no file.

    Raises:
        ConfigurationError: The text names no store.
    """
    if is_database(spec):
        check_store(spec)
        return None
    if not isinstance(spec, str):
        check("store", spec, _FILE)
        return fspath(spec)
    scheme, path = "sqlite", spec
    if found := _SCHEME.fullmatch(spec):
        scheme, path = found[1].lower(), found[2]
    if scheme == "memory" and not path:
        return None
    # "sqlite://x" means different files to different programs; ":memory:" is SQLite's word for "memory:".
    if scheme != "sqlite" or not path or path.startswith("//") or path == ":memory:":
        # The rest of a URL may hold a password.
        raise ConfigurationError("store", f"{found[1]}:…" if found else spec, _EXPECTED)
    return path
