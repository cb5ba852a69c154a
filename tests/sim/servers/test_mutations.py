"""The simulation finds what servers may do wrong with each other, each fault within some histories."""

from __future__ import annotations

import pytest

from tests.sim.servers.mutations import MUTATIONS, Mutate
from tests.sim.servers.simulation import run_servers

_WITHIN = 200
# Where those that few histories show were found last: they are tried first, since it saves time.
_TRIED_FIRST = {"data_without_fence": 22, "hosts_top": 78, "no_claim": 12}


@pytest.mark.long
@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_a_fault_between_servers_is_found(mutate: Mutate, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch)
    for seed in (_TRIED_FIRST.get(mutate.__name__, 0), *range(_WITHIN)):
        problems = run_servers(seed).problems
        if problems:
            # A mistake that has rotted with the code that it breaks raises, which is no mistake of the server's.
            assert not any(name in problems[0] for name in ("TypeError", "AttributeError")), problems[0]
            return
    pytest.fail(f"{mutate.__name__} goes unnoticed in {_WITHIN} histories")
