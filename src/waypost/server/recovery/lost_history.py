"""Tells from what clients have seen whether the store is an older copy, without believing any single one.

A client can send any offset, so one that the store does not know proves nothing. Two things it can't make up: that
the store had its session when it was opened, so it may have seen what a restored copy has lost; and that clients of
several addresses say the same.
"""

from __future__ import annotations

from waypost.errors import shorten
from waypost.logs import get_logger
from waypost.server.basics.handshake import Handshake
from waypost.storage.base import Journal, SessionRow

__all__ = ["LostHistory"]

logger = get_logger("waypost.recovery")

_WITNESSES = 3
"""From so many addresses, clients must have seen what the store does not know."""


class LostHistory:
    """Collects the unknown offsets that clients of one namespace come back with, and warns once.

    Args:
        journal: The namespace's journal, just opened.
    """

    __slots__ = ("_journal", "_opened_at", "_witnesses")

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._opened_at = journal.top
        self._witnesses: set[str] = set()

    def note(self, stored: SessionRow, offset: str, handshake: Handshake) -> None:
        """Note an offset that the store does not know.

        Args:
            stored: The session of the client that sent it.
            offset: The offset.
            handshake: The client's handshake.
        """
        name, shown = self._journal.name, shorten(offset)
        logger.info("a client of %s sent offset %s, which this store does not know", name, shown)
        is_from_before = stored.start < self._opened_at
        if not is_from_before or len(self._witnesses) == _WITNESSES:
            return
        self._witnesses.add(handshake.counted_for or handshake.address)
        if len(self._witnesses) == _WITNESSES:
            logger.warning(
                "clients of %s from %d addresses, with sessions from before the start, have seen offsets that this "
                "store does not know, such as %s: it is an older copy, and what it had kept since is lost",
                name,
                _WITNESSES,
                shown,
            )
