"""What is printed while it is measured, and what is written down at the end."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from bench.speed.aims import judge
from bench.speed.items import ITEMS
from bench.speed.items.common import Extent
from bench.speed.sample import Sample, Summary, ratio, summaries

__all__ = ["Report", "rows"]

_BASE = "node-recovery"
_SECONDARY = ("p50_ms", "cpu_share", "server_us", "server_share", "load_share")
_NODE_PACKAGES = Path(__file__).parent / "js" / "package-lock.json"


@dataclass
class Report:
    """Collects samples and shows them.

    Args:
        write: Takes text that is to be shown.
    """

    write: Callable[[str], object]

    def __post_init__(self) -> None:
        self._samples: list[Sample] = []
        self._conditions: dict[str, object] = {}
        self._began = time.perf_counter()
        self._left_out: list[str] = []
        self.failures: list[str] = []

    def describe(self, extent: Extent) -> None:
        """Say with what and under which conditions it is measured."""
        packages = ("waypost", "uvicorn", "uvloop", "websockets", "python-socketio", "aiohttp")
        locked = json.loads(_NODE_PACKAGES.read_text())["packages"]["node_modules/socket.io"]["version"]
        node = "none"
        if shutil.which("node"):
            node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
        self._conditions = {
            "when": time.strftime("%Y-%m-%d %H:%M"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "node": f"{node}, socket.io {locked}",
            "packages": {name: version(name) for name in packages},
            "rounds": extent.rounds,
            "seconds": extent.seconds,
            "load_average_before": os.getloadavg()[0],
        }
        for name, value in self._conditions.items():
            self.write(f"{name}: {value}\n")

    def fail(self, item: str, server: str, error: BaseException) -> None:
        """Tell that a server did not do its work."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        self.failures.append(f"{item}, {server}: {error}")
        self.write(f"FAILED {self.failures[-1]}\n")

    def leave_out(self, what: str) -> None:
        """Tell that something is not measured, and why."""
        self._left_out.append(what)
        self.write(f"left out: {what}\n")

    def add(self, item: str, samples: Sequence[Sample]) -> None:
        """Show what one piece of work gave."""
        self._samples += samples
        self.write(f"\n{ITEMS[item].title}   [{item}; {time.perf_counter() - self._began:.0f} s so far]\n")
        for row in rows(samples, ITEMS[item].figure, ITEMS[item].more_is_better):
            self.write(row + "\n")

    def finish(self, results: Path) -> None:
        """Show what was reached, and write everything down."""
        judged = judge(summaries(self._samples))
        self.write("\nAims\n")
        for aim in judged:
            self.write(f"{aim.verdict:<9} {aim.name:<70} aim {aim.wanted}, reached {aim.reached}\n")
        found = {
            "conditions": {**self._conditions, "load_average_after": os.getloadavg()[0]},
            "failures": self.failures,
            "left_out": self._left_out,
            "aims": [asdict(aim) for aim in judged],
            "samples": [],
        }
        # A sample a line: so results of two runs can be compared by their lines.
        samples = ",\n".join(json.dumps(asdict(sample)) for sample in self._samples)
        text = json.dumps(found, indent=1).replace('"samples": []', f'"samples": [\n{samples}\n]')
        results.parent.mkdir(parents=True, exist_ok=True)
        results.write_text(text + "\n")
        self.write(f"\n{time.perf_counter() - self._began:.0f} s; written to {results}\n")


def rows(samples: Sequence[Sample], figure: str, more_is_better: bool) -> list[str]:
    """Lay out one piece of work as a table: medians, spread, and how many times Node with recovery."""
    found = summaries(samples)
    cases = dict.fromkeys((sample.item, sample.case) for sample in samples)
    servers = dict.fromkeys(sample.server for sample in samples)
    names = dict.fromkeys(name for sample in samples for name in sample.figures)
    beside = [name for name in _SECONDARY if name in names and name != figure]
    head = "".join(f"{name:>14}" for name in beside)
    table = [f"{'':<40}{'server':<25}{figure:>12}{'spread':>8}{head}   of {_BASE}: {figure}, server_us"]
    for item, case in cases:
        for server in servers:
            main = found.get((item, case, server, figure))
            if main is None:
                continue
            others = "".join(_cell(found.get((item, case, server, name)), name) for name in beside)
            base = ratio(main, found.get((item, case, _BASE, figure)), more_is_better=more_is_better)
            costs = [found.get((item, case, one, "server_us")) for one in (server, _BASE)]
            compared = _times(base) + _times(ratio(*costs, more_is_better=False))
            table.append(
                f"{case:<40}{server:<25}{_number(main.median):>12}{main.spread_shown:>8}{others}   {compared}"
            )
    return table


def _cell(summary: Summary | None, name: str) -> str:
    if summary is None:
        return f"{'':>14}"
    return f"{summary.median:>14.0%}" if name.endswith("share") else f"{_number(summary.median):>14}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.2f}"


def _times(value: float | None) -> str:
    return f"{value:>7.2f}x" if value is not None else f"{'':>8}"
