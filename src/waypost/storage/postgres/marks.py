"""Removes the marks of writes to queues and answers that nobody asks for any more."""

from __future__ import annotations

from typing import Final

from waypost.storage.postgres.driver import Connection
from waypost.storage.postgres.engine import Engine

__all__ = ["trim_marks"]

_TRIM: Final = "SELECT waypost.trim_marks_1($1, $2)"
# Much longer than a lost answer goes unnoticed: a mark that is missing says that its write was not done.
_KEPT_S = 3600.0
_STEP = 10_000


async def trim_marks(engine: Engine) -> None:
    """Remove old marks, in steps.

    Raises:
        StorageError: The engine can't be reached, or refuses it.
    """

    async def step(connection: Connection) -> bool:
        return bool(await connection.value(_TRIM, _KEPT_S, _STEP))

    while await engine.keep_up(step):
        pass
