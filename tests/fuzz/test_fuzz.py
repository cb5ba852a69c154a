"""A bounded run of the fuzzer; ``make fuzz`` goes on."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.conftest import SEED_VARIABLE
from tests.fuzz.run import run

pytestmark = pytest.mark.long

_SECONDS = 8.0


async def test_a_server_under_fire_serves_the_others(tmp_path: Path) -> None:
    seed = int(os.environ.get(SEED_VARIABLE, random.randrange(10**9)))
    report = await run(seed, _SECONDS, tmp_path / "server.log")
    print(report)  # noqa: T201
    assert not report.problems, str(report)
    assert report.attacks > 0
    assert report.answers > 0
