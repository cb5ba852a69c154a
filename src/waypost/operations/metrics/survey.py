"""Reads what only the store knows, at a pace that leaves the store to the service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from waypost.errors import StorageError
from waypost.logs import get_logger
from waypost.operations.metrics.surveyed import QueueDepth, Surveyed
from waypost.storage.base import Store

__all__ = ["Survey"]

logger = get_logger("waypost.metrics")

_PAGE = 500
_PAUSES = 20.0
"""After each page of queues there is a pause of so many times the seconds that it took."""
_FRESH_S = 5.0
"""What is younger is not read again."""
_PATIENCE_S = 1.0
"""A scrape waits so long for what is being read; then it shows what was read before."""


@dataclass(frozen=True, slots=True)
class _Look:
    """A reading of the store that is under way."""

    store: Store
    is_done: asyncio.Event


class Survey:
    """Reads what only the store knows, when somebody asks for it, and not more often than every few seconds.

    With very many queues that keep something it takes minutes, and scrapes meanwhile show what was read before.

    Args:
        store: Returns the store; ``None`` while it can't be read here.
        label: Returns the name under which a queue is counted.
        name_of: Returns the name under which a namespace is counted.
        beside: Runs a task that ends with the server.
    """

    __slots__ = ("_beside", "_label", "_last", "_look", "_name_of", "_store")

    def __init__(
        self,
        store: Callable[[], Store | None],
        label: Callable[[str], str],
        name_of: Callable[[str], str],
        beside: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._store = store
        self._label = label
        self._name_of = name_of
        self._beside = beside
        self._last: tuple[Store, Surveyed] | None = None
        self._look: _Look | None = None

    async def ask(self) -> Surveyed | None:
        """Return what was read last, after a moment's wait for what is older than a few seconds. May be cancelled.

        Returns:
            What was read; ``None`` before the first time, and while the store can't be read.
        """
        store = self._store()
        if store is None:
            return None
        known = self._known(store)
        if known is not None and asyncio.get_running_loop().time() - known.read_at < _FRESH_S:
            return known
        if self._look is None or self._look.store is not store:
            # The server may have been started anew, on another event loop.
            self._look = _Look(store, asyncio.Event())
            self._beside(self._run(self._look))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._look.is_done.wait()
        except TimeoutError:
            logger.debug("a scrape shows of queues and journals what was read before")
        return self._known(store)

    def _known(self, store: Store) -> Surveyed | None:
        return self._last[1] if self._last is not None and self._last[0] is store else None

    async def _run(self, look: _Look) -> None:
        try:
            self._last = look.store, await self._survey(look.store)
        except StorageError as problem:
            # What was read before would be taken for the present.
            self._last = None
            logger.warning("the metrics of queues and journals can't be read: %s", problem)
        finally:
            look.is_done.set()
            if self._look is look:
                self._look = None

    async def _survey(self, store: Store) -> Surveyed:
        loop = asyncio.get_running_loop()
        queues: dict[str, QueueDepth] = {}
        after, is_last = "", False
        while not is_last:
            began = loop.time()
            rows = await store.queues(after=after, max_queues=_PAGE, idle=False)
            now = store.clock.now()
            for row in rows:
                queues.setdefault(self._label(row.name), QueueDepth()).add(row, now)
            is_last = len(rows) < _PAGE
            if not is_last:
                after = rows[-1].name
                await asyncio.sleep(_PAUSES * (loop.time() - began))
        size = await store.size()
        now = store.clock.now()
        reach: dict[str, float] = {}
        for journal, oldest_at in size.oldest_at.items():
            name = self._name_of(journal)
            reach[name] = min(reach.get(name, now - oldest_at), now - oldest_at)
        return Surveyed(loop.time(), queues, reach, size.bytes, size.free_bytes)
