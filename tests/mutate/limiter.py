"""A pytest plugin that runs tests in a given order, each for a limited time, and tells which one failed first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import waypost

__all__ = ["FAILED", "LIMITS", "OPTION"]

OPTION = "--limits"
LIMITS = "limits.json"
FAILED = "failed"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, metavar="FOLDER", help="where the limits are, and where the failed test is told")


def pytest_configure(config: pytest.Config) -> None:
    folder = config.getoption(OPTION)
    if folder is None:
        return
    if not Path(waypost.__file__).is_relative_to(config.rootpath):
        pytest.exit(f"not the copy is tested, but {waypost.__file__}")
    config.pluginmanager.register(_Limiter(Path(folder)))


class _Limiter:
    """Orders and limits the tests.

    Args:
        folder: Has the limits, in seconds by test, in the order to keep; and gets the test that failed.
    """

    def __init__(self, folder: Path) -> None:
        self._failed = folder / FAILED
        self._limits: dict[str, float] = json.loads((folder / LIMITS).read_text())

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        place = {test: number for number, test in enumerate(self._limits)}
        items[:] = sorted((item for item in items if item.nodeid in place), key=lambda item: place[item.nodeid])
        for item in items:
            item.add_marker(pytest.mark.timeout(self._limits[item.nodeid]), append=False)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self._failed.exists():
            self._failed.write_text(report.nodeid)
