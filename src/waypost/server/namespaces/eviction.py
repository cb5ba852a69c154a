"""Makes room for a new child namespace by removing a child that nobody would miss."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from waypost.errors import MalformedPacket
from waypost.server.namespaces.core import NamespaceCore
from waypost.server.recovery.snapshot import Snapshot
from waypost.storage.base import Journal
from waypost.storage.journal_records import SessionRow

__all__ = ["Eviction"]

_MAX_SESSIONS = 1_000
"""A child with more sessions stays."""
_PAUSE_S = 1.0
"""Seconds between two searches. A search looks at all children, and clients can ask for one at any time."""


class Eviction:
    """Chooses the child namespaces to remove when there are too many.

    A child may go if it has no members, if its journal holds no event, and if its sessions have no data and no rooms
    but their own. The child that was empty for longest goes first.

    Args:
        children: Returns the children that clients made.
        is_child: Returns whether a namespace is still one of them.
    """

    def __init__(
        self, children: Callable[[], Iterable[NamespaceCore]], is_child: Callable[[NamespaceCore], bool]
    ) -> None:
        self._children = children
        self._is_child = is_child
        self._candidates: deque[NamespaceCore] = deque()
        self._searches_at = 0.0

    async def choose(self) -> tuple[NamespaceCore, list[SessionRow]] | None:
        """Return a child to remove and its sessions; ``None`` if there is no such child.

        The caller must remove the child without another wait.

        Raises:
            StorageError: The store did not answer.
        """
        self._search()
        while self._candidates:
            child = self._candidates.popleft()
            sessions = await self._sessions_to_end(child) if self._may_go(child) else None
            if sessions is not None and self._may_go(child):
                return child, sessions
        return None

    def _search(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._candidates and now >= self._searches_at:
            self._searches_at = now + _PAUSE_S
            idle = [child for child in self._children() if child.is_idle]
            self._candidates.extend(sorted(idle, key=lambda child: child.empty_since))

    def _may_go(self, child: NamespaceCore) -> bool:
        return child.is_idle and self._is_child(child) and not _has_events(child.feed.journal)

    async def _sessions_to_end(self, child: NamespaceCore) -> list[SessionRow] | None:
        """Return a child's sessions; ``None`` if one of them is worth keeping."""
        await child.ready()
        journal = child.feed.journal
        if journal is None:
            return []
        if _has_events(journal):
            return None
        sessions = await journal.sessions(_MAX_SESSIONS + 1)
        if len(sessions) > _MAX_SESSIONS or any(map(_is_worth_keeping, sessions)):
            return None
        return sessions


def _has_events(journal: Journal | None) -> bool:
    return journal is not None and journal.top >= journal.oldest


def _is_worth_keeping(session: SessionRow) -> bool:
    if session.expired or session.damaged:
        return False
    if session.expires_at is None:
        return True  # its client is at another node
    try:
        return bool(session.memberships or Snapshot.decode(session.data).data)
    except MalformedPacket:
        return False
