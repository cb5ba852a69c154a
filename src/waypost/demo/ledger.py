"""What the shop's parcels promise, what the driver got, and the verdict. Pure: no clock, no connection.

Two promises are checked, each in its own words (see `waypost.demo.service` for why they differ):

- Queue: every parcel that the shop sent is handled once, in the order of sending. One that is delivered again, since
  its acknowledgement was cut off, is recognised by its id; that is counted and shown, and is no fault.
- Board: every announcement that the service promised, by accepting that attempt, arrives exactly once and in order.
  An announcement of an attempt that was never answered may arrive or not, but not twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

__all__ = ["Announcement", "Ledger", "Verdict"]


class Announcement(NamedTuple):
    """One announcement on the board, or the promise of one.

    Attributes:
        parcel_id: Of which parcel.
        attempt: Which of the shop's attempts the service announced, from 1.
    """

    parcel_id: str
    attempt: int

    def __str__(self) -> str:
        return f"{self.parcel_id} (attempt {self.attempt})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of the promises of one way, queue or board; each fault is named in words.

    Attributes:
        way: Which.
        promised: How many things had to arrive.
        arrived: How many different things did.
        missing: What was promised and did not arrive.
        doubled: What arrived more than once.
        misplaced: What arrived before something that was sent earlier.
        unknown: What arrived and was never sent.
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
        """Every broken promise as a sentence; empty if all were kept."""
        return [
            *(f"{self.way}: {one} is missing" for one in self.missing),
            *(f"{self.way}: {one} arrived more than once" for one in self.doubled),
            *(f"{self.way}: {one} arrived out of order" for one in self.misplaced),
            *(f"{self.way}: {one} arrived and was never sent" for one in self.unknown),
        ]


@dataclass(slots=True)
class Ledger:
    """Everything that was sent and that arrived, in the order of its happening.

    Attributes:
        asked: Every attempt of the shop.
        accepted: The attempt with which each parcel was accepted.
        handled: The parcels that the driver handled.
        redelivered: How many deliveries the driver recognised by their ids as repetitions.
        announced: What the board announced.
    """

    asked: list[Announcement] = field(default_factory=list)
    accepted: list[Announcement] = field(default_factory=list)
    handled: list[str] = field(default_factory=list)
    redelivered: int = 0
    announced: list[Announcement] = field(default_factory=list)

    def deliver(self, parcel_id: str) -> bool:
        """Record a delivery from the queue.

        Returns:
            Whether it is the first of this parcel; a repetition is only counted.
        """
        if parcel_id in self.handled:
            self.redelivered += 1
            return False
        self.handled.append(parcel_id)
        return True

    @property
    def complete(self) -> bool:
        """Whether everything that was accepted so far has arrived, by both ways."""
        return not self.queue().missing and not self.board().missing

    def queue(self) -> Verdict:
        """Judge the queue."""
        sent = list(dict.fromkeys(one.parcel_id for one in self.asked))
        return _judge("queue", sent, [one.parcel_id for one in self.accepted], self.handled)

    def board(self) -> Verdict:
        """Judge the board."""
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
