"""Chooses which of the attached sockets and workers gets a consumer's next message."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from waypost.server.queues.delivery import Attachment
from waypost.server.watching.queue_counters import QueueLoad

__all__ = ["Takers"]


class Takers:
    """The attached sockets and workers in the order of arrival, and the rotation in which they get messages.

    Args:
        load: The present numbers with which the consumer's queue is counted.
        newest_only: True if only the newest attachment gets messages, as in strict order.
    """

    __slots__ = ("_all", "_load", "_newest_only", "_rotation")

    def __init__(self, load: QueueLoad, *, newest_only: bool) -> None:
        self._load = load
        self._newest_only = newest_only
        self._all: dict[Attachment, None] = {}
        # A plain dict would look for its first entry through all that were removed.
        self._rotation: OrderedDict[Attachment, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, attachment: Attachment) -> bool:
        return attachment in self._all

    def __iter__(self) -> Iterator[Attachment]:
        return iter(self._all)

    def add(self, attachment: Attachment) -> None:
        """Add an attachment."""
        self._all[attachment] = None
        self._load.attached += 1
        self.enter_rotation(attachment)

    def remove(self, attachment: Attachment) -> None:
        """Remove an attachment."""
        del self._all[attachment]
        self._load.attached -= 1
        self._rotation.pop(attachment, None)

    def yield_up(self) -> None:
        """Note that all go on at another runner, which counts them from now on."""
        self._load.attached -= len(self._all)
        self._load = QueueLoad()

    def enter_rotation(self, attachment: Attachment) -> None:
        """Put an attachment at the end of the rotation, if it has credit and is not in it."""
        if attachment not in self._rotation and attachment.has_credit and attachment in self._all:
            self._rotation[attachment] = None

    def all_enter_rotation(self) -> None:
        """Put all attachments with credit into the rotation."""
        for attachment in self._all:
            self.enter_rotation(attachment)

    def any(self) -> bool:
        """Return whether an attachment has credit."""
        if self._newest_only:
            served = self.served()
            return served is not None and served.has_credit
        while self._rotation:
            if next(iter(self._rotation)).has_credit:
                return True
            self._rotation.popitem(last=False)
        return False

    def take(self, size: int) -> Attachment | None:
        """Return the attachment that gets a message of ``size`` bytes; ``None`` if none can take it now."""
        if self._newest_only:
            served = self.served()
            return served if served is not None and served.carrier.can_take(size) else None
        while self._rotation:
            attachment, _ = self._rotation.popitem(last=False)
            if attachment.has_credit and attachment.carrier.can_take(size):
                return attachment
        return None

    def served(self) -> Attachment | None:
        """Return the newest attachment that can get messages; ``None`` if there is none."""
        for attachment in reversed(self._all):
            if attachment.carrier.is_live and not attachment.is_silent and not attachment.is_leaving:
                return attachment
        return None
