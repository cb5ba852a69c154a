"""What stores send to PostgreSQL is played against a pure engine, which must give the same answers."""

from __future__ import annotations

from random import Random

import pytest

from tests.storage.postgres.trace.faults import FAULTS, QUEUE_FAULTS, Fault, script_with
from tests.storage.postgres.trace.order import NoOrder
from tests.storage.postgres.trace.walk import AT_QUEUES, AT_SESSIONS, BrokenOff, Course, walk

# One is enough for most faults; some need two nodes at the same moment.
_MOST_WALKS = 50


@pytest.mark.parametrize("nodes", [1, 2, 3])
@pytest.mark.parametrize("prefers", [(), AT_QUEUES, AT_SESSIONS], ids=["everything", "queues", "sessions"])
async def test_what_stores_send_and_get_is_what_the_pure_engine_does(
    nodes: int, prefers: tuple[str, ...], rng: Random
) -> None:
    course = Course(nodes=nodes, steps=250, breaks=0.1, restores=1, prefers=prefers, deadline_s=300)
    played = await walk(rng.randrange(1 << 32), course)
    assert played.writes > 50
    assert played.looks > 50


@pytest.mark.parametrize("fault", [*FAULTS, *QUEUE_FAULTS], ids=lambda fault: str(fault.name))
async def test_a_deliberate_fault_is_found(fault: Fault) -> None:
    for seed in range(_MOST_WALKS):
        try:
            await walk(seed, fault.course, script_with(fault))
        except NoOrder:
            return
        except BrokenOff:
            continue
    pytest.fail(f"{fault.name}: not found in {_MOST_WALKS} walks")
