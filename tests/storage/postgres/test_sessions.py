"""Sessions on PostgreSQL: what no other store has to look after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.storage.backends import fill, ignore
from tests.storage.followers import Cluster, Rows, cluster, in_step, settled
from tests.support.postgres_nodes import PostgresEngine
from waypost.storage.base import Journal


@pytest.fixture
async def many(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster("postgresql", tmp_path) as one:
        yield one


def engine_of(many: Cluster) -> PostgresEngine:
    assert isinstance(many.engine, PostgresEngine)
    return many.engine


def execute(many: Cluster, statement: str, *values: object) -> list[Any]:
    with psycopg.connect(engine_of(many).url, autocommit=True) as connection:
        cursor = connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


async def open_some(journal: Journal, *keys: bytes) -> None:
    await asyncio.gather(*(journal.open_session(key, f"sid of {key.decode()}", b"data", ignore) for key in keys))


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE waypost.session SET data = 'dat0'",
        "UPDATE waypost.session SET sid = 'other'",
        "UPDATE waypost.session SET start = 1",
        "UPDATE waypost.proof SET position = 3",
        "UPDATE waypost.proof SET last = 1",
        "UPDATE waypost.membership SET since = 1",
        "UPDATE waypost.membership SET room = 'other'",
        "UPDATE waypost.left_membership SET until = 1",
    ],
)
async def test_a_damaged_session_is_recognised(many: Cluster, damage: str) -> None:
    journal = (await (await many.add("a")).journal()).journal
    await open_some(journal, b"key")
    await journal.join(b"key", ["room", "left"], ignore)
    await fill(journal, 3)
    await journal.leave(b"key", ["left"], ignore)
    journal.prove(b"key", 2, 2)
    found = await journal.find_session(b"key")
    assert found is not None
    assert not found.damaged
    execute(many, damage)
    found = await journal.find_session(b"key")
    assert found is not None
    assert found.damaged
    assert await journal.attach_session(b"key", ignore) is None


async def test_a_node_that_was_thought_to_be_dead_is_the_home_again_of_what_nobody_took(many: Cluster) -> None:
    ghost, other = [await (await many.add(name)).journal() for name in "ab"]
    await open_some(ghost.journal, b"kept", b"away", b"claimed", b"taken", b"expired", b"ended")
    await ghost.journal.join(b"ended", ["room"], ignore)
    await ghost.journal.detach_session(b"away", many.clock.now + 1000)
    engine_of(many).freeze("a")
    engine_of(many).declare("a")
    assert await other.journal.claim_session(b"claimed") == b""
    assert await other.journal.claim_session(b"taken") == b""
    assert await other.journal.attach_session(b"taken", ignore) is not None
    await other.journal.end_matching(["room"], [], ignore)
    execute(many, "UPDATE waypost.session SET expires_at = 0 WHERE key = 'expired'")
    assert [one.sid for one in await many.node("b").store.expire_sessions()] == ["sid of expired"]
    assert many.living == {"b"}
    engine_of(many).thaw("a")
    # It learns of its death by its next write at the latest, which counts all the same.
    await ghost.journal.save_session(b"kept", b"of the ghost")
    assert many.living == {"a", "b"}
    await in_step(ghost, other)
    assert sorted(ghost.claims) == [b"claimed", b"ended", b"expired", b"taken"], "so it ends these lives"
    kept = await other.journal.find_session(b"kept")
    assert kept is not None
    assert (kept.expires_at, kept.data) == (None, b"of the ghost")
    away = await other.journal.find_session(b"away")
    assert away is not None
    assert away.expires_at == many.clock.now + 1000
    for key in (b"claimed", b"taken"):
        await ghost.journal.save_session(key, b"of the ghost")
        found = await other.journal.find_session(key)
        assert found is not None
        assert found.data == (b"of the ghost" if key == b"claimed" else b"data"), "a claim alone makes no home"
    claim = asyncio.ensure_future(other.journal.claim_session(b"kept"))
    await settled(lambda: b"kept" in ghost.claims, "the home is asked again")
    await ghost.journal.release_session(b"kept", b"handed")
    assert await claim == b"handed"


async def test_what_is_proven_adds_rows_and_trimming_leaves_the_newest(many: Cluster) -> None:
    journal = (await (await many.add("a")).journal()).journal
    await open_some(journal, b"one", b"other")
    await fill(journal, 9)
    for position in (3, 5, 9):
        for key in (b"one", b"other"):
            journal.prove(key, position, position - 1)
        await journal.find_session(b"one")
    assert execute(many, "SELECT count(*) FROM waypost.proof") == [(6,)]
    await many.node("a").store.trim()
    assert execute(many, "SELECT position, last FROM waypost.proof") == [(9, 8)] * 2
    found = await journal.find_session(b"other")
    assert found is not None
    assert (found.proven, found.last, found.damaged) == (9, 8, False)


TABLES = ("session", "membership", "left_membership", "proof", "tombstone")


async def use(journal: Journal, *keys: bytes) -> None:
    """Do all that is done for a session between two connections."""
    for key in keys:
        await journal.find_session(key)
        await journal.claim_session(key)
        assert await journal.attach_session(key, ignore) is not None
        await journal.join(key, ["everybody", "own"], ignore)
        await journal.save_session(key, b"data")
        journal.prove(key, journal.top, journal.top)
        await journal.find_session(key)
        await journal.leave(key, ["own"], ignore)
        await journal.detach_session(key, 2_000_000)


def rows_read(many: Cluster) -> tuple[int, int]:
    """Return how many rows were read in order and by an index so far, as the server has counted."""
    query = f"""
        SELECT coalesce(sum(seq_tup_read), 0)::int, coalesce(sum(idx_tup_fetch), 0)::int FROM pg_stat_user_tables
        WHERE schemaname = 'waypost' AND relname IN {TABLES}
    """
    return execute(many, query)[0]  # type: ignore[no-any-return]


async def counted(many: Cluster, rows: Rows, sign: bytes) -> tuple[int, int]:
    """Return `rows_read` when the server has counted all that was done before."""
    calls = "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'session'"
    before = execute(many, calls)[0][0]
    await open_some(rows.journal, sign)
    async with asyncio.timeout(30):
        while execute(many, calls)[0][0] == before:
            await asyncio.sleep(0.05)
            await rows.journal.find_session(sign)
    return rows_read(many)


async def test_no_plan_that_was_made_for_empty_tables_reads_all_rows(many: Cluster) -> None:
    rows = await (await many.add("a")).journal()
    for table in TABLES:
        execute(many, f"ALTER TABLE waypost.{table} SET (autovacuum_enabled = off)")
        execute(many, f"VACUUM ANALYZE waypost.{table}")
    # So often that the server keeps a plan.
    for number in range(12):
        key = b"early %d" % number
        await open_some(rows.journal, key)
        await use(rows.journal, key)
        await rows.journal.end_session(key)
    keys = [b"%d" % number for number in range(3000)]
    await open_some(rows.journal, *keys)
    await asyncio.gather(*(rows.journal.join(key, ["everybody"], ignore) for key in keys))
    in_order, by_index = await counted(many, rows, b"before")
    await use(rows.journal, *keys[1000:1020])
    in_order_after, by_index_after = await counted(many, rows, b"after")
    assert in_order_after - in_order == 0
    assert by_index_after - by_index < 20 * 100
