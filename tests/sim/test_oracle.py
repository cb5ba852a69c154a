"""The simulation finds what it is there to find: broken servers, each within a few histories."""

from __future__ import annotations

import pytest

from tests.sim.mutations import MUTATIONS, Mutate
from tests.sim.simulation import run_seed

_WITHIN = 300


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_a_broken_server_is_found(mutate: Mutate, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch)
    for seed in range(_WITHIN):
        if run_seed(seed).problems:
            return
    pytest.fail(f"{mutate.__name__} goes unnoticed in {_WITHIN} histories")
