"""Random histories, each from a printed seed; the same seed gives the same history to the letter."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time

import pytest

from tests.sim.simulation import run_seed

_SECONDS = 8.0
_REGRESSIONS = (
    23, 62, 66, 77, 129, 255, 582, 630, 11540, 11999, 20055, 30135, 30947, 31384,
    702188, 702431, 705581, 904016, 911235, 784327113, 41882, 43462,
)  # fmt: skip
"""Seeds that found something once."""
_TELL = """
import sys
from tests.sim.simulation import run_seed

for seed in sys.argv[1:]:
    print(run_seed(int(seed)).report())
"""


@pytest.mark.parametrize("seed", _REGRESSIONS)
def test_what_was_found_once(seed: int) -> None:
    result = run_seed(seed)
    assert not result.problems, result.report()


@pytest.mark.long
def test_histories() -> None:
    # The same ones every time: it is for `make simulate` to look for new ones.
    first = int(os.environ.get("WAYPOST_TEST_SEED", "0"))
    began = time.monotonic()
    done = 0
    while time.monotonic() - began < _SECONDS:
        result = run_seed(first + done)
        assert not result.problems, result.report()
        done += 1
        if done % 50 == 0:
            gc.collect()
    print(f"{done} histories from seed {first}")  # noqa: T201


@pytest.mark.long
def test_a_seed_gives_the_same_history_to_the_letter() -> None:
    traces = {_traces((3, 58, 238), hash_seed) for hash_seed in ("0", "1", "4711")}
    assert len(traces) == 1
    assert len(traces.pop().splitlines()) > 3 * 50


@pytest.mark.long
def test_the_command_line_repeats_a_history() -> None:
    assert _run(("-m", "tests.sim", "--seed", "3")) == run_seed(3).report() + "\n"


def _traces(seeds: tuple[int, ...], hash_seed: str) -> str:
    """Run histories in a process of its own, and return all that it tells of them."""
    return _run(("-c", _TELL, *map(str, seeds)), PYTHONHASHSEED=hash_seed)


def _run(words: tuple[str, ...], **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        timeout=50,
        check=True,
    )
    return ran.stdout
