"""Makes a store, or a visitor of one, from the text that names it."""

from __future__ import annotations

from os import PathLike

from waypost.errors import ConfigurationError
from waypost.storage.base import Store
from waypost.storage.memory.store import MemoryStore
from waypost.storage.options import MACHINE_CLOCKS, Clocks, StoreOptions
from waypost.storage.specs import check_store, file_of_store, is_database, shown_spec, whole_spec
from waypost.storage.sqlite.store import SqliteStore
from waypost.storage.sqlite.visitor import SqliteVisitor
from waypost.storage.visiting import Visitor

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

_DRIVER = 'the driver of PostgreSQL: pip install "waypost[postgres]"'


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
        raise ConfigurationError("store", shown_spec(options.spec), _DRIVER) from error
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


def _visitor_of_database(spec: str) -> Visitor:
    try:
        from waypost.storage.postgres.visitor import PostgresVisitor
    except ImportError as error:
        raise ConfigurationError("store", shown_spec(spec), _DRIVER) from error
    return PostgresVisitor.at(spec)


def make_visitor(spec: str | PathLike[str]) -> Visitor:
    """Make a visitor of the store that a text names, which another process may have open. The caller opens it.

    Args:
        spec: As for `make_store`.

    Raises:
        ConfigurationError: The text names no store, or a store that other processes can't open.
    """
    if is_database(spec):
        return _visitor_of_database(str(spec))
    path = file_of_store(spec)
    if path is None:
        raise ConfigurationError(
            "store", shown_spec(spec), "a file: what is in memory is seen only by the process that has it"
        )
    return SqliteVisitor(path)
