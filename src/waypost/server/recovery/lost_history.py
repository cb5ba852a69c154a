"""Recognises an older copy of the store by what clients have seen, where nothing else tells of it.

A copy of the store's whole directory looks like the directory after a crash. A client whose session is in the store
since before its opening, and that has seen what the store does not know, tells of it. Then no session from before the
opening can be proven complete, and all of them start anew. A client can make an offset up, so the log has a warning
only when clients of several addresses say the same.
"""

from __future__ import annotations

from waypost.errors import shorten
from waypost.logs import fields, get_logger
from waypost.server.basics.handshake import Handshake
from waypost.server.services import Services
from waypost.storage.base import Journal
from waypost.storage.journal_records import SessionRow

__all__ = ["LostHistory"]

logger = get_logger("waypost.recovery")

_WITNESSES = 3
"""From so many addresses, clients must have seen what the store does not know."""


class LostHistory:
    """Collects the unknown offsets that clients of one namespace come back with, and warns once.

    Args:
        journal: The namespace's journal.
        opened_at: The position of its last event at the store's opening.
        services: The services that the server's parts share; here, the other servers of a cluster.
    """

    __slots__ = ("_is_found", "_journal", "_opened_at", "_services", "_witnesses")

    def __init__(self, journal: Journal, opened_at: int, services: Services) -> None:
        self._journal = journal
        self._opened_at = opened_at
        self._services = services
        self._witnesses: set[str] = set()
        self._is_found = False

    def may_have_missed(self, stored: SessionRow) -> bool:
        """Return whether a session may lack events that were lost, although its client's offset is known."""
        if stored.start >= self._opened_at:
            return False
        bus = self._services.bus
        return self._is_found or (bus is not None and self._journal.name in bus.lost_histories)

    def note(self, stored: SessionRow, offset: str, handshake: Handshake) -> None:
        """Note an offset that the store does not know.

        Args:
            stored: The session of the client that sent it.
            offset: The offset.
            handshake: The client's handshake.
        """
        name, shown = self._journal.name, shorten(offset)
        logger.info(
            "a client of %s sent offset %s, which this store does not know", name, shown, extra=fields(namespace=name)
        )
        is_from_before = stored.start < self._opened_at
        if is_from_before and not self._is_found:
            self._is_found = True
            if self._services.bus is not None:
                self._services.bus.tell_history_lost(name)
            logger.info(
                "%s may be an older copy: all sessions from before the start begin anew",
                name,
                extra=fields(namespace=name),
            )
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
                extra=fields(namespace=name, count=_WITNESSES),
            )
