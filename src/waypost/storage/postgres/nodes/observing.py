"""Judges which other nodes are dead or stand still, by what this node sees of their counters. Pure: no clock, no I/O.

No two clocks are compared. A node that raises its counter is alive, whatever the time; one whose counter stands still
is dead only for an observer whose own beats came through all the while. So an engine that was away kills nobody, nor
does a machine that slept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["BEAT_S", "DEAD_S", "STUCK_S", "Beat", "Observer", "Seen", "Verdict"]

BEAT_S: Final = 2.0
"""Seconds between two beats of a node."""

DEAD_S: Final = 6.0
"""A node is dead when its counter has not risen for so many seconds."""

CUT_OFF_S: Final = 2 * BEAT_S
"""A node whose connection is gone is dead after so many seconds."""

STUCK_S: Final = 6.0
"""A node whose event loop has stood still for so many seconds owns no consumer any more."""

_BREAK_S: Final = 3.5
_CURIOUS_S: Final = 2.5
_CURIOUS_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Seen:
    """A living node, as the engine has it.

    Attributes:
        id: Its number.
        name: Its name.
        incarnation: Its incarnation.
        deaths: How often it was declared dead.
        address: Where other nodes reach it; "" if it is no server.
        counter: How often it has raised its counter.
        stuck_s: For how long its event loop had stood still then.
    """

    id: int
    name: str
    incarnation: int
    deaths: int
    address: str
    counter: int
    stuck_s: float


@dataclass(frozen=True, slots=True)
class Beat:
    """A beat that came through, and what the engine answered.

    Attributes:
        sent_at: When it was sent, on this node's steady clock.
        answered_at: When the answer came, on the same clock.
        incarnation: This node's incarnation when it was sent.
        is_fenced: Whether this node is dead for the others.
        now: The store's time.
        engine: The engine's own time.
        ahead_s: By how much the store's time is ahead of it.
        upkeep: The number of the node that does the upkeep.
        nodes: The living nodes, this one too.
    """

    sent_at: float
    answered_at: float
    incarnation: int
    is_fenced: bool
    now: float
    engine: float
    ahead_s: float
    upkeep: int
    nodes: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The conclusions of an observer from a beat.

    Attributes:
        dead: The nodes that are dead.
        missing: Those that are dead if their connections are gone.
        stuck: Those whose event loops stand still.
        pause_s: Seconds to the next beat.
    """

    dead: tuple[Seen, ...] = ()
    missing: tuple[Seen, ...] = ()
    stuck: tuple[Seen, ...] = ()
    pause_s: float = BEAT_S


class Observer:
    """Judges the other nodes by the beats of one node."""

    __slots__ = ("_answered_at", "_begun_at", "_still")

    def __init__(self) -> None:
        # Since when its own beats have come through without a break.
        self._begun_at: float | None = None
        self._answered_at = 0.0
        # Since when a node's counter stands still: the time of the answer that showed it first.
        self._still: dict[int, tuple[int, int, float]] = {}

    def missed(self) -> None:
        """Note that a beat of its own did not come through."""
        self._begun_at = None

    def see(self, beat: Beat, own: int) -> Verdict:
        """Look at what a beat has shown.

        Args:
            beat: The beat.
            own: The number of the node whose beat it is.
        """
        if beat.is_fenced:
            # Who is dead for others declares nobody dead.
            self.missed()
            return Verdict()
        if self._begun_at is None or beat.answered_at - self._answered_at > _BREAK_S:
            self._begun_at = beat.sent_at
            self._still.clear()
        self._answered_at = beat.answered_at
        others = [one for one in beat.nodes if one.id != own]
        still = {one.id: self._still_since(one, beat) for one in others}
        self._still = {one.id: (one.incarnation, one.counter, still[one.id]) for one in others}
        silent_s = {one.id: beat.sent_at - max(still[one.id], self._begun_at) for one in others}
        is_curious = any(silent > _CURIOUS_S for silent in silent_s.values())
        return Verdict(
            dead=tuple(one for one in others if silent_s[one.id] >= DEAD_S),
            missing=tuple(one for one in others if CUT_OFF_S <= silent_s[one.id] < DEAD_S),
            stuck=tuple(one for one in others if one.stuck_s >= STUCK_S),
            pause_s=_CURIOUS_PAUSE_S if is_curious else BEAT_S,
        )

    def _still_since(self, one: Seen, beat: Beat) -> float:
        incarnation, counter, since = self._still.get(one.id, (-1, -1, 0.0))
        return since if (incarnation, counter) == (one.incarnation, one.counter) else beat.answered_at
