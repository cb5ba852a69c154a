"""What CI makes of tests that fail: only those that pass when they are run once more, alone, may have failed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.require import skip_or_fail

ROOT = Path(__file__).parent.parent

_FLAKY = """
from pathlib import Path
def test_it():
    seen = Path(__file__).with_suffix(".seen")
    was_seen = seen.exists()
    seen.touch()
    assert was_seen
"""
_GOOD = "def test_it(): pass\n"
_BAD = "def test_it(): assert False\n"
_BROKEN = "import no_such_module_as_this\n"

# Stands for pytest: notes what it was called with, and ends as the test says.
_FAKE = """#!/bin/sh
echo "workers ${WAYPOST_TEST_WORKERS:-1}: $*" >> "$0.calls"
case "${WAYPOST_TEST_WORKERS:-1}" in 1) exit FIRST ;; *) exit SECOND ;; esac
"""


def run_tests(folder: Path, sources: dict[str, str], *args: str, ci: bool = True) -> tuple[int, str]:
    """Write test files, run them as `make test` does, and return the exit code and the output."""
    for name, source in sources.items():
        (folder / f"test_{name}.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = long\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "CI"))}
    # Only the first run is given the plugin that spreads tests over processes.
    environment |= {"PYTEST_ARGS": "-p xdist -n 1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | (
        {"CI": "true"} if ci else {}
    )
    program = Path(sys.executable).parent / "pytest"
    done = subprocess.run(
        (ROOT / ".ci" / "pytest", program, *args),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("sources", "code", "runs"),
    [
        ({"good": _GOOD}, 0, 1),
        ({"good": _GOOD, "flaky": _FLAKY}, 0, 2),
        ({"good": _GOOD, "bad": _BAD}, 1, 2),
        ({"flaky": _FLAKY, "bad": _BAD}, 1, 2),
        ({}, 5, 1),
    ],
)
def test_what_failed_runs_once_more(tmp_path: Path, sources: dict[str, str], code: int, runs: int) -> None:
    found, output = run_tests(tmp_path, sources)
    assert found == code, output
    assert output.count("test session starts") == runs
    assert output.count("== once more, alone") == runs - 1
    if runs == 2:
        assert "rerun previous" in output


def test_a_module_that_nobody_can_import_fails(tmp_path: Path) -> None:
    found, output = run_tests(tmp_path, {"good": _GOOD, "broken": _BROKEN})
    assert found != 0, output


def test_what_failed_in_an_earlier_run_does_not_count(tmp_path: Path) -> None:
    assert run_tests(tmp_path, {"good": _GOOD, "bad": _BAD})[0] == 1
    found, output = run_tests(tmp_path, {"flaky": _FLAKY}, "test_good.py", "test_flaky.py")
    assert found == 0, output


def test_on_a_desk_nothing_runs_twice(tmp_path: Path) -> None:
    found, output = run_tests(tmp_path, {"flaky": _FLAKY}, ci=False)
    assert found == 1
    assert output.count("test session starts") == 1


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (0, 5)])
def test_the_long_run_fails_if_one_of_its_halves_does(tmp_path: Path, first: int, second: int) -> None:
    if shutil.which("make") is None:
        skip_or_fail("make is not installed")
    fake = tmp_path / "pytest"
    fake.write_text(_FAKE.replace("FIRST", str(first)).replace("SECOND", str(second)))
    fake.chmod(0o755)
    installed = tmp_path / ".installed"
    installed.touch()
    arguments = (f"BIN={tmp_path}", f"INSTALLED={installed}", "HAVE_NODE=", "PYTEST_ARGS=")
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "WAYPOST_TEST_WORKERS")}
    done = subprocess.run(
        ("make", "test-long", *arguments), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) == (first == second == 0), done.stderr
    calls = fake.with_name("pytest.calls").read_text().splitlines()
    assert [call.partition(":")[0] for call in calls] == ["workers 1", "workers 2"]
