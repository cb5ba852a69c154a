"""Random histories of several servers on one store, each from a printed seed."""

from __future__ import annotations

import gc
import os
import time

import pytest

from tests.sim.servers.simulation import run_servers

_SECONDS = 8.0


# In 381 a server without its host tried to serve a consumer again and again, without a pause.
@pytest.mark.parametrize("seed", [2, 5, 8, 25, 381])
def test_a_history(seed: int) -> None:
    result = run_servers(seed)
    assert not result.problems, result.report()


@pytest.mark.long
def test_histories() -> None:
    # The same ones every time: it is for `make simulate OF=servers` to look for new ones.
    first = int(os.environ.get("WAYPOST_TEST_SEED", "0"))
    began = time.monotonic()
    done = 0
    while time.monotonic() - began < _SECONDS:
        result = run_servers(first + done)
        assert not result.problems, result.report()
        done += 1
        if done % 50 == 0:
            gc.collect()
    print(f"{done} histories from seed {first}")  # noqa: T201


@pytest.mark.long
def test_a_seed_gives_the_same_history_to_the_letter() -> None:
    assert run_servers(5).report() == run_servers(5).report()
