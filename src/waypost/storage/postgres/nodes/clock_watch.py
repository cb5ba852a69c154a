"""Steps of the engine's clock, seen from a node's steady clock. Pure: no clock, no I/O."""

from __future__ import annotations

from typing import Final

from waypost.storage.postgres.nodes.observing import Beat

__all__ = ["ClockWatch"]

_STEP_S: Final = 1.0
_DRIFT: Final = 0.001
_NOBODY_CORRECTS_S: Final = 20.0


class ClockWatch:
    """Compares the store's time with a clock that nobody sets.

    The store's time is the engine's and a difference that the nodes keep: when somebody sets the engine's clock, the
    node that does the upkeep changes the difference by as much. A clock that is slowly adjusted is followed.
    """

    __slots__ = ("_expected", "_looked_at", "_off_since")

    def __init__(self) -> None:
        self._expected: float | None = None
        self._looked_at = 0.0
        self._off_since: float | None = None

    def look(self, beat: Beat) -> float:
        """Look at the time that came with a beat; returns by how many seconds the store's time has jumped, or 0.

        The node that does the upkeep is to take a jump back. If it does not for a while, this node was wrong.
        """
        middle, round_trip_s = (beat.sent_at + beat.answered_at) / 2, beat.answered_at - beat.sent_at
        apart = beat.now - middle
        most_s = _STEP_S + round_trip_s + _DRIFT * (beat.answered_at - self._looked_at)
        self._looked_at = beat.answered_at
        if self._expected is None or abs(apart - self._expected) <= most_s:
            self._expected, self._off_since = apart, None
            return 0.0
        self._off_since = beat.answered_at if self._off_since is None else self._off_since
        if beat.answered_at - self._off_since > _NOBODY_CORRECTS_S:
            self._expected, self._off_since = apart, None
            return 0.0
        return apart - self._expected
