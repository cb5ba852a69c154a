"""The outbox: events with ids that servers put there, and what applications did, move into journals and queues."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from waypost.errors import StorageError
from waypost.logs import fields, get_logger
from waypost.storage.postgres.driver import Connection
from waypost.storage.postgres.engine import Engine
from waypost.storage.postgres.hearing import Hearing
from waypost.storage.postgres.queues.arrivals import notice_of
from waypost.storage.postgres.queues.texts import to_store

__all__ = ["OutboxMover", "put_entry"]

_logger = get_logger(__name__)

_PUT: Final = "SELECT waypost.outbox_add_1(0::smallint, $1, $2, $3, $4, NULL, NULL, NULL, NULL, NULL, false)"
_MOVE: Final = "SELECT waypost.move_outbox_1($1, $2, $3)::text"
_TRIM: Final = "SELECT waypost.trim_outbox_1($1)"
_ROWS: Final = 500
_LOOK_EACH_S: Final = 0.05
_AFTER_FAILURE_S: Final = 1.0


async def put_entry(engine: Engine, journal: str, record: bytes, write_id: str, window_s: float) -> None:
    """Put an entry for a journal into the outbox; see `Store.append_once`.

    Raises:
        StorageError: The engine can't be reached, or refuses it.
        StorageUncertain: It may be there; an entry of the same id that is put again is dropped.
    """

    async def use(connection: Connection) -> None:
        await connection.value(_PUT, journal, record, to_store(write_id), window_s)

    await engine.do_again(f"append an event to journal {journal}", use)


class _Moved(msgspec.Struct):
    """The result of one call.

    Attributes:
        moved: How many rows have left the outbox.
        journals: The last tick of each journal that has got rows, by its number.
        queues: The name of each queue that has got messages, by its number.
    """

    moved: int = 0
    journals: dict[str, int] = {}
    queues: dict[str, str] = {}


class OutboxMover:
    """Moves the outbox, on the node that does the upkeep.

    Args:
        engine: The engine.
        hearing: Gives and hears notices.
        leads: Returns whether this node does the upkeep.
    """

    __slots__ = ("_engine", "_hearing", "_leads", "_task", "_woken")

    def __init__(self, engine: Engine, hearing: Hearing, leads: Callable[[], bool]) -> None:
        self._engine = engine
        self._hearing = hearing
        self._leads = leads
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look again and again, and at a notice of who has asked for it, whether there is something to move."""
        self._hearing.listen("o", lambda _: self._woken.set())
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Look no more. What is under way ends, or leaves nothing behind."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def move(self) -> None:
        """Move all that is there, and let the nodes know.

        Raises:
            StorageError: The engine can't be reached, or refuses it. What was moved is moved.
        """
        while moved := await self._move_some():
            for number, tick in moved.journals.items():
                self._hearing.notify(f"j {number}", str(tick))
            for name in moved.queues.values():
                self._hearing.notify(f"q {notice_of(name)}")
            if not moved.moved:
                break

    async def trim(self) -> None:
        """Forget the ids of events whose time is over.

        Raises:
            StorageError: The engine can't be reached, or refuses it.
        """

        async def use(connection: Connection) -> int:
            return int(await connection.value(_TRIM, _ROWS))

        while await self._engine.keep_up(use) == _ROWS:
            pass

    async def _move_some(self) -> _Moved | None:
        identity = self._engine.identity

        async def use(connection: Connection) -> str | None:
            found: str | None = await connection.value(_MOVE, identity.id, identity.incarnation, _ROWS)
            return found

        answer = await self._engine.keep_up(use)
        return None if answer is None else msgspec.json.decode(answer, type=_Moved)

    async def _run(self) -> None:
        pause_s = _LOOK_EACH_S
        while True:
            try:
                async with asyncio.timeout(pause_s):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            if not self._leads():
                continue
            try:
                await self.move()
            except StorageError as error:
                _logger.debug(
                    "%s: the outbox waits: %s", self._engine.name, error, extra=fields(store=self._engine.name)
                )
                pause_s = _AFTER_FAILURE_S
            else:
                pause_s = _LOOK_EACH_S
