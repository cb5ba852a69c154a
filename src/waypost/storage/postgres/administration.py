"""Work on the schema for people: made, brought up to date, checked, removed; rights; what was restored or moved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from waypost.storage.database_address import parse_address
from waypost.storage.postgres import schema
from waypost.storage.postgres.driver import Connection, EngineGone, Refusal, Warned, connect
from waypost.storage.postgres.engine import check_server
from waypost.storage.postgres.problems import problem_of
from waypost.storage.postgres.schema import drop_schema, migrate, read_versions

__all__ = ["Checked", "adopt", "check", "drop", "mark_restored", "migrate_schema"]

_T = TypeVar("_T")

_LIVING = "SELECT name FROM waypost.node WHERE state = 'alive' AND address <> '' ORDER BY name"
_ASIDE = "SELECT count(*) FROM waypost.outbox_bad"


@dataclass(frozen=True, slots=True)
class Checked:
    """The findings of `check`.

    Attributes:
        version: The version of the schema; 0 if there is none.
        expected: The version that this Waypost makes.
        problems: Why a server would not start on it, in words; empty if it would.
        servers: The names of the servers that use it.
        aside: How many writes of other programs could not be done, and were put aside with the reason.
    """

    version: int
    expected: int
    problems: tuple[str, ...]
    servers: tuple[str, ...]
    aside: int


async def migrate_schema(url: str, role: str | None) -> tuple[int, int]:
    """Make the schema or bring it to this version, and let a role emit and publish.

    Args:
        url: The store.
        role: The role; ``None`` for none.

    Returns:
        The version before, 0 without one, and the version now.

    Raises:
        ConfigurationError: The URL is wrong, or the server keeps not what it confirms.
        StorageError: The server can't be reached, or refuses it. Nothing was changed.
    """

    async def use(connection: Connection) -> tuple[int, int]:
        await check_server(connection, parse_address(url).shown)
        before = await migrate(connection)
        if role is not None:
            await connection.rows("SELECT waypost.grant_1($1)", role)
        return before.version, max(before.version, schema.SCHEMA_VERSION)

    return await _with(url, use)


async def check(url: str) -> Checked:
    """Look whether a server could start on a store, and who uses it. Raises as `migrate_schema`."""

    async def use(connection: Connection) -> Checked:
        await check_server(connection, parse_address(url).shown)
        versions = await read_versions(connection)
        problem = versions.problem()
        if not versions.version:
            return Checked(0, schema.SCHEMA_VERSION, (problem,), (), 0)
        names = tuple(str(row["name"]) for row in await connection.rows(_LIVING))
        aside = int(await connection.value(_ASIDE))
        return Checked(versions.version, schema.SCHEMA_VERSION, (problem,) if problem else (), names, aside)

    return await _with(url, use)


async def drop(url: str) -> None:
    """Remove the schema with all that is in it. Raises as `migrate_schema`."""
    await _with(url, drop_schema)


async def mark_restored(url: str) -> None:
    """Note that the database was restored from a copy: all sessions end. Raises as `migrate_schema`."""

    async def use(connection: Connection) -> None:
        await connection.rows("SELECT waypost.restored_1()")

    await _with(url, use)


async def adopt(url: str) -> None:
    """Note that the database has moved to another system and lost nothing. Raises as `migrate_schema`."""

    async def use(connection: Connection) -> None:
        await connection.rows("SELECT waypost.adopt_1()")

    await _with(url, use)


async def _with(url: str, use: Callable[[Connection], Awaitable[_T]]) -> _T:
    address = parse_address(url)
    try:
        # Not over a pooler, which gives the session's lock away.
        connection = await connect(address.direct or address.dsn, "db")
        try:
            return await use(connection)
        finally:
            await connection.close()
    except (EngineGone, Refusal, Warned) as error:
        raise problem_of(address.shown, error) from error
