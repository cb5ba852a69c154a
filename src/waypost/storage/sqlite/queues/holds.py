"""The messages that functions of this process hold: noted lazily, and counted as lost deliveries after a kill."""

from __future__ import annotations

import asyncio
import sqlite3

from waypost.logs import fields, get_logger
from waypost.storage.queue_records import Attempt
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.queues.consumers import find
from waypost.storage.sqlite.queues.settle import retry
from waypost.storage.sqlite.writer import Writer

__all__ = ["Holds", "blame_holders", "forget_holders"]

_logger = get_logger(__name__)

# What is held for less than this is never written.
_WRITE_AFTER_S = 0.03
_REASON = "the server ended while it was in hand"

# Queue, consumer, holder.
_Key = tuple[str, str, str]


class Holds:
    """Gathers notes and writes them a little later.

    Args:
        store: The store, as errors name it.
        writer: What to write with.
    """

    __slots__ = ("_noted", "_store", "_timer", "_writer", "_written")

    def __init__(self, store: str, writer: Writer) -> None:
        self._store = store
        self._writer = writer
        self._noted: dict[_Key, int | None] = {}
        # What stands in the file, of holders that hold something there.
        self._written: dict[_Key, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def note(self, queue: str, consumer: str, holder: str, position: int | None) -> None:
        """Note the oldest message that a holder has in hand."""
        self._writer.check()
        key = (queue, consumer, holder)
        if self._written.get(key) == position:
            self._noted.pop(key, None)
            return
        self._noted[key] = position
        if self._timer is None:
            self._timer = self._writer.loop.call_later(_WRITE_AFTER_S, self._write)

    def stop(self) -> None:
        """Write nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._noted = {}

    def _write(self) -> None:
        self._timer = None
        noted, self._noted = self._noted, {}
        if not noted:
            return
        for key, position in noted.items():
            if position is None:
                self._written.pop(key, None)
            else:
                self._written[key] = position
        self._writer.submit(lambda tx: _write(tx, noted)).add_done_callback(self._heed)

    def _heed(self, writing: asyncio.Future[None]) -> None:
        if not writing.cancelled() and (failure := writing.exception()) is not None:
            _logger.warning(
                "%s: what is in hand could not be noted: %s", self._store, failure, extra=fields(store=self._store)
            )


def _write(tx: Transaction, noted: dict[_Key, int | None]) -> None:
    for (queue, name, holder), position in noted.items():
        consumer = find(tx.connection, queue, name)
        if consumer is None:
            continue
        if position is None:
            tx.connection.execute("DELETE FROM holding WHERE consumer = ? AND holder = ?", (consumer.id, holder))
        else:
            tx.connection.execute(
                "INSERT OR REPLACE INTO holding (consumer, holder, position) VALUES (?, ?, ?)",
                (consumer.id, holder, position),
            )


def forget_holders(tx: Transaction) -> None:
    """Remove all notes, because no message is held any more."""
    tx.connection.execute("DELETE FROM holding")


def blame_holders(connection: sqlite3.Connection, now: float) -> None:
    """Count a lost delivery for each message that was held when the store was killed."""
    # In one transaction, so that a kill while this runs counts nothing twice.
    connection.execute("BEGIN IMMEDIATE")
    rows = connection.execute(
        "SELECT DISTINCT q.name, c.name, h.position, coalesce(o.failures, 0), coalesce(o.losses, 0), "
        "coalesce(o.breaks, 0), coalesce(o.breaks_since, 0), coalesce(o.deaths, 0) FROM holding h "
        "JOIN consumer c ON c.id = h.consumer JOIN queue q ON q.id = c.queue "
        "LEFT JOIN outstanding o ON o.consumer = coalesce(c.ledger, c.id) AND o.position = h.position"
    ).fetchall()
    for queue, name, position, failures, losses, breaks, breaks_since, deaths in rows:
        consumer = find(connection, queue, name)
        if consumer is not None:
            attempt = Attempt(
                position,
                failures,
                losses + 1,
                "lost",
                _REASON,
                now,
                breaks=breaks,
                breaks_since=breaks_since,
                deaths=deaths + 1,
            )
            retry(connection, consumer, [attempt])
    connection.execute("DELETE FROM holding")
    connection.execute("COMMIT")
