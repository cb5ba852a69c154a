"""Looks after other processes beside this one: those with a store of their own, and the one that waits for this end.

Under another server than ``waypost serve`` a process is one of several that listen on the same address, or the next
one is started before it has ended. Waypost is not told of either, so it looks.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from waypost.listeners import can_tell, listens, neighbours
from waypost.logs import fields, get_logger
from waypost.owning import Knock, OwnerFile
from waypost.server.hub import Hub
from waypost.storage.base import Store

__all__ = ["Succession"]

logger = get_logger("waypost.serve")

_LOOK_EVERY_S = 0.5
_ASK_EVERY_S = 60.0


class Succession:
    """Looks after the processes beside a server.

    Args:
        hub: The server.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._store: Store | None = None
        self._asked_at: float | None = None

    def begin(self) -> None:
        """Note a request that opens a session; at the first one since the start, begin to look."""
        store = self._hub.services.store
        if store is self._store:
            return
        self._store, self._asked_at = store, None
        if not can_tell() or store.nodes is not None:
            return
        path = self._hub.store_file
        if path is None:
            self._hub.beside(self._warn())
        elif listens():  # now, as it may be stopped in a moment
            self._hub.beside(self._await_successor(path))

    def note_unknown_sid(self) -> None:
        """Note a request whose session this process does not know."""
        now = asyncio.get_running_loop().time()
        is_soon = self._asked_at is not None and now - self._asked_at < _ASK_EVERY_S
        if is_soon or not can_tell() or self._hub.services.store.nodes is not None:
            return
        self._asked_at = now
        self._hub.beside(self._explain())

    async def _explain(self) -> None:
        others = await asyncio.to_thread(neighbours)
        if others:
            logger.warning(
                "a request names a session that this process (%d) does not know, and %s on the same address: all"
                " requests of a client must reach the process that it is connected to. Use `waypost serve --workers"
                " N`, or one worker",
                os.getpid(),
                _listening(others),
                extra=fields(count=len(others)),
            )

    async def _warn(self) -> None:
        others = await asyncio.to_thread(neighbours)
        if others:
            logger.warning(
                "the store is in the memory of this process (%d), and %s on the same address: events, rooms and"
                " sessions of one process don't reach the clients of another, so events are lost. Use `waypost"
                " serve --workers N`, which shares one store, or one worker",
                os.getpid(),
                _listening(others),
                extra=fields(count=len(others)),
            )

    async def _await_successor(self, path: Path) -> None:
        """Stop as soon as another process waits for the file while this one is being stopped.

        A server that is being stopped listens no more; but it tells its application only when all requests are
        answered, and polls stay open for as long as nothing is sent.
        """
        knocked: Knock | None = None
        told: int | None = None
        while True:
            before, knocked = knocked, await asyncio.to_thread(OwnerFile.peek_knock, path)
            # A knock that does not change was left by a process that was killed.
            if knocked is not None and before is not None and knocked != before:
                if not await asyncio.to_thread(listens):
                    logger.info("process %d waits for the store, and this one is being stopped", knocked.pid)
                    await self._hub.close()
                if told != knocked.pid:
                    told = knocked.pid
                    logger.warning("process %d waits for the store, which this process (%d) has", told, os.getpid())
            await asyncio.sleep(_LOOK_EVERY_S)


def _listening(pids: list[int]) -> str:
    named = ", ".join(map(str, pids))
    return f"process {named} listens" if len(pids) == 1 else f"processes {named} listen"
