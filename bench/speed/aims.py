"""The aims of the work on speed, and whether they are met. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bench.speed.sample import Summary, ratio

__all__ = ["Judged", "judge"]

_Found = Mapping[tuple[str, str, str, str], Summary]
_OURS, _NODE, _PYTHON = "waypost-memory", "node-recovery", "python-socketio-uvicorn"


@dataclass(frozen=True)
class Judged:
    """An aim.

    Attributes:
        name: What it is about.
        wanted: What should be reached.
        reached: What was, at the case that is worst.
        verdict: ``met``, ``not met``, or ``unknown`` where it was not measured.
    """

    name: str
    wanted: str
    reached: str
    verdict: str


@dataclass(frozen=True)
class _Ratio:
    item: str
    theirs: str
    times: float
    figure: str = "per_s"
    more_is_better: bool = True
    ours: str = _OURS

    def judge(self, found: _Found) -> Judged:
        """Take the case at which the ratio is smallest."""
        name = f"{self.item} ({self.figure}): {self.ours} to {self.theirs}, at every case"
        cases = dict.fromkeys(case for item, case, _, _ in found if item == self.item)
        ratios: dict[str, float] = {}
        for case in cases:
            ours, theirs = (found.get((self.item, case, who, self.figure)) for who in (self.ours, self.theirs))
            times = ratio(ours, theirs, more_is_better=self.more_is_better)
            if times is not None:
                ratios[case] = times
        wanted = f"{self.times:g}x"
        if not ratios:
            return Judged(name, wanted, "nothing", "unknown")
        worst = min(ratios, key=lambda case: ratios[case])
        reached = f"{ratios[worst]:.2f}x ({worst}); best {max(ratios.values()):.2f}x{self._by_cost(found, cases)}"
        return Judged(name, wanted, reached, "met" if ratios[worst] >= self.times else "not met")

    def _by_cost(self, found: _Found, cases: Iterable[str]) -> str:
        """Say the same by the server's CPU time for an operation, which others on the machine disturb less."""
        if self.figure != "per_s":
            return ""
        costs = [
            tuple(found.get((self.item, case, who, "server_us")) for who in (self.ours, self.theirs))
            for case in cases
        ]
        ratios = [times for ours, theirs in costs if (times := ratio(ours, theirs, more_is_better=False))]
        return f"; by CPU time {min(ratios):.2f}x to {max(ratios):.2f}x" if ratios else ""


def _memory(found: _Found) -> Judged:
    values = [
        summary.median
        for (item, _, server, figure), summary in found.items()
        if (item, server, figure) == ("idle", _OURS, "kb_each")
    ]
    reached = f"{max(values):.1f} kB" if values else "nothing"
    verdict = "unknown" if not values else "met" if max(values) <= 12 else "not met"
    return Judged("memory of an idle connection", "at most 12 kB", reached, verdict)


_AIMS: tuple[Callable[[_Found], Judged], ...] = (
    _Ratio("acks", _NODE, 1.8).judge,
    _Ratio("acks", _PYTHON, 6).judge,
    _Ratio("broadcast", _NODE, 1.5).judge,
    _Ratio("broadcast", _PYTHON, 5).judge,
    _Ratio("polling", _NODE, 1).judge,
    _Ratio("connect", _NODE, 1.5).judge,
    _memory,
    _Ratio("latency", _NODE, 1, "p99_ms", more_is_better=False).judge,
    _Ratio("broadcast", _OURS, 0.9, ours="waypost-sqlite").judge,
)


def judge(found: _Found) -> list[Judged]:
    """Hold what was found against each aim.

    Args:
        found: Summaries by item, case, server, and figure.
    """
    return [aim(found) for aim in _AIMS]
