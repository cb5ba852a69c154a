"""A pytest plugin that takes down which lines each test executes, and how long each takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

__all__ = ["DURATIONS", "LINES", "OPTION"]

OPTION = "--record-lines"
DURATIONS = "durations.json"
LINES = "lines"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, metavar="FOLDER", help="write there which lines each test executes")


def pytest_configure(config: pytest.Config) -> None:
    folder = config.getoption(OPTION)
    if folder is not None:
        if not config.getoption("tx"):
            config.pluginmanager.register(_Lines(Path(folder), config.rootpath))
        if not hasattr(config, "workerinput"):
            config.pluginmanager.register(_Durations(Path(folder)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption(OPTION) is not None:
        items[:] = [item for item in items if _is_useful(item)]


def _is_useful(item: pytest.Item) -> bool:
    """Whether a test can tell a mutant from the original, soon, and with nothing but Python."""
    if any(item.get_closest_marker(name) for name in ("node", "chromium", "postgres")):
        return False
    # Tests that make mistakes of their own look for any mistake at all: they pass with mutants, too.
    if item.name.startswith(("test_a_broken", "test_a_fault_is_found")):
        return False
    return not item.get_closest_marker("long") or item.name == "test_histories"


class _Lines:
    """Records which lines each test executes, in a process that runs tests.

    Args:
        folder: Where the record goes.
        root: The root of the source tree.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self._coverage = coverage.Coverage(
            data_file=str(folder / LINES), data_suffix=True, source=[str(root / "src")], config_file=False
        )

    def pytest_sessionstart(self) -> None:
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._coverage.switch_context(item.nodeid)
        result = yield
        self._coverage.switch_context("")
        return result

    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        self._coverage.save()


class _Durations:
    """Records how long the tests took that passed, in the process to which all report.

    Args:
        folder: Where the record goes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._took: dict[str, float] = {}
        self._failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self._failed.add(report.nodeid)
        self._took[report.nodeid] = self._took.get(report.nodeid, 0.0) + report.duration

    def pytest_sessionfinish(self) -> None:
        passed = {test: took for test, took in self._took.items() if test not in self._failed}
        (self._folder / DURATIONS).write_text(json.dumps(passed))
