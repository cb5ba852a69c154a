"""Clocks of nodes and of their host: what is asked for in durations lasts as long, however late the host hears of it.

A node's clock that stands while the host's goes on is a request that was under way for as long.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.storage.backends import Clock, ignore
from tests.storage.followers import HOSTED, Cluster, Node, Rows, cluster
from waypost.storage.queue_records import Attempt, DeadLetterFilter, NewMessageRow

KEY = b"key"
UNDER_WAY_S = 20.0


@dataclass
class Late:
    """A node whose requests are under way for long."""

    many: Cluster
    node: Node
    rows: Rows

    def now(self) -> float:
        """Return the node's time on the store's clock."""
        return self.node.store.clock.now()

    def delay(self) -> None:
        """Let the next request be under way for long."""
        self.many.clock.now += UNDER_WAY_S

    @property
    def host_now(self) -> float:
        return self.many.clock.now


@pytest.fixture(params=HOSTED)
async def late(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Late]:
    async with cluster(request.param, tmp_path) as many:
        node = await many.add("a", Clock(now=5.0))
        yield Late(many, node, await node.journal())


async def test_a_sessions_life_does_not_run_while_its_end_is_under_way(late: Late) -> None:
    journal = late.rows.journal
    await journal.open_session(KEY, "sid", b"", ignore)
    expires_at = late.now() + 8.0
    late.delay()
    await journal.detach_session(KEY, expires_at)
    assert await late.node.store.expire_sessions() == []
    found = await journal.find_session(KEY)
    assert found is not None
    assert found.expires_at == pytest.approx(late.host_now + 8.0)
    late.many.clock.now += 9.0
    (expired,) = await late.node.store.expire_sessions()
    assert expired.sid == "sid"


async def test_a_pause_before_a_retry_lasts_as_long(late: Late) -> None:
    queue = late.node.store.queue("q")
    await queue.enqueue([NewMessageRow("m", b"x"), NewMessageRow("n", b"x")], deduplicate_s=1, on_commit=ignore)
    row = await queue.add_consumer("c")
    paused = Attempt(1, 1, 0, "rejected", "no", late.now(), late.now() + 8.0)
    at_once = Attempt(2, 1, 0, "rejected", "no", late.now())
    late.delay()
    await queue.retry("c", row.epoch, [paused, at_once])
    retries = await queue.fetch_retries("c", upto=2, held=(), max_messages=9, max_bytes=99)
    assert [one.id for one in retries.messages] == ["n"]
    assert retries.next_at == pytest.approx(late.host_now + 8.0)


async def test_dead_letters_died_when_the_host_heard_of_it_and_are_redriven_as_far_apart(late: Late) -> None:
    queue = late.node.store.queue("q")
    await queue.enqueue([NewMessageRow("m", b"x")], deduplicate_s=1, on_commit=ignore)
    row = await queue.add_consumer("c")
    dead = Attempt(1, 1, 0, "rejected", "no", late.now() - 1.0, 3.0)
    late.delay()
    await queue.bury("c", row.epoch, [dead])
    (letter,) = await queue.dead_letters(DeadLetterFilter(), after=0, max_letters=9, max_bytes=99)
    assert letter.died_at == pytest.approx(late.host_now - 1.0)
    first_at = late.now() + 8.0
    late.delay()
    redriven = await queue.redrive(DeadLetterFilter(), after=0, max_letters=9, spacing_s=0.0, first_at=first_at)
    assert redriven.next_due_at == pytest.approx(late.host_now + 8.0)


async def test_a_node_whose_welcome_was_under_way_for_long_catches_up(late: Late) -> None:
    late.delay()
    assert late.now() == pytest.approx(late.host_now - UNDER_WAY_S)
    await late.node.store.trim()
    assert late.now() == pytest.approx(late.host_now)
    late.node.clock.now += 5.0
    await late.node.store.trim()
    assert late.now() == pytest.approx(late.host_now + 5.0), "its clock never goes back"


async def test_no_session_ends_right_after_its_host_stood_still(late: Late) -> None:
    journal, store, host = late.rows.journal, late.node.store, late.many.host
    await journal.open_session(KEY, "sid", b"", ignore)
    await journal.detach_session(KEY, late.now() + 8.0)
    host.beat()
    late.delay()
    assert await store.expire_sessions() == [], "asked before the host's next beat"
    for _ in range(int(UNDER_WAY_S)):
        host.beat()
        assert await store.expire_sessions() == []
        late.many.clock.now += 1.0
    host.beat()
    (expired,) = await store.expire_sessions()
    assert expired.sid == "sid"


async def test_sessions_end_in_time_while_the_host_runs(late: Late) -> None:
    journal, store = late.rows.journal, late.node.store
    await journal.open_session(KEY, "sid", b"", ignore)
    await journal.detach_session(KEY, late.now() + 8.0)
    for _ in range(9):
        late.many.host.beat()
        assert await store.expire_sessions() == []
        late.many.clock.now += 1.0
    (expired,) = await store.expire_sessions()
    assert expired.sid == "sid"
