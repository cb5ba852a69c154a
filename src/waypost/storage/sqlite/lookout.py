"""Notices what happens to a store's file beside the writes of its own: writes of other programs, and its loss."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from waypost.errors import StoreLost
from waypost.logs import fields, get_logger
from waypost.storage.sqlite.guard import Guard
from waypost.storage.sqlite.turns import Turns, data_version

__all__ = ["Lookout"]

_logger = get_logger(__name__)

_LOOK_EVERY_S = 0.05


class Lookout:
    """Looks at the file in the writer's thread, and tells the event loop what it has seen.

    Args:
        store: The store, as the log names it.
        connection: The writer's connection.
        guard: Watches over the file; ``None`` for a visitor, which does not own it.
        turns: Learns that other programs write, too.
        tell: Calls a function in the event loop.
    """

    __slots__ = (
        "_connection",
        "_guard",
        "_has_told_loss",
        "_has_told_mark",
        "_lost_watchers",
        "_store",
        "_tell",
        "_turns",
        "_version",
        "_watchers",
    )

    def __init__(
        self,
        store: str,
        connection: sqlite3.Connection,
        guard: Guard | None,
        turns: Turns,
        tell: Callable[..., None],
    ) -> None:
        self._store = store
        self._connection = connection
        self._guard = guard
        self._turns = turns
        self._tell = tell
        self._watchers: list[Callable[[], None]] = []
        self._lost_watchers: list[Callable[[StoreLost], None]] = []
        self._has_told_loss = False
        self._has_told_mark = False
        # From now on; otherwise the first look would take the opening itself for another program's write.
        self._version = data_version(connection)

    def watch(self, changed: Callable[[], None]) -> None:
        """Call a function in the event loop when another program has written to the file."""
        self._watchers.append(changed)

    def watch_loss(self, lost: Callable[[StoreLost], None]) -> None:
        """Call a function in the event loop when the file is lost; at most once."""
        self._lost_watchers.append(lost)

    @property
    def has_watchers(self) -> bool:
        """Whether somebody wants to know of other programs' writes."""
        return bool(self._watchers)

    @property
    def pause_s(self) -> float | None:
        """The seconds after which something is to be looked at while nothing is written; ``None`` if nothing is."""
        guarding_s = None if self._guard is None else self._guard.wait_s
        if self._has_told_mark:
            guarding_s = _LOOK_EVERY_S
        if not self._watchers:
            return guarding_s
        return _LOOK_EVERY_S if guarding_s is None else min(_LOOK_EVERY_S, guarding_s)

    def look(self) -> None:
        """Look whether another program has written to the file."""
        try:
            version = data_version(self._connection)
        except sqlite3.Error as error:
            _logger.warning(
                "%s: can't tell whether another program has written to it: %s",
                self._store,
                error,
                extra=fields(store=self._store),
            )
            return
        if version != self._version:
            self._version = version
            self._turns.note_others()
            if self._guard is not None:
                self._guard.note_others()
            self._tell(_call_all, self._watchers)

    def note_loss(self, lost: StoreLost) -> None:
        """Note that the file is lost."""
        if not self._has_told_loss:
            self._has_told_loss = True
            _logger.critical(
                "%s: nothing more can be stored: %s", self._store, lost.problem, extra=fields(store=self._store)
            )
            self._tell(_call_all, self._lost_watchers, lost)

    def mark_moved(self) -> None:
        """Note that the mark in the file was moved."""
        self._has_told_mark = False

    def mark_failed(self, error: sqlite3.Error) -> None:
        """Note that the mark in the file could not be moved."""
        if not self._has_told_mark:
            self._has_told_mark = True
            _logger.warning(
                "%s: the mark in it can't be moved, and is tried until it can: %s",
                self._store,
                error,
                extra=fields(store=self._store),
            )


def _call_all(functions: list[Callable[..., None]], *arguments: object) -> None:
    for function in functions:
        function(*arguments)
