"""Puts what was measured into the documents: charts, and the tables of docs/speed.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.speed.charts import chart
from bench.speed.items import ITEMS
from bench.speed.sample import Sample, Summary, ratio, summaries

__all__ = ["document", "tables"]

_BEGIN, _END = "<!-- measured: python -m bench.speed document -->", "<!-- /measured -->"
_NODE, _PYTHON = "node-recovery", "python-socketio-uvicorn"
_Found = Mapping[tuple[str, str, str, str], Summary]


def document(results: Path, page: Path) -> list[Path]:
    """Draw charts beside a page, and put tables between its marks.

    Args:
        results: What a run has written.
        page: The document.

    Returns:
        The files that were written.
    """
    measured = json.loads(results.read_text())
    found = summaries(Sample(**sample) for sample in measured["samples"])
    items = [name for name in ITEMS if any(item == name for item, _, _, _ in found)]
    written = []
    for item in items:
        drawn = page.parent / f"speed-{item}.svg"
        drawn.write_text(chart(item, found))
        written.append(drawn)
    before, _, rest = page.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    page.write_text(f"{before}{_BEGIN}\n\n{tables(measured, found, items)}\n{_END}{after}")
    return [*written, page]


def tables(measured: Mapping[str, Any], found: _Found, items: list[str]) -> str:
    """Give everything as Markdown: conditions, aims, and a table for each piece of work."""
    lines = [_conditions(measured["conditions"]), "", "| aim | wanted | reached | |", "|---|---|---|---|"]
    lines += [
        f"| {aim['name']} | {aim['wanted']} | {aim['reached']} | {aim['verdict']} |" for aim in measured["aims"]
    ]
    lines += [f"\nFailed: {failure}" for failure in measured["failures"]]
    lines += [f"\nLeft out: {what}" for what in measured["left_out"]]
    for item in items:
        lines += ["", f"### {ITEMS[item].title}", "", f"![{ITEMS[item].title}](speed-{item}.svg)", ""]
        lines += _table(item, found)
    return "\n".join(lines) + "\n"


def _conditions(said: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in said["packages"].items())
    return (
        f"Measured {said['when']}: {said['machine']}, Python {said['python']}, Node.js {said['node']}, {packages};"
        f" {said['rounds']} rounds at most, {said['seconds']:g} s each; load average"
        f" {said['load_average_before']:.1f} before and {said['load_average_after']:.1f} after."
    )


def _table(item: str, found: _Found) -> list[str]:
    figure, more = ITEMS[item].figure, ITEMS[item].more_is_better
    cells = {
        (case, server): summary
        for (kind, case, server, name), summary in found.items()
        if (kind, name) == (item, figure)
    }
    order = list(dict.fromkeys(case for case, _ in cells))
    lines = [f"| | server | {figure} | spread | server CPU µs | times Node | by CPU | times python-socketio |"]
    lines.append("|---|---|--:|--:|--:|--:|--:|--:|")
    last = ""
    for (case, server), summary in sorted(cells.items(), key=lambda cell: order.index(cell[0][0])):
        cost = found.get((item, case, server, "server_us"))
        times = [ratio(summary, cells.get((case, peer)), more_is_better=more) for peer in (_NODE, _PYTHON)]
        by_cost = ratio(cost, found.get((item, case, _NODE, "server_us")), more_is_better=False)
        row = (_figure(summary.median), summary.spread_shown, _figure(cost.median) if cost else "")
        shown = (*row, _times(times[0]), _times(by_cost), _times(times[1]))
        lines.append(f"| {case if case != last else ''} | {server} | {' | '.join(shown)} |")
        last = case
    return lines


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"


def _times(value: float | None) -> str:
    return f"{value:.2f}" if value is not None else ""
