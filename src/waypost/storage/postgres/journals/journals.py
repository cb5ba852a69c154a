"""The journals that a PostgreSQL store has open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from waypost.errors import StorageError, StoreClosed
from waypost.logs import fields, get_logger
from waypost.storage.generation import new_generation
from waypost.storage.journal_records import Retention
from waypost.storage.postgres.driver import Connection
from waypost.storage.postgres.engine import Engine
from waypost.storage.postgres.hearing import Hearing
from waypost.storage.postgres.journals.expiry import trim_proofs, trim_sessions
from waypost.storage.postgres.journals.following import Following
from waypost.storage.postgres.journals.journal import PostgresJournal
from waypost.storage.postgres.journals.log import Log, State
from waypost.storage.postgres.mesh.progress import Progress
from waypost.storage.postgres.nodes.history import Applied
from waypost.storage.tail import Tail

__all__ = ["Journals"]

_logger = get_logger(__name__)

_OPEN: Final = "SELECT waypost.open_journal_1($1, $2, $3, $4)"
_FOLLOWED: Final = "SELECT name FROM waypost.journal WHERE waypost.has_sessions_1(id)"
_ALL: Final = "SELECT id, name FROM waypost.journal ORDER BY id"
_DROP: Final = "SELECT waypost.drop_journal_1($1, $2, $3)"
_TRIM: Final = "SELECT * FROM waypost.trim_journal_1($1, $2, $3, $4, $5)"
# The rows of one step of trimming, which holds the lock of the journal.
_STEP = 10_000
_AGAIN_S = 0.5


class Journals:
    """The open journals, and what is done for all of them together.

    Args:
        retention: The limits of each.
        tail_bytes: The bytes of the newest records of each that memory keeps.
    """

    def __init__(self, retention: Retention, tail_bytes: int) -> None:
        self._retention = retention
        self._tail_bytes = tail_bytes
        self._loading: dict[str, asyncio.Future[PostgresJournal]] = {}
        self._busy: set[PostgresJournal] = set()
        self._trimmed = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def begin(
        self,
        engine: Engine,
        following: Following,
        hearing: Hearing,
        progress: Progress,
        has_others: Callable[[], bool],
    ) -> None:
        """Have what the journals need, before the first is opened.

        Args:
            engine: The engine.
            following: Follows the logs.
            hearing: Tells other nodes of what is written.
            progress: Notes what is applied.
            has_others: Returns whether there are other nodes.
        """
        self._has_others = has_others
        self._engine = engine
        self._following = following
        self._hearing = hearing
        self._progress = progress

    # -- one journal -----------------------------------------------------------------------------------------

    async def open(self, name: str) -> PostgresJournal:
        """Return a journal; if it does not exist, make it. The same object for the same name.

        Raises:
            StorageError: The engine can't be reached, or refuses it.
            StoreClosed: The store is closed.
        """
        self._check()
        loading = self._loading.get(name)
        if loading is None:
            loading = self._loading[name] = asyncio.ensure_future(self._load(name))
        try:
            return await asyncio.shield(loading)
        except StorageError:
            if self._loading.get(name) is loading:
                del self._loading[name]
            raise

    async def drop(self, name: str) -> bool:
        """Remove a journal without sessions that no other node has open; without sessions, it is closed here.

        Returns:
            Whether it was removed.

        Raises:
            StorageError: The engine can't be reached, or refuses it.
        """
        self._check()
        loading = self._loading.get(name)
        if loading is not None:
            journal = await asyncio.shield(loading)
            await journal.settled()

        async def drop(connection: Connection) -> str:
            identity = self._engine.identity
            end: str = await connection.value(_DROP, name, identity.id, identity.incarnation)
            return end

        end = await self._engine.keep_up(drop)
        if end == "followed":
            return False
        if loading is not None and self._loading.get(name) is loading:
            del self._loading[name]
            self._following.remove(loading.result().log)
            await loading.result().close()
        return end == "dropped"

    async def followed(self) -> list[str]:
        """Return the names of the journals that have sessions, sorted.

        Raises:
            StorageError: The engine can't be reached, or refuses it.
        """
        self._check()
        await self.settled()
        rows = await self._engine.read(lambda connection: connection.rows(_FOLLOWED))
        return sorted(row["name"] for row in rows)

    async def _load(self, name: str) -> PostgresJournal:
        state = State.parse(await self._engine.keep_up(partial(self._find, name=name)))
        tail = Tail(state.top, max_bytes=self._tail_bytes)
        log = Log(name, self._engine.identity, state, tail, self._jumped, self._following.wake, self._moved)
        self._following.add(log)
        self._moved(log)
        return PostgresJournal(self._engine, log, self._written, self._busy)

    async def _find(self, connection: Connection, name: str) -> str:
        identity = self._engine.identity
        text: str = await connection.value(_OPEN, name, new_generation(), identity.id, identity.incarnation)
        return text

    def _open(self) -> list[PostgresJournal]:
        done = [one for one in self._loading.values() if one.done() and not one.cancelled()]
        return [one.result() for one in done if one.exception() is None]

    def _check(self) -> None:
        if self._is_closed:
            raise StoreClosed(self._engine.name)

    def _written(self, log: Log, tick: int) -> None:
        if self._has_others():
            self._hearing.notify(f"j {log.number}", str(tick))

    def _moved(self, log: Log) -> None:
        self._progress.note(log.number, log.applied)

    # -- several nodes ---------------------------------------------------------------------------------------

    def applied(self) -> Sequence[Applied]:
        """Return the last row of each journal that this node has applied, as far as it knows its mark."""
        logs = [journal.log for journal in self._open()]
        return [Applied(log.number, log.applied, *log.mark) for log in logs if log.mark.batch or log.mark.node]

    def after_writes(self, ready: Callable[[], None]) -> None:
        """Call a function when all writes that were asked for so far are applied here, or have failed."""
        self._busy.difference_update([journal for journal in self._busy if journal.is_settled])
        if not self._busy:
            ready()
            return

        async def wait(busy: list[PostgresJournal]) -> None:
            await asyncio.gather(*(journal.settled() for journal in busy))
            ready()

        self._keep(asyncio.get_running_loop().create_task(wait([*self._busy])))

    async def fork(self) -> None:
        """Begin all journals anew: the engine has lost what this node has applied. Returns at once."""
        logs = [journal.log for journal in self._open()]
        for log in logs:
            log.fork()
        # Not here: this is called by who has the connection for reads.
        self._keep(asyncio.get_running_loop().create_task(self._begin_anew(logs)))

    def _jumped(self, log: Log) -> None:
        if not log.is_forked:
            log.is_forked = True
            _logger.error(
                "%s: this node has fallen too far behind; its clients connect again",
                log.name,
                extra=fields(namespace=log.name),
            )
            self._keep(asyncio.get_running_loop().create_task(self._begin_anew([log])))

    async def _begin_anew(self, logs: list[Log]) -> None:
        for log in logs:
            while not self._is_closed:
                try:
                    # It may have another number in another history, or not be there.
                    state = State.parse(await self._engine.keep_up(partial(self._find, name=log.name)))
                except StorageError as problem:
                    _logger.warning(
                        "%s can't be followed anew yet: %s", log.name, problem, extra=fields(namespace=log.name)
                    )
                    await asyncio.sleep(_AGAIN_S)
                    continue
                self._following.remove(log)
                log.begin(state)
                self._following.add(log)
                break

    async def settled(self) -> None:
        """Wait until all writes that were asked for are applied here, or have failed."""
        await asyncio.gather(*(one.settled() for one in self._open()))

    # -- upkeep ----------------------------------------------------------------------------------------------

    async def trim(self) -> int:
        """Trim every journal to its retention; returns the number of entries removed since the last call.

        Raises:
            StorageError: The engine can't be reached, or refuses it.
        """
        self._check()
        await self.settled()
        ticks: dict[int, int] = {}
        rows = await self._engine.keep_up(lambda connection: connection.rows(_ALL))
        for row in rows:
            number = row["id"]
            more = True
            while more:
                tick, more = await self._engine.keep_up(partial(self._step, number=number))
                ticks[number] = tick or ticks.get(number, 0)
        by_number = {journal.number: journal for journal in self._open()}
        for number, tick in ticks.items():
            if number in by_number:
                await by_number[number].caught_up(tick)
                if tick:
                    await trim_sessions(self._engine, number, by_number[number].oldest)
        await trim_proofs(self._engine)
        trimmed, self._trimmed = self._trimmed, 0
        return trimmed

    async def _step(self, connection: Connection, number: int) -> tuple[int, bool]:
        limits = self._retention
        row = await connection.row(_TRIM, number, limits.max_age_s, limits.max_entries, limits.max_bytes, _STEP)
        assert row is not None, "a function returns a row"
        self._trimmed += row["o_events"]
        return row["o_tick"], row["o_more"]

    async def close(self) -> None:
        """Finish the writes that were asked for, and take nothing more."""
        self._is_closed = True
        for loading in self._loading.values():
            if not loading.done():
                await asyncio.wait([loading])
        await asyncio.gather(*(journal.close() for journal in self._open()))
        for task in [*self._tasks]:
            task.cancel()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
