"""The rows of other nodes, applied to the journals in the order of the stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from waypost.errors import StoreLost
from waypost.logs import get_logger
from waypost.storage.clock import StoreClock
from waypost.storage.following import Follower
from waypost.storage.remote.connection import Connection
from waypost.storage.remote.journal import RemoteJournal
from waypost.storage.store_numbers import StoreCounts
from waypost.storage.trouble import STUCK_S, Trouble
from waypost.storage.wire import reports

__all__ = ["Following"]

_logger = get_logger(__name__)

_SILENT: Final = "the parent process has said nothing for {:.0f} s: it stands still, or the machine is overloaded"


class Following:
    """Applies the rows of other nodes to the journals that this node has opened, and calls their followers.

    Args:
        connection: The way to the host.
        clock: The store's clock.
    """

    __slots__ = ("_clock", "_counts", "_journals", "_loss_watchers", "_lost", "_told_at", "_troubles", "_watchers")

    def __init__(self, connection: Connection, clock: StoreClock) -> None:
        self._clock = clock
        self._journals: dict[int, RemoteJournal] = {}
        self._watchers: list[Callable[[], None]] = []
        self._lost: StoreLost | None = None
        self._troubles: list[Trouble] = []
        self._counts = StoreCounts()
        # None until the host has told for the first time; one that does not beat never does.
        self._told_at: float | None = None
        self._loss_watchers: list[Callable[[StoreLost], None]] = []
        connection.ended = self._ended
        connection.handlers |= {
            reports.Appended: self._appended,
            reports.MovedMatching: self._moved,
            reports.EndedMatching: self._ended_matching,
            reports.Claimed: self._claimed,
            reports.Kept: self._kept,
            reports.Changed: self._changed,
            reports.Time: self._told_time,
            reports.Condition: self._told_condition,
        }

    def add(self, journal: RemoteJournal) -> None:
        """Apply what comes for a journal from now on."""
        self._journals[journal.number] = journal

    def remove(self, journal: RemoteJournal) -> None:
        """Forget a journal that was dropped."""
        self._journals.pop(journal.number, None)

    def watch(self, changed: Callable[[], None]) -> None:
        """Call a function when another program has written to the store."""
        self._watchers.append(changed)

    def watch_loss(self, lost: Callable[[StoreLost], None]) -> None:
        """Call a function when the host is gone, or can store nothing any more."""
        self._loss_watchers.append(lost)

    # Rows may still come for a journal that this node has no longer open.

    def _appended(self, row: reports.Appended) -> None:
        journal = self._journals.get(row.journal)
        if journal is None:
            return
        journal.apply(row.position, len(row.record))
        if journal.follower is not None:
            journal.follower.appended(row.position, row.record)

    def _follower(self, number: int) -> Follower | None:
        journal = self._journals.get(number)
        return None if journal is None else journal.follower

    def _moved(self, row: reports.MovedMatching) -> None:
        follower = self._follower(row.journal)
        if follower is not None:
            move = follower.joined if row.joins else follower.left
            move(row.rooms, row.except_, row.moved)

    def _ended_matching(self, row: reports.EndedMatching) -> None:
        follower = self._follower(row.journal)
        if follower is not None:
            follower.ended(row.rooms, row.except_, row.sessions, row.note)

    def _claimed(self, row: reports.Claimed) -> None:
        follower = self._follower(row.journal)
        if follower is not None:
            follower.claimed(row.key)

    def _kept(self, row: reports.Kept) -> None:
        journal = self._journals.get(row.journal)
        if journal is not None:
            journal.kept(row.oldest, row.size_bytes)

    def _changed(self, _: reports.Changed) -> None:
        for changed in self._watchers:
            changed()

    def _told_time(self, time: reports.Time) -> None:
        self._clock.catch_up(time.now, time.ahead_s)

    def _told_condition(self, condition: reports.Condition) -> None:
        self._troubles, self._told_at = condition.troubles, self._clock.now()
        if condition.counts is not None:
            self._counts.add(condition.counts)

    def take_counts(self) -> StoreCounts:
        """Return what this node was told of commits since the last call."""
        counts, self._counts = self._counts, StoreCounts()
        return counts

    def troubles(self) -> tuple[Trouble, ...]:
        """Return what keeps the store from taking all that it should."""
        if self._lost is not None:
            return (Trouble("lost", 0.0, self._lost.problem),)
        if self._told_at is None:
            return ()
        silent_s = self._clock.now() - self._told_at
        if silent_s > STUCK_S:
            return (Trouble("unreachable", silent_s, _SILENT.format(silent_s)),)
        return tuple(replace(one, since_s=one.since_s + silent_s) for one in self._troubles)

    def _ended(self, lost: StoreLost) -> None:
        self._lost = lost
        _logger.critical("nothing more can be stored: %s", lost)
        for ended in self._loss_watchers:
            ended(lost)
