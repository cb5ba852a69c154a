"""A node's identity for the engine: its number, and its incarnation, which changes when a write's fate is unknown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from waypost.logs import fields, get_logger
from waypost.storage.postgres.driver import Connection, Pool

__all__ = ["Entered", "NodeIdentity"]

_logger = get_logger(__name__)

_RENEW: Final = "SELECT o_incarnation, o_was_dead FROM waypost.renew_1($1, $2)"

Entered = tuple[int, int]
"""A node's number and its incarnation."""


class NodeIdentity:
    """This node, in its present incarnation; an `Identity` of lanes.

    Args:
        name: The node's name; no other node ever has it.
        entered: Its number and incarnation.
        pool: The connection on which it takes another incarnation.
        enter: Makes the node known to an engine that does not know it any more.

    Attributes:
        name: The node's name.
    """

    __slots__ = ("_came_back", "_enter", "_entered", "_pool", "_renewing", "name")

    def __init__(
        self, name: str, entered: Entered, pool: Pool, enter: Callable[[Connection], Awaitable[Entered]]
    ) -> None:
        self.name = name
        self._entered = entered
        self._pool = pool
        self._enter = enter
        self._renewing: asyncio.Future[int] | None = None
        self._came_back: Callable[[], None] = lambda: None

    @property
    def id(self) -> int:
        """The node's number."""
        return self._entered[0]

    @property
    def incarnation(self) -> int:
        """The node's present incarnation."""
        return self._entered[1]

    def watch(self, came_back: Callable[[], None]) -> None:
        """Call a function, instead of an earlier one, when the node is alive again after it was dead for others."""
        self._came_back = came_back

    async def renew(self, old: int) -> int:
        """Have a later incarnation than one, and return it: calls of earlier ones that still run change nothing.

        A node that others have declared dead is alive again with it, and has its sessions that nobody took. It may be
        cancelled; others may wait for the same.

        Raises:
            EngineGone: The engine can't be reached.
            Refusal: The engine refuses it.
        """
        if self.incarnation != old:
            return self.incarnation
        if self._renewing is None:
            self._renewing = asyncio.ensure_future(self._renew())
            self._renewing.add_done_callback(self._renewed)
        return await asyncio.shield(self._renewing)

    async def _renew(self) -> int:
        async with self._pool.take() as connection:
            row = await connection.row(_RENEW, self.id, self.name)
            assert row is not None
            if row["o_incarnation"] is None:
                _logger.warning(
                    "node %s: the engine does not know it any more; it enters anew",
                    self.name,
                    extra=fields(node=self.name),
                )
                self._entered = await self._enter(connection)
            else:
                self._entered = self.id, int(row["o_incarnation"])
        if row["o_incarnation"] is None or row["o_was_dead"]:
            self._came_back()
        return self.incarnation

    def _renewed(self, renewing: asyncio.Future[int]) -> None:
        self._renewing = None
        if not renewing.cancelled():
            # Retrieved here too: who asked may have gone.
            renewing.exception()
