"""Results of interleaved rounds: kept by what was measured, shown as medians with their spread."""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import Any

__all__ = ["Table"]


class Table:
    """All that was measured: by part, setting, contender and number, one value for each round."""

    def __init__(self) -> None:
        self._values: defaultdict[tuple[str, str, str, str], list[float]] = defaultdict(list)

    def add(self, part: str, setting: str, contender: str, measured: dict[str, float]) -> None:
        """Take the numbers of one measurement."""
        for number, value in measured.items():
            self._values[part, setting, contender, number].append(value)

    def print(self, part: str) -> None:
        """Show a part: for each setting and contender the medians, the spread and Waypost's multiple of it."""
        rows = dict.fromkeys(key[1:3] for key in self._values if key[0] == part)
        for setting, contender in rows:
            cells = []
            for (of_part, *row, number), values in self._values.items():
                if of_part == part and tuple(row) == (setting, contender):
                    cells.append(f"{number} {median(values):>11,.1f} ({min(values):,.1f} to {max(values):,.1f})")
            print(
                f"{part:<8} {setting:<24} {contender:<17} {'; '.join(cells)}{self._ratio(part, setting, contender)}"
            )

    def _ratio(self, part: str, setting: str, contender: str) -> str:
        ours = self._values.get((part, setting, "waypost", "per_s"))
        theirs = self._values.get((part, setting, contender, "per_s"))
        if contender == "waypost" or not ours or not theirs:
            return ""
        return f"; Waypost is {median(ours) / median(theirs):.2f} times as fast"

    def as_json(self) -> dict[str, Any]:
        """Return everything, each round's values included."""
        found: dict[str, Any] = {}
        for (part, setting, contender, number), values in self._values.items():
            row = found.setdefault(part, {}).setdefault(setting, {}).setdefault(contender, {})
            row[number] = {"median": median(values), "rounds": values}
        return found
