"""Copies a store from one kind to another, while no server uses either of them: all of it or nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from os.path import realpath
from pathlib import Path

from waypost.errors import ConfigurationError, StorageError
from waypost.storage.choose import file_of_store
from waypost.storage.copying import from_file, from_postgres
from waypost.storage.copying.records import TABLES, Reading, Writing
from waypost.storage.copying.to_file import FileWriting
from waypost.storage.copying.to_postgres import PostgresWriting
from waypost.storage.database_address import SCHEMES, parse_address
from waypost.storage.postgres.driver import Connection, EngineGone, Refusal, connect
from waypost.storage.postgres.engine import check_server
from waypost.storage.postgres.problems import problem_of
from waypost.storage.postgres.schema import migrate
from waypost.storage.sqlite.file import open_database, take_ownership, translate
from waypost.storage.sqlite.store import SqliteStore

__all__ = ["Copied", "copy_store"]

_ORPHAN_TTL_S = 3600.0
_LIVING = "SELECT name FROM waypost.node WHERE state = 'alive'"
# The other store may be slow.
_NO_HURRY = "SET LOCAL idle_in_transaction_session_timeout = 0"
_FILLED = """
    SELECT EXISTS (SELECT FROM waypost.journal) OR EXISTS (SELECT FROM waypost.queue)
        OR EXISTS (SELECT FROM waypost.answer)
"""


@dataclass(slots=True)
class Copied:
    """The extent of a copy.

    Attributes:
        journals: The number of journals.
        entries: The number of their events and sessions.
        rows: The number of rows of each table of queues and answers.
    """

    journals: int
    entries: int
    rows: dict[str, int]


async def copy_store(source: str, target: str, progress: Callable[[int], object] = lambda done: None) -> Copied:
    """Copy a store.

    Args:
        source: The store that is read, an SQLite file or a PostgreSQL URL. It is brought to this version, and what
            waits in its outbox is moved.
        target: The other one: a file that does not exist, or a database with an empty schema or without one.
        progress: Called with the number of events, sessions and rows that are copied so far.

    Raises:
        ConfigurationError: One of them is no store that can be copied, or the target is not empty.
        StoreBusy: A server has a file open.
        StorageError: A server uses a database, or one of them can't be read or written.
    """
    try:
        async with _reading(source) as reading, _writing(target) as writing:
            copied = Copied(0, 0, {})
            async for journal in reading.journals():
                copied.journals += 1
                copied.entries += await writing.journal(journal, reading)
                progress(copied.entries)
            for table in TABLES:
                copied.rows[table.name] = 0
                async for rows in reading.rows(table):
                    await writing.rows(table, rows)
                    copied.rows[table.name] += len(rows)
                    progress(copied.entries + sum(copied.rows.values()))
            await writing.finish()
            return copied
    except (EngineGone, Refusal) as error:
        shown = next(parse_address(one).shown for one in (source, target) if _is_on_postgres(one))
        raise problem_of(shown, error) from error


def _is_on_postgres(store: str) -> bool:
    return store.partition(":")[0].lower() in SCHEMES


def _path(store: str) -> Path:
    file = file_of_store(store)
    if file is None:
        raise ConfigurationError("store", store, "a file or a PostgreSQL URL: what is in memory can't be copied")
    return Path(realpath(file))


@asynccontextmanager
async def _reading(store: str) -> AsyncIterator[Reading]:
    if _is_on_postgres(store):
        async with _database(store) as connection:
            await from_postgres.finish_work(connection)
            async with connection.transaction():
                await connection.run(_NO_HURRY)
                yield from_postgres.PostgresReading(connection, await _now(connection), _ORPHAN_TTL_S)
        return
    path = _path(store)
    if not path.exists():
        raise ConfigurationError("store", store, "the file of a store; there is none")
    await from_file.finish_work(path)
    try:
        with from_file.reading_file(path, _ORPHAN_TTL_S) as reading:
            yield reading
    except sqlite3.Error as error:
        raise translate(store, error) from error


@asynccontextmanager
async def _writing(store: str) -> AsyncIterator[Writing]:
    if _is_on_postgres(store):
        async with _database(store) as connection:
            if await connection.value(_FILLED):
                problem = "it is not empty; copy into another database, or remove it: waypost db drop"
                raise StorageError(parse_address(store).shown, problem)
            async with connection.transaction():
                await connection.run(_NO_HURRY)
                yield PostgresWriting(connection, await _now(connection))
        return
    path = _path(store)
    if path.exists():
        raise ConfigurationError("store", store, "a file that does not exist yet")
    made = SqliteStore(path)
    await made.open()
    await made.close()
    owner = take_ownership(path)
    is_done = False
    try:
        connection_to_file = open_database(path)
        try:
            connection_to_file.execute("BEGIN IMMEDIATE")
            yield FileWriting(connection_to_file)
            is_done = True
        except sqlite3.Error as error:
            raise translate(store, error) from error
        finally:
            connection_to_file.close()
    finally:
        owner.close()
        if not is_done:
            for one in path.parent.glob(f"{path.name}*"):
                one.unlink()


@asynccontextmanager
async def _database(store: str) -> AsyncIterator[Connection]:
    address = parse_address(store)
    connection = await connect(address.direct or address.dsn, "copy")
    try:
        await check_server(connection, address.shown)
        await migrate(connection)
        living = [str(row["name"]) for row in await connection.rows(_LIVING)]
        if living:
            problem = (
                f"servers use it ({', '.join(living)}); stop them first, or wait until they are known to be dead"
            )
            raise StorageError(address.shown, problem)
        yield connection
    finally:
        await connection.close()


async def _now(connection: Connection) -> float:
    return float(await connection.value("SELECT waypost.now_1()"))
