"""What the tests execute without any mistake: which test which line, and how long each takes."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import coverage

from tests.mutate import recorder
from tests.mutate.trees import Tree

__all__ = ["Record", "Test", "make_record", "read_record"]

# Where the tests are that run the server within their own process: only their lines can be seen.
_FOLDERS = (
    "protocol",
    "server",
    "sim",
    "recovery",
    "client",
    "transports",
    "faults",
    "cluster",
    "conformance",
    "storage",
    "api",
)


# So many other tests of a module come before the same test with other parameters.
_VARIANT_TURNS = 5


@dataclass(frozen=True, slots=True)
class Test:
    """A test that passes.

    Attributes:
        name: pytest's name for it.
        seconds: How long it took.
    """

    name: str
    seconds: float


class Record:
    """Which tests execute a line.

    Args:
        seconds: How long each test took.
        lines: The tests that execute a line, by file and line.
    """

    def __init__(self, seconds: dict[str, float], lines: dict[str, dict[int, list[str]]]) -> None:
        self._seconds = seconds
        self._lines = lines
        self._in_file = {
            path: Counter(test for tests in by_line.values() for test in tests) for path, by_line in lines.items()
        }
        self._in_all: Counter[str] = sum(self._in_file.values(), Counter())

    def lines_of(self, path: str) -> set[int]:
        """Return the lines of a file that tests execute."""
        return set(self._lines.get(path, ()))

    def tests_of(self, path: str, line: int | None, seconds: float) -> list[Test]:
        """Return the tests that execute a line, as many as run in this time, the most promising first.

        Those come first that are fast, and for which this file is much of all that they execute; but one of each
        module before the second of any, and other tests before the same one with other parameters: what most tests
        execute is looked at from all sides.

        Args:
            path: The file.
            line: The line, from 1; `None` for any.
            seconds: How long they may take together.
        """
        chosen: list[Test] = []
        names = self._in_file[path] if line is None else self._lines[path][line]
        for name in _by_turns(sorted(names, key=lambda name: self._cost(path, name))):
            if self._seconds[name] <= seconds:
                seconds -= self._seconds[name]
                chosen.append(Test(name, self._seconds[name]))
        return chosen

    def _cost(self, path: str, name: str) -> float:
        return (self._seconds[name] + 0.02) * self._in_all[name] / self._in_file[path][name]


def _by_turns(names: list[str]) -> list[str]:
    """Order tests so that each module has its turn, and each of its tests before more parameters of one."""
    in_module: Counter[str] = Counter()
    of_test: Counter[str] = Counter()
    turns: dict[str, int] = {}
    for name in names:
        module, test = name.partition("::")[0], name.partition("[")[0]
        in_module[module] += not of_test[test]
        turns[name] = in_module[module] + of_test[test] * _VARIANT_TURNS
        of_test[test] += 1
    return sorted(names, key=turns.__getitem__)


def make_record(tree: Tree, folder: Path, processes: int) -> None:
    """Run all tests of a tree once, and write down what they execute."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    words = [recorder.OPTION, str(folder), "-p", recorder.__name__]
    if processes > 1:
        words += ["-n", str(processes), "--dist", "loadscope"]
    tree.pytest([*words, *(f"tests/{name}" for name in _FOLDERS)], limit_s=None)
    if not (folder / recorder.DURATIONS).exists():
        raise RuntimeError(f"the tests did not run to their end: {tree.log}")


def read_record(folder: Path, files: list[str]) -> Record:
    """Read what was written down of some files."""
    seconds: dict[str, float] = json.loads((folder / recorder.DURATIONS).read_text())
    lines: dict[str, dict[int, list[str]]] = {}
    for file in folder.glob(f"{recorder.LINES}.*"):
        data = coverage.CoverageData(str(file))
        data.read()
        measured = {name[name.rindex("src/waypost/") :]: name for name in data.measured_files()}
        for path in measured.keys() & {*files}:
            for line, tests in data.contexts_by_lineno(measured[path]).items():
                known = [test for test in tests if test in seconds]
                if known:
                    lines.setdefault(path, {}).setdefault(line, []).extend(known)
    return Record(seconds, lines)
