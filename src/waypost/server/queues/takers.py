"""Who of those that are attached to a consumer gets its next message."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from waypost.server.queues.delivery import Attachment

__all__ = ["Takers"]


class Takers:
    """Those that are attached, in the order in which they came, and the rotation in which they take turns.

    Args:
        newest_only: Whether only whoever came last is served, as in strict order.
    """

    __slots__ = ("_all", "_newest_only", "_rotation")

    def __init__(self, *, newest_only: bool) -> None:
        self._newest_only = newest_only
        self._all: dict[Attachment, None] = {}
        self._rotation: deque[Attachment] = deque()

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, attachment: Attachment) -> bool:
        return attachment in self._all

    def __iter__(self) -> Iterator[Attachment]:
        return iter(self._all)

    def add(self, attachment: Attachment) -> None:
        """Add one that has come."""
        self._all[attachment] = None
        self.enter_rotation(attachment)

    def remove(self, attachment: Attachment) -> None:
        """Remove one that is gone."""
        del self._all[attachment]

    def enter_rotation(self, attachment: Attachment) -> None:
        """Put one at the end of the rotation if it has credit and is not in it."""
        if not attachment.in_rotation and attachment.has_credit and attachment in self._all:
            attachment.in_rotation = True
            self._rotation.append(attachment)

    def all_enter_rotation(self) -> None:
        """Put all that have credit into the rotation."""
        for attachment in self._all:
            self.enter_rotation(attachment)

    def any(self) -> bool:
        """Tell whether somebody has credit."""
        if self._newest_only:
            served = self.served()
            return served is not None and served.has_credit
        while self._rotation and not (self._rotation[0].has_credit and self._rotation[0] in self._all):
            self._rotation.popleft().in_rotation = False
        return bool(self._rotation)

    def take(self, size: int) -> Attachment | None:
        """Return who gets a message of so many bytes; ``None`` if nobody can take it now."""
        if self._newest_only:
            served = self.served()
            return served if served is not None and served.carrier.can_take(size) else None
        while self.any():
            attachment = self._rotation.popleft()
            attachment.in_rotation = False
            if attachment.carrier.can_take(size):
                return attachment
        return None

    def served(self) -> Attachment | None:
        """Return who came last, of those that can be served."""
        for attachment in reversed(self._all):
            if attachment.carrier.is_live and not attachment.is_silent and not attachment.is_leaving:
                return attachment
        return None
