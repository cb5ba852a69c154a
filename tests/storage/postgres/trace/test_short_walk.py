"""A short walk of stores on PostgreSQL against the pure engine; `test_trace.py` has the long ones."""

from __future__ import annotations

from random import Random

from tests.storage.postgres.trace.walk import Course, walk


async def test_a_short_walk_is_what_the_pure_engine_does(rng: Random) -> None:
    played = await walk(rng.randrange(1 << 32), Course(nodes=2, steps=60))
    assert played.writes > 20
    assert played.looks > 20
