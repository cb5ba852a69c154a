"""Looks whether a server could open a store, without opening it: nothing is changed, and a server may run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from os import PathLike, path
from pathlib import Path
from shutil import disk_usage

from waypost.errors import ConfigurationError, StorageError
from waypost.file_place import check_place, shown
from waypost.owning import OwnerFile
from waypost.storage.specs import file_of_store, is_database, shown_spec
from waypost.storage.sqlite.file import check_header
from waypost.storage.sqlite.schema import OLDEST_VERSION, SCHEMA_VERSION

__all__ = ["Inspected", "inspect_store"]

_VERSION_AT = 60
"""Where the header of a file has the version of its format, in four bytes."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """The findings about a store.

    Attributes:
        problems: Why a server could not use it, in words; empty if it could.
        notes: What else one should know.
    """

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


async def inspect_store(spec: str | PathLike[str], disk_reserve_bytes: int) -> Inspected:
    """Look whether a server could open a store. May be cancelled.

    Args:
        spec: The store, as for `make_store`.
        disk_reserve_bytes: The bytes that emits leave free on a file's disk.

    Raises:
        ConfigurationError: The text names no store.
    """
    if is_database(spec):
        return await _inspect_database(str(spec))
    file = file_of_store(spec)
    if file is None:
        return Inspected(notes=("what is in memory is gone when the service stops",))
    try:
        return _inspect_file(file, disk_reserve_bytes)
    except ConfigurationError as error:
        return Inspected((f"{error.value}: expected {error.expected}",))
    except StorageError as error:
        return Inspected((str(error),))
    except OSError as error:
        return Inspected((f"{file}: {shown(error)}",))


def _inspect_file(name: str, disk_reserve_bytes: int) -> Inspected:
    file = Path(path.realpath(name))
    check_place("store", file)
    problems: list[str] = []
    notes: list[str] = []
    if not os.access(file.parent, os.W_OK | os.X_OK):
        problems.append(f"{file.parent} can't be written to by this user; the store needs files beside its own")
    if file.exists():
        if not os.access(file, os.R_OK | os.W_OK):
            problems.append(f"{file} can't be read and written to by this user")
        else:
            check_header(file)
            problems += _wrong_version(file)
        if (holder := OwnerFile.peek_holder(file)) is not None:
            notes.append(f"{file}: process {holder} has it open; a server waits for its end")
    else:
        notes.append(f"{file} does not exist yet; the first start makes it")
    if disk_usage(file.parent).free < disk_reserve_bytes:
        problems.append(f"the disk of {file} has less than disk_reserve_bytes={disk_reserve_bytes} left: emits fail")
    return Inspected(tuple(problems), tuple(notes))


def _wrong_version(file: Path) -> list[str]:
    with file.open("rb") as opened:
        header = opened.read(_VERSION_AT + 4)
    version = int.from_bytes(header[_VERSION_AT:], "big")
    if len(header) < _VERSION_AT + 4 or OLDEST_VERSION <= version <= SCHEMA_VERSION:
        return []
    return [f"{file}: its format is version {version}; this Waypost reads {OLDEST_VERSION} to {SCHEMA_VERSION}"]


async def _inspect_database(url: str) -> Inspected:
    name = shown_spec(url)
    try:
        from waypost.storage.postgres.administration import check
    except ImportError:
        return Inspected((f'{name}: the driver of PostgreSQL is missing: pip install "waypost[postgres]"',))
    try:
        found = await check(url)
    except (ConfigurationError, StorageError) as error:
        return Inspected((str(error),))
    if not found.version:
        return Inspected(notes=(f"{name} has no schema yet; the first start makes it",))
    running = f"{name}: {len(found.servers)} servers use it"
    return Inspected(tuple(f"{name}: {one}" for one in found.problems), (running,) if found.servers else ())
