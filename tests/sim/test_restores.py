"""Histories of a store's real file; and the mistakes that they are there to find."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim.mutations import Mutate
from tests.sim.mutations_restores import RESTORE_MUTATIONS
from tests.sim.restores import run_restores

pytestmark = pytest.mark.long

_HISTORIES = 20
_WITHIN = 60


@pytest.mark.timeout(240)
def test_histories(tmp_path: Path) -> None:
    for seed in range(_HISTORIES):
        problems = run_restores(seed, _folder(tmp_path, seed))
        assert not problems, "\n".join(problems)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mutate", RESTORE_MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_a_broken_store_is_found(mutate: Mutate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mutate(monkeypatch)
    assert any(run_restores(seed, _folder(tmp_path, seed)) for seed in range(_WITHIN))


def _folder(root: Path, seed: int) -> Path:
    folder = root / str(seed)
    folder.mkdir()
    return folder
