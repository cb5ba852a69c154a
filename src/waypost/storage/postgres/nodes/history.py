"""The engine's history: whether what this node has applied is still what the engine has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from waypost.logs import fields, get_logger
from waypost.storage.postgres.driver import Connection

__all__ = ["Applied", "History"]

_logger = get_logger(__name__)

_CHECK: Final = "SELECT waypost.history_check_1($1, $2, $3, $4, $5, $6)"
_GOES_ON: Final = "SELECT waypost.goes_on_1($1)"
_REASON: Final = "SELECT reason FROM waypost.era WHERE name = $1"
# The last end of all sessions, if no other server has started since.
_UNTOLD: Final = """
    SELECT era.reason FROM waypost.era WHERE n = (SELECT max(n) FROM waypost.era WHERE ends_sessions)
        AND NOT EXISTS (SELECT FROM waypost.node WHERE id <> $1 AND address <> '' AND started_at > era.at)
"""


class Applied(NamedTuple):
    """The last row of a journal that a node has applied.

    Attributes:
        journal: The journal's number.
        tick: The row's tick.
        node: The node that wrote it.
        incarnation: That node's incarnation.
        batch: The number of the call that wrote it.
    """

    journal: int
    tick: int
    node: int
    incarnation: int
    batch: int


class History:
    """Compares the engine's history with that of this node.

    Args:
        store: The store, as errors name it.
        applied: Returns the last row that was applied of each journal which has rows.
        forked: Called when an era has begun with which all sessions end: what the node has applied may never have
            been.

    Attributes:
        era: The name of the era that the node knows; ``None`` before its first connection.
    """

    __slots__ = ("_applied", "_forked", "_store", "era")

    def __init__(
        self, store: str, applied: Callable[[], Sequence[Applied]], forked: Callable[[], Awaitable[None]]
    ) -> None:
        self._store = store
        self._applied = applied
        self._forked = forked
        self.era: str | None = None

    async def check(self, connection: Connection) -> None:
        """Compare this node's history with the engine's, on a new connection, before anything else is done with it.

        If the engine has lost what it had confirmed, an era begins: generations of all journals and queues, and the
        end of all sessions. The first node that sees it begins the era; the others find it.

        Raises:
            EngineGone: The connection broke.
            Refusal: The engine refuses it; a standby does (WP009).
        """
        applied = self._applied()
        columns = [*zip(*applied, strict=True)] or [()] * 5
        era = str(await connection.value(_CHECK, self.era, *columns))
        known, self.era = self.era, era
        if known is not None and known != era:
            if await connection.value(_GOES_ON, known):
                # After a synchronous failover, the rows of the log go on behind those that were applied.
                _logger.warning(
                    "store %s: the engine's history goes on; see the table waypost.era",
                    self._store,
                    extra=fields(store=self._store),
                )
                return
            self._tell_ended(str(await connection.value(_REASON, era)))
            await self._forked()

    async def tell_at_start(self, connection: Connection, node: int) -> None:
        """Log it if this node is the first server after an end of all sessions. Raises as `check`."""
        for row in await connection.rows(_UNTOLD, node):
            self._tell_ended(str(row["reason"]))

    def _tell_ended(self, reason: str) -> None:
        _logger.error(
            "store %s: all sessions have ended: %s. Each client that comes back starts anew, with the reason "
            '"generation", and should load its state afresh; see the table waypost.era',
            self._store,
            reason,
            extra=fields(store=self._store),
        )
