"""Who of those that are attached to a consumer gets its next message."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from waypost.server.queues.delivery import Attachment

__all__ = ["Takers"]


class Takers:
    """Those that are attached, in the order in which they came, and the row in which they take turns.

    Args:
        newest_only: Whether only whoever came last is served, as in strict order.
    """

    __slots__ = ("_all", "_newest_only", "_row")

    def __init__(self, *, newest_only: bool) -> None:
        self._newest_only = newest_only
        self._all: dict[Attachment, None] = {}
        self._row: deque[Attachment] = deque()

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, attachment: Attachment) -> bool:
        return attachment in self._all

    def __iter__(self) -> Iterator[Attachment]:
        return iter(self._all)

    def add(self, attachment: Attachment) -> None:
        """Add one that has come."""
        self._all[attachment] = None
        self.line_up(attachment)

    def remove(self, attachment: Attachment) -> None:
        """Remove one that is gone."""
        del self._all[attachment]

    def line_up(self, attachment: Attachment) -> None:
        """Let one stand in the row if it has credit and does not stand there."""
        if not attachment.awaits_turn and attachment.has_credit and attachment in self._all:
            attachment.awaits_turn = True
            self._row.append(attachment)

    def line_all_up(self) -> None:
        """Let all that have credit stand in the row."""
        for attachment in self._all:
            self.line_up(attachment)

    def any(self) -> bool:
        """Tell whether somebody has credit."""
        if self._newest_only:
            served = self.served()
            return served is not None and served.has_credit
        while self._row and not (self._row[0].has_credit and self._row[0] in self._all):
            self._row.popleft().awaits_turn = False
        return bool(self._row)

    def take(self, size: int) -> Attachment | None:
        """Return who gets a message of so many bytes; ``None`` if nobody can take it now."""
        if self._newest_only:
            served = self.served()
            return served if served is not None and served.carrier.can_take(size) else None
        while self.any():
            attachment = self._row.popleft()
            attachment.awaits_turn = False
            if attachment.carrier.can_take(size):
                return attachment
        return None

    def served(self) -> Attachment | None:
        """Return who came last, of those that can be served."""
        for attachment in reversed(self._all):
            if attachment.carrier.is_live and not attachment.is_silent and not attachment.is_leaving:
                return attachment
        return None
