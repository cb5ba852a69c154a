"""The limit on the sessions that one address may leave behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from waypost.server.connections.site_counts import SiteCounts

__all__ = ["Absences"]


@dataclass(slots=True)
class _Absence:
    """A session whose client is away.

    Attributes:
        site: The address or network that it is counted for.
        until: The time at which the session ends anyway.
        give_up: Ends the session now.
    """

    site: str
    until: float
    give_up: Callable[[], object]


class Absences:
    """The sessions whose clients are away, by the address that they came from.

    A client can leave sessions behind much faster than they end. So each address has a limit; above it, the session
    whose client has been away for longest ends. Those of before a restart are not counted. Those of other servers of
    a cluster count approximately; see `SiteCounts`.

    Args:
        most: The most sessions of one address, from 1.

    Attributes:
        counts: The sessions of each address.
    """

    __slots__ = ("_away", "_by_site", "counts")

    def __init__(self, most: int) -> None:
        self.counts = SiteCounts(most)
        # Both in the order of leaving; all sessions have the same time to live.
        self._away: dict[bytes, _Absence] = {}
        self._by_site: dict[str, dict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self._away)

    def left(self, key: bytes, site: str | None, now: float, until: float, give_up: Callable[[], object]) -> None:
        """Count a session whose client is away from now on, and give up another one of the address if it must be.

        Args:
            key: The session's key.
            site: The address or network; ``None`` is not counted.
            now: The time, in seconds.
            until: The time at which the session ends anyway.
            give_up: Ends the session before that.
        """
        self.returned(key)
        self._forget_ended(now)
        if site is None:
            return
        self._away[key] = _Absence(site, until, give_up)
        keys = self._by_site.setdefault(site, {})
        keys[key] = None
        self.counts.add(site)
        if self.counts.exceeds(site):
            oldest = next(iter(keys))
            absence = self._away[oldest]
            self.returned(oldest)
            absence.give_up()

    def returned(self, key: bytes) -> None:
        """Count a session no more: its client is back, or it has ended."""
        absence = self._away.pop(key, None)
        if absence is not None:
            self.counts.remove(absence.site)
            keys = self._by_site[absence.site]
            del keys[key]
            if not keys:
                del self._by_site[absence.site]

    def forget_all(self) -> None:
        """Forget all sessions: their store is closed."""
        self._away.clear()
        self._by_site.clear()
        self.counts.forget_all()

    def _forget_ended(self, now: float) -> None:
        while self._away:
            key = next(iter(self._away))
            if self._away[key].until > now:
                return
            self.returned(key)
