"""Removes in the background the rows of what is gone already: a step, and a pause for others."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial

from waypost.errors import StorageError, StoreClosed
from waypost.logs import fields, get_logger
from waypost.storage.sqlite.queues.sweeps import sweep
from waypost.storage.sqlite.steps import repeat
from waypost.storage.sqlite.writer import Writer

__all__ = ["Sweeper"]

_logger = get_logger(__name__)

_LEAST_PAUSE_S = 0.005


class Sweeper:
    """The task that does what `sweeps` has left to do.

    Args:
        store: The store, as the log names it.
        writer: What to write with.
        held_back: The queues of which messages are being counted.
    """

    __slots__ = ("_held_back", "_store", "_task", "_writer")

    def __init__(self, store: str, writer: Writer, held_back: Collection[str]) -> None:
        self._held_back = held_back
        self._store = store
        self._writer = writer
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Do what is left to be done, unless that is under way. After a failure, the next call goes on."""
        if self._task is None or self._task.done():
            self._task = self._writer.loop.create_task(self._run())

    async def stop(self) -> None:
        """Stop after the step that is under way; the next opening goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            await repeat(self._writer, partial(sweep, held_back=self._held_back), least_pause_s=_LEAST_PAUSE_S)
        except StoreClosed:
            return
        except StorageError as problem:
            _logger.warning(
                "%s: what is gone still takes room, and is removed later: %s",
                self._store,
                problem,
                extra=fields(store=self._store),
            )
