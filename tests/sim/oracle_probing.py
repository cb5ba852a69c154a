"""Whether a consumer whose messages fail in a row is sent one at a time until one succeeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.sim.oracle_attempts import Handed

__all__ = ["Probes"]

# It probes after as many failures as it has in hand. Not all of that is seen: what a client has that is away counts
# too. After these it does in any case.
_MOST = 10
_EPSILON_S = 1e-4


@dataclass(slots=True)
class _Row:
    failures: int = 0
    since: float | None = None
    out: list[Handed] = field(default_factory=list)


class Probes:
    """The failures of each consumer in a row, by the answers that arrived.

    Leases that ended are not counted: the server may probe earlier than is seen here, and never later.

    Args:
        lease_s: The shortest time that a lease lasts.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._rows: dict[str, _Row] = {}

    def hand(self, handed: Handed) -> Iterator[str]:
        """Take a delivery."""
        row = self._rows.setdefault(handed.consumer, _Row())
        # A lease that has ended is learnt of when that is stored; then all is taken from a silent connection.
        ended = {one.sent.connection for one in row.out if handed.time - one.time >= self._lease_s - _EPSILON_S}
        row.out = [one for one in row.out if one.is_in_hand and one.epoch == handed.epoch]
        if row.since is not None:
            others = [one.position for one in row.out if one.time > row.since and one.sent.connection not in ended]
            if others:
                yield f"{handed.position} was sent beside {others}, after {row.failures} failures in a row"
        row.out.append(handed)

    def answer(self, handed: Handed, time: float, *, rejects: bool) -> None:
        """Take an answer, before it is known elsewhere that the delivery has ended."""
        row = self._rows.setdefault(handed.consumer, _Row())
        if not rejects:
            # Also a late one is a success.
            row.failures, row.since = 0, None
        elif not handed.is_void:
            row.failures += 1
            if row.since is None and row.failures >= _MOST:
                row.since = time

    def forget(self) -> None:
        """Begin anew, as a server does for a consumer that was moved, or that nobody was attached to."""
        self._rows.clear()
