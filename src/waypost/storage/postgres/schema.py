"""The schema in the database: made where there is none, checked where there is one, migrated when it is asked for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from importlib import resources
from typing import Final

from waypost.retrying import Backoff, RetryPolicy
from waypost.storage.postgres.driver import Connection, Refusal

__all__ = [
    "OLDEST_USER",
    "OLDEST_VERSION",
    "SCHEMA_VERSION",
    "Versions",
    "drop_schema",
    "migrate",
    "read_scripts",
    "read_versions",
]

SCHEMA_VERSION: Final = 1
"""The version of the tables and functions that this Waypost makes."""

OLDEST_VERSION: Final = 1
"""The oldest version of Waypost's tables and functions under which this Waypost runs."""

OLDEST_USER: Final = 1
"""The oldest version that a Waypost must know to use the tables and functions that this one makes."""

# Any fixed number: only one migration runs at a time in a database.
_LOCK: Final = 0x7761_7970_6F73_74
# Whatever comes later waits behind a lock that waits. Shorter than PostgreSQL's deadlock_timeout, so that of two who
# wait for each other it is the migration that gives up.
_LOCK_TIMEOUT: Final = "500ms"
_IN_USE: Final = frozenset({"55P03", "40P01"})
_PAUSES: Final = RetryPolicy(first_s=0.5, longest_s=5.0, jitter=0.2)
_PATIENCE_S: Final = 60.0

_TOO_OLD: Final = """
    SELECT name FROM waypost.node JOIN waypost.beat ON node = id
    WHERE state = 'alive' AND knows < $1 AND NOT waypost.backend_is_gone_1(backend) ORDER BY name
"""
_READ = "SELECT key, value FROM waypost.setting WHERE key IN ('schema_version', 'oldest_user')"


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions that a database notes of its schema.

    Attributes:
        version: The version of its tables and functions; 0 if there are none.
        oldest_user: The oldest version that may still use them: that of the Waypost which was made for it.
    """

    version: int = 0
    oldest_user: int = 0

    def problem(self) -> str:
        """Return in words why this Waypost can't use the schema; "" if it can."""
        if not self.version:
            return 'there is no schema "waypost" in the database; make it: waypost db migrate'
        if self.version < OLDEST_VERSION:
            return (
                f"expected a schema of version {OLDEST_VERSION} or later, came {self.version}; with all servers that "
                "may still need the old one in mind, run: waypost db migrate"
            )
        if self.oldest_user > SCHEMA_VERSION:
            return (
                f"its schema, of version {self.version}, is for servers that know version {self.oldest_user} or "
                f"later, and this Waypost knows {SCHEMA_VERSION}; upgrade this server"
            )
        return ""


def read_scripts() -> list[tuple[str, str]]:
    """Return the scripts that make tables and functions, by name, in their order.

    Each may run on what it has made before: a migration runs all of them, while servers go on.
    """
    folder = resources.files("waypost.storage.postgres") / "sql"
    scripts = sorted((one for one in folder.iterdir() if one.name.endswith(".sql")), key=lambda one: one.name)
    return [(one.name, one.read_text(encoding="utf-8")) for one in scripts]


async def read_versions(connection: Connection) -> Versions:
    """Return what the database says of its schema.

    Raises:
        EngineGone: The connection broke.
        Refusal: The role may not read the schema.
    """
    if await connection.value("SELECT to_regclass('waypost.setting')") is None:
        return Versions()
    found = {str(row["key"]): int(row["value"]) for row in await connection.rows(_READ)}
    return Versions(found.get("schema_version", 0), found.get("oldest_user", 0))


async def migrate(connection: Connection) -> Versions:
    """Make the schema, or bring it to `SCHEMA_VERSION`; one migration at a time. A newer one stays as it is.

    Servers go on meanwhile. If a transaction uses what is to be changed, this gives way, as all writes would wait
    behind it, and tries again for a minute.

    Returns:
        What the database said before.

    Raises:
        EngineGone: The connection broke.
        Refusal: The role may not do it, what is to be changed is in use, or a server is too old for what it becomes;
            nothing was changed.
    """
    backoff, end = Backoff(_PAUSES), time.monotonic() + _PATIENCE_S
    while True:
        try:
            return await _migrate(connection)
        except Refusal as refusal:
            if refusal.sqlstate not in _IN_USE:
                raise
            if time.monotonic() > end:
                problem = (
                    "a transaction uses what is to be changed, and has not ended for a minute: look for it in "
                    "pg_stat_activity (xact_start), and run this again once it has ended"
                )
                raise Refusal(refusal.sqlstate, problem) from refusal
        await asyncio.sleep(backoff.next_s(time.monotonic() % 1))


async def _migrate(connection: Connection) -> Versions:
    async with connection.transaction():
        await connection.rows("SELECT pg_advisory_xact_lock($1)", _LOCK)
        found = await read_versions(connection)
        if found.version >= SCHEMA_VERSION:
            return found
        await connection.rows("SELECT set_config('lock_timeout', $1, true)", _LOCK_TIMEOUT)
        if found.version:
            await _refuse_old_servers(connection)
        await connection.run("CREATE SCHEMA IF NOT EXISTS waypost")
        for name, script in read_scripts():
            try:
                await connection.run(script)
            except Refusal as refusal:
                raise Refusal(refusal.sqlstate, f"{name}: {refusal.message}", refusal.detail) from refusal
        await connection.rows(
            "INSERT INTO waypost.setting VALUES ('schema_version', $1), ('oldest_user', $2)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            str(SCHEMA_VERSION),
            str(OLDEST_USER),
        )
    return found


async def _refuse_old_servers(connection: Connection) -> None:
    names = [str(row["name"]) for row in await connection.rows(_TOO_OLD, OLDEST_USER)]
    if names:
        problem = (
            f"expected servers that know version {OLDEST_USER} of the schema or later; these are older: "
            f"{', '.join(names)}; upgrade or stop them, and run this again"
        )
        raise Refusal("WP010", problem)


async def drop_schema(connection: Connection) -> None:
    """Remove the schema, with all that is in it. Raises as `migrate`."""
    async with connection.transaction():
        await connection.rows("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.run("DROP SCHEMA IF EXISTS waypost CASCADE")
