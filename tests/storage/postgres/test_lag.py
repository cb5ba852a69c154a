"""How far a server is behind the others' events: not at all, as long as it reads all that there is."""

from __future__ import annotations

import asyncio

import pytest

from tests.storage.postgres.stores import followed, opened, until
from waypost.storage.postgres.journals import following
from waypost.storage.postgres.store import PostgresStore

_EVENTS = 400


def ticks_behind(store: PostgresStore) -> int:
    nodes = store.nodes
    assert nodes is not None
    state = nodes.state()
    assert state is not None
    return state.lag.ticks


async def noted(one: PostgresStore, other: PostgresStore) -> list[int]:
    """Let a store write without a pause; returns how far the other one was behind, at each turn of the loop."""
    writing, reading = await followed(one), await followed(other)
    found: list[int] = []

    async def note() -> None:
        while len(reading.rows) < _EVENTS:
            found.append(ticks_behind(other))
            await asyncio.sleep(0)

    async def write(number: int) -> None:
        for count in range(_EVENTS // 4):
            await writing.append(b"%d.%d" % (number, count))

    async with asyncio.timeout(60):
        await asyncio.gather(note(), *(write(number) for number in range(4)))
    await until(lambda: ticks_behind(other) == 0)
    return found


async def test_who_reads_all_there_is_is_not_behind_however_busy_the_others_are(postgres_url: str) -> None:
    async with opened(postgres_url) as one, opened(postgres_url) as other:
        assert {*await noted(one, other)} == {0}


async def test_who_can_not_read_all_at_once_is_behind(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_ROWS", 1)
    async with opened(postgres_url) as one, opened(postgres_url) as other:
        assert {*await noted(one, other)} == {0, 1}
