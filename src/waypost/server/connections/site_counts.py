"""The numbers of each address that a limit compares: those of this server, and those that other servers have told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

__all__ = ["SiteCounts"]

_SMALL = 64
"""A number below the limit divided by this is not told to other servers."""


class SiteCounts:
    """How many of something each address or network has, for a limit on them.

    Other servers tell their numbers about every second, and only those that are not small. So the total is not exact:
    it lags behind, and lacks less than 1/64 of the limit for each other server.

    Args:
        most: The limit, from 1.
    """

    __slots__ = ("_crowded", "_elsewhere", "_here", "_most", "_told")

    def __init__(self, most: int) -> None:
        self._most = most
        self._here: Counter[str] = Counter()
        self._crowded: set[str] = set()
        self._told: dict[str, Mapping[str, int]] = {}
        self._elsewhere: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._here)

    def add(self, site: str) -> None:
        """Count one more."""
        self._here[site] += 1
        if self._here[site] > self._most // _SMALL:
            self._crowded.add(site)

    def remove(self, site: str) -> None:
        """Count one less."""
        self._here[site] -= 1
        count = self._here[site]
        if count <= self._most // _SMALL:
            self._crowded.discard(site)
        # Drops zeros: otherwise a client that changes its address would fill the memory.
        if not count:
            del self._here[site]

    def has_room(self, site: str) -> bool:
        """Return whether one more stays within the limit, as far as this server knows."""
        return self._here[site] + self._elsewhere[site] < self._most

    def exceeds(self, site: str) -> bool:
        """Return whether the limit is exceeded, as far as this server knows."""
        return self._here[site] + self._elsewhere[site] > self._most

    def forget_all(self) -> None:
        """Count nothing here any more."""
        self._here.clear()
        self._crowded.clear()

    # -- other servers --------------------------------------------------------------------------------------

    def to_tell(self) -> dict[str, int]:
        """Return the numbers of this server that are not small."""
        return {site: self._here[site] for site in self._crowded}

    def heard(self, server: str, numbers: Mapping[str, int]) -> None:
        """Take the numbers of another server, in place of its last ones; none if it is gone."""
        for site, count in self._told.pop(server, {}).items():
            self._elsewhere[site] -= count
            if not self._elsewhere[site]:
                del self._elsewhere[site]
        if numbers:
            self._told[server] = numbers
            self._elsewhere.update(numbers)
