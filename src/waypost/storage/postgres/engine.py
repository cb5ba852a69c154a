"""The engine of an open PostgreSQL store, as its parts share it: connections, clock, and who this node is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from waypost.errors import ConfigurationError, StorageError, StorageUncertain, StoreClosed
from waypost.storage.clock import StoreClock
from waypost.storage.database_address import Address
from waypost.storage.postgres.driver import Connection, EngineGone, Pool, Refusal, Warned
from waypost.storage.postgres.lanes import Identity, Lane, LaneWork
from waypost.storage.postgres.problems import problem_of
from waypost.storage.store_numbers import Commits

__all__ = ["Engine", "check_server"]

_T = TypeVar("_T")

_OLDEST_SERVER: Final = 140_000

_SERVER = """
    SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS shown,
        pg_is_in_recovery() AS is_standby, current_setting('fsync') AS fsync,
        current_setting('full_page_writes') AS pages
"""


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """The engine of an open store.

    Attributes:
        name: The store, as errors name it.
        address: Where it is.
        clock: The store's clock; it follows the engine's.
        identity: Who this node is.
        batches: The numbers of this node's calls.
        appending: The connections of ordered writes.
        reading: The connection of reads.
        upkeep: The connection of upkeep.
        patience_s: Seconds for which an uncertain write is settled before it is raised as uncertain.
        commits: Counts the ordered writes.
    """

    name: str
    address: Address
    clock: StoreClock
    identity: Identity
    batches: Iterator[int]
    appending: Pool
    reading: Pool
    upkeep: Pool
    patience_s: float
    commits: Commits

    def lane(self, work: LaneWork) -> Lane:
        """Return a new lane for ordered writes."""
        return Lane(self.name, self.appending, self.identity, self.batches, work, self.patience_s, self.commits)

    async def read(self, use: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Read with a connection. It is repeated once if the connection broke. May be cancelled.

        Raises:
            StorageError: The engine can't be reached, or refuses it.
            StoreClosed: The store is closed.
        """
        for repeats in (True, False):
            try:
                return await self._with(self.reading, use)
            except EngineGone as gone:
                if not repeats or not gone.was_sent:
                    raise problem_of(self.name, gone) from gone
        raise AssertionError("the second attempt returns or raises")

    async def keep_up(self, use: Callable[[Connection], Awaitable[_T]], operation: str = "a piece of upkeep") -> _T:
        """Do a piece of upkeep, which may be done again if it fails: nobody waits for just this one.

        Args:
            use: Does it.
            operation: What it does, in words, for errors.

        Raises:
            StorageError: The engine can't be reached, or refuses it.
            StorageUncertain: Nobody knows whether it was done.
        """
        try:
            return await self._with(self.upkeep, use)
        except EngineGone as gone:
            if gone.was_sent:
                raise StorageUncertain(self.name, operation, f"PostgreSQL went away: {gone.problem}") from gone
            raise problem_of(self.name, gone) from gone
        except Warned as warned:
            raise StorageUncertain(self.name, operation, f"PostgreSQL warned: {warned}") from warned

    async def do_again(self, operation: str, use: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Do a write that changes nothing when it is done twice: if the connection broke, once more.

        Args:
            operation: The write, for the error.
            use: Does it, with a connection.

        Raises:
            StorageError: The engine can't be reached, or refuses it. Nothing was done.
            StorageUncertain: The second attempt failed too, or a standby does not answer. It may have been done.
            StoreClosed: The store is closed.
        """
        try:
            return await self._with(self.appending, use)
        except Warned as warned:
            raise StorageUncertain(self.name, operation, f"PostgreSQL warned: {warned}") from warned
        except EngineGone as gone:
            if not gone.was_sent:
                raise problem_of(self.name, gone) from gone
        try:
            return await self._with(self.appending, use)
        except (EngineGone, Warned, StorageError) as error:
            # Whatever became of this attempt, the first one may have been done.
            raise StorageUncertain(self.name, operation, f"PostgreSQL went away: {error}") from error

    async def _with(self, pool: Pool, use: Callable[[Connection], Awaitable[_T]]) -> _T:
        if pool.is_closed:
            raise StoreClosed(self.name)
        try:
            async with pool.take() as connection:
                return await use(connection)
        except Refusal as refusal:
            raise problem_of(self.name, refusal) from refusal


async def check_server(connection: Connection, name: str) -> None:
    """Check that a server keeps what it reports as committed, and knows what is asked of it.

    Args:
        connection: A connection to it.
        name: The store, as errors name it.

    Raises:
        ConfigurationError: It does not.
    """
    found = await connection.row(_SERVER)
    if found is None:
        raise ConfigurationError("store", name, "a PostgreSQL server")
    if found["version"] < _OLDEST_SERVER:
        raise ConfigurationError("store", name, f"PostgreSQL 14 or later, came {found['shown']}")
    if found["is_standby"]:
        raise ConfigurationError(
            "store", name, "a primary, came a standby, which is read-only; give the primary's address"
        )
    if found["fsync"] != "on" or found["pages"] != "on":
        raise ConfigurationError(
            "store", name, "a server with fsync=on and full_page_writes=on, for what it reports must survive a crash"
        )
