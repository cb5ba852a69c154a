"""The ledger: the shop's parcels, the driver's deliveries, and the verdict. It has no clock and no connection.

It checks two promises; `waypost.demo.service` explains why they differ.

- Queue: the driver handles every parcel of the shop once, in the order of sending. If an acknowledgement is lost, the
  queue delivers the parcel again, and the driver recognises its id. Such a repetition is counted and shown; it is no
  fault.
- Board: every announcement of an accepted attempt arrives once and in order. An announcement of an attempt without an
  answer may arrive or not, but not twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

__all__ = ["Announcement", "Ledger", "Verdict"]


class Announcement(NamedTuple):
    """An announcement on the board, or an attempt of the shop that leads to one.

    Attributes:
        parcel_id: The parcel's id.
        attempt: The number of the shop's attempt, from 1.
    """

    parcel_id: str
    attempt: int

    def __str__(self) -> str:
        return f"{self.parcel_id} (attempt {self.attempt})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result of one check, for the queue or the board; each fault is named in words.

    Attributes:
        way: ``"queue"`` or ``"board"``.
        promised: The number of parcels or announcements that had to arrive.
        arrived: The number of different ones that arrived.
        missing: Promised, and did not arrive.
        doubled: Arrived more than once.
        misplaced: Arrived before something that was sent earlier.
        unknown: Arrived, and was never sent.
    """

    way: str
    promised: int
    arrived: int
    missing: list[str]
    doubled: list[str]
    misplaced: list[str]
    unknown: list[str]

    @property
    def faults(self) -> list[str]:
        """A sentence for every broken promise; empty if all promises were kept."""
        return [
            *(f"{self.way}: {one} is missing" for one in self.missing),
            *(f"{self.way}: {one} arrived more than once" for one in self.doubled),
            *(f"{self.way}: {one} arrived out of order" for one in self.misplaced),
            *(f"{self.way}: {one} arrived and was never sent" for one in self.unknown),
        ]


@dataclass(slots=True)
class Ledger:
    """Everything that was sent and everything that arrived, in order.

    Attributes:
        asked: Every attempt of the shop.
        accepted: For each accepted parcel, the attempt that the service accepted.
        handled: The ids of the parcels that the driver handled.
        redelivered: The number of repeated deliveries, which the driver recognised by their ids.
        announced: The announcements on the board.
    """

    asked: list[Announcement] = field(default_factory=list)
    accepted: list[Announcement] = field(default_factory=list)
    handled: list[str] = field(default_factory=list)
    redelivered: int = 0
    announced: list[Announcement] = field(default_factory=list)

    def deliver(self, parcel_id: str) -> bool:
        """Record a delivery from the queue.

        Returns:
            Whether it is the first delivery of this parcel; a repetition is only counted.
        """
        if parcel_id in self.handled:
            self.redelivered += 1
            return False
        self.handled.append(parcel_id)
        return True

    @property
    def complete(self) -> bool:
        """Whether everything accepted so far has arrived, from the queue and on the board."""
        return not self.queue().missing and not self.board().missing

    def queue(self) -> Verdict:
        """Return the verdict on the queue."""
        sent = list(dict.fromkeys(one.parcel_id for one in self.asked))
        return _judge("queue", sent, [one.parcel_id for one in self.accepted], self.handled)

    def board(self) -> Verdict:
        """Return the verdict on the board."""
        return _judge("board", self.asked, self.accepted, self.announced)


def _judge(way: str, sent: Sequence[object], promised: Sequence[object], arrived: Sequence[object]) -> Verdict:
    counts = Counter(arrived)
    places = {one: place for place, one in enumerate(sent)}
    known = [one for one in counts if one in places]
    return Verdict(
        way=way,
        promised=len(promised),
        arrived=len(counts),
        missing=[str(one) for one in promised if one not in counts],
        doubled=[str(one) for one, count in counts.items() if count > 1],
        misplaced=[str(one) for one, other in pairwise(known) if places[one] > places[other]],
        unknown=[str(one) for one in counts if one not in places],
    )
