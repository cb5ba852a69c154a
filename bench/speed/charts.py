"""Bar charts as SVG: each case a group, each server a bar. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from bench.speed.items import ITEMS
from bench.speed.sample import Summary

__all__ = ["chart"]

_COLOURS = {
    "waypost-memory": "#0a7d6c",
    "waypost-off": "#58b5a7",
    "waypost-sqlite": "#2f5f9e",
    "waypost-sqlite-async": "#7aa5da",
    "waypost-postgres": "#8f3b76",
    "node-recovery": "#c9541a",
    "node": "#e99a6d",
    "python-socketio-uvicorn": "#7b6f9c",
    "python-socketio-aiohttp": "#b3a9cc",
    "ceiling": "#b9b9b9",
}
_OTHERS = "#6d7480"
_WIDTH, _LABELS, _NUMBERS = 820, 190, 170
_BAR, _GAP, _GROUP = 15, 3, 34
_TOP = 46


def chart(item: str, found: Mapping[tuple[str, str, str, str], Summary]) -> str:
    """Draw one piece of work.

    Args:
        item: Its name.
        found: Summaries by item, case, server, and figure.

    Returns:
        The SVG; bars are medians, thin lines reach from the smallest to the largest round.
    """
    figure = ITEMS[item].figure
    bars = {
        (case, server): summary
        for (kind, case, server, name), summary in found.items()
        if (kind, name) == (item, figure) and server != "ceiling"
    }
    most = max((max(summary.values) for summary in bars.values()), default=1.0) or 1.0
    scale = (_WIDTH - _LABELS - _NUMBERS) / most
    parts: list[str] = []
    y = _TOP
    for case in dict.fromkeys(case for case, _ in bars):
        parts.append(f'<text x="8" y="{y + 12}" class="case">{escape(case)}</text>')
        y += 20
        for (kind, server), summary in bars.items():
            if kind == case:
                parts += _bar(server, summary, y, scale)
                y += _BAR + _GAP
        y += _GROUP - 20
    title = f'<text x="8" y="24" class="title">{escape(ITEMS[item].title)}{_better(item)}</text>'
    return _document(y, [title, *parts])


def _better(item: str) -> str:
    return "" if ITEMS[item].more_is_better else " (less is better)"


def _bar(server: str, summary: Summary, y: int, scale: float) -> list[str]:
    width = max(1.0, summary.median * scale)
    low, high = (_LABELS + value * scale for value in (min(summary.values), max(summary.values)))
    middle = y + _BAR / 2
    return [
        f'<text x="{_LABELS - 8}" y="{y + 12}" text-anchor="end">{escape(server)}</text>',
        f'<rect x="{_LABELS}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{_COLOURS.get(server, _OTHERS)}"/>',
        f'<path d="M{low:.1f} {middle}H{high:.1f}" class="spread"/>',
        f'<text x="{max(high, _LABELS + width) + 6:.1f}" y="{y + 12}">{_number(summary.median)}</text>',
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"


def _document(height: int, parts: list[str]) -> str:
    style = (
        "text{font:12px sans-serif;fill:#444}.title{font-size:16px;font-weight:bold}.case{font-weight:bold}"
        ".spread{stroke:#222;stroke-width:1.5}"
    )
    inner = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}">\n<style>{style}</style>\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{inner}\n</svg>\n'
    )
