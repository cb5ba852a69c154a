"""A short soak: that the server lives, and that no honest client loses anything beside all attackers."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.soak.run import soak

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]


async def test_honest_clients_lose_nothing_beside_attackers(rng: random.Random, tmp_path: Path) -> None:
    lines: list[str] = []
    found = await soak(40, rng.randrange(2**32), tmp_path, clients=60, tell=lines.append)
    for quarter in found.quarters:
        assert (quarter.lost, quarter.doubled) == (0, 0), lines
        assert quarter.waits_s, lines
