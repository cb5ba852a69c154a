"""The names under which queues are counted: few, although an application may have a queue for each of its users."""

from __future__ import annotations

from collections.abc import Sequence

from waypost.server.watching.counters import MOST_NAMES, OTHER
from waypost.server.watching.queue_counters import QueueCounters, QueueLoad

__all__ = ["QueueLabels"]

_LONGEST = 100


class QueueLabels:
    """The names under which queues are counted, and what is counted under each.

    A queue is counted under its own name, or under its name up to the first colon: ``inbox:7`` is one of ``inbox:*``.
    Names beyond `MOST_NAMES`, and those that are longer than 100 characters, are counted together.

    Args:
        totals: The totals by name, to which it adds names.
        wanted: Names of queues that are counted alone; with ``*`` at the end, beginnings of names.

    Attributes:
        loads: The present numbers, by name.
    """

    __slots__ = ("_alone", "_beginnings", "_totals", "loads")

    def __init__(self, totals: dict[str, QueueCounters], wanted: Sequence[str]) -> None:
        self.loads: dict[str, QueueLoad] = {}
        self._totals = totals
        self._alone = frozenset(wanted)
        # The longest one that fits counts.
        self._beginnings = sorted((one[:-1] for one in wanted if one.endswith("*")), key=len, reverse=True)

    def label(self, queue: str) -> str:
        """Return the name under which a queue is counted."""
        label = self._wish(queue)
        if label not in self._totals:
            if len(self._totals) >= MOST_NAMES:
                label = OTHER
            self._totals.setdefault(label, QueueCounters())
        return label

    def totals(self, queue: str) -> QueueCounters:
        """Return the totals with which a queue is counted."""
        return self._totals[self.label(queue)]

    def load(self, queue: str) -> QueueLoad:
        """Return the present numbers with which a queue is counted."""
        return self.loads.setdefault(self.label(queue), QueueLoad())

    def renew(self) -> None:
        """Begin the present numbers anew: nothing is attached any more."""
        self.loads.clear()

    def _wish(self, queue: str) -> str:
        if queue in self._alone:
            return queue
        for beginning in self._beginnings:
            if queue.startswith(beginning):
                return f"{beginning}*"
        kind, colon, _ = queue.partition(":")
        # Who may name queues, as with a key of the HTTP API, must not make scrapes huge.
        return OTHER if len(kind) > _LONGEST else f"{kind}:*" if colon else queue
