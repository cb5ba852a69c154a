"""A node that falls behind: bounded memory in the host, entries read again from the store, and the same order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.storage.backends import ignore
from tests.storage.followers import HOSTED, Cluster, Rows, cluster, settled
from waypost.errors import StoreLost
from waypost.storage.following import EVERYBODY
from waypost.storage.host.outgoing import Limits
from waypost.storage.journal_records import Retention

LIMITS = Limits(window_bytes=2_000, held_bytes=4_000, waiting_bytes=20_000)


@pytest.fixture(params=HOSTED)
async def many(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(request.param, tmp_path, limits=LIMITS, retention=Retention(max_entries=1000)) as one:
        yield one


async def pair(many: Cluster) -> tuple[Rows, Rows]:
    return await (await many.add("fast")).journal(), await (await many.add("slow")).journal()


def stand_still(rows: Rows, many: Cluster) -> None:
    link = many.node("slow").link
    assert link is not None
    link.pause()


def go_on(many: Cluster) -> None:
    link = many.node("slow").link
    assert link is not None
    link.resume()


async def append(rows: Rows, first: int, end: int) -> None:
    """Append numbered entries, all under way at once; not too many, since their reports wait too."""
    await asyncio.gather(*(rows.append(b"%d" % number * 20) for number in range(first, end)))


async def test_a_node_that_stood_still_applies_everything_in_order(many: Cluster) -> None:
    fast, slow = await pair(many)
    other_fast, other_slow = [await many.node(name).journal("/other") for name in ("fast", "slow")]
    many.node("slow").nodes.listen("t", lambda sender, message: slow.rows.append(("message", message)))
    many.node("fast").nodes.listen("t", lambda sender, message: fast.rows.append(("message", message)))
    stand_still(slow, many)
    for number in range(0, 600, 50):
        await append(fast, number, number + 50)
        if number % 100 == 0:
            await fast.journal.join_matching(None, (), [str(number)], lambda _: None)
            fast.rows.append(("joined", None, [], [str(number)]))
            await other_fast.append(b"other")
            many.node("fast").nodes.send(EVERYBODY, "t", b"%d" % number)
    assert many.waiting_bytes("slow") <= LIMITS.waiting_bytes
    go_on(many)
    await settled(lambda: slow.journal.top == 600, "it has caught up")
    assert slow.rows == fast.rows
    assert other_slow.rows == other_fast.rows
    assert slow.journal.size_bytes == fast.journal.size_bytes
    assert many.waiting_bytes("slow") == 0
    await fast.append(b"live again")
    await settled(lambda: slow.rows[-1] == (601, b"live again"), "it follows again")


async def test_a_look_up_of_a_slow_node_has_applied_everything_before(many: Cluster) -> None:
    fast, slow = await pair(many)
    await fast.journal.open_session(b"key", "sid", b"", ignore)
    stand_still(slow, many)
    for number in range(0, 300, 50):
        await append(fast, number, number + 50)
    go_on(many)
    assert await slow.journal.find_session(b"key") is not None
    assert slow.journal.top == 300, "it does not refuse a client for what it has not applied yet"


async def test_own_writes_of_a_slow_node_have_their_place(many: Cluster) -> None:
    fast, slow = await pair(many)
    stand_still(slow, many)
    for number in range(0, 300, 50):
        await append(fast, number, number + 50)
    writing = [slow.append(b"own %d" % number) for number in range(3)]
    go_on(many)
    assert [await one for one in writing] == [301, 302, 303]
    assert [row[0] for row in slow.rows] == list(range(1, 304))


async def test_a_node_whose_entries_are_gone_is_cut_off(many: Cluster) -> None:
    fast, slow = await pair(many)
    lost: list[StoreLost] = []
    many.node("slow").store.watch_loss(lost.append)
    stand_still(slow, many)
    for number in range(0, 2500, 50):
        await append(fast, number, number + 50)
    await many.node("fast").store.trim()
    go_on(many)
    await settled(lambda: bool(lost), "it is told that it is lost")
    assert "slow" not in many.host.nodes
    with pytest.raises(StoreLost):
        await slow.append(b"too late")
    positions = [row[0] for row in slow.rows]
    assert all(at == position for at, position in enumerate(positions, 1)), "what it was told has no hole"


async def test_a_node_that_takes_nothing_in_is_cut_off_before_the_host_grows(many: Cluster) -> None:
    fast, slow = await pair(many)
    stand_still(slow, many)
    for number in range(300):
        many.node("fast").nodes.send("slow", "t", b"%d" % number * 100)
        assert many.waiting_bytes("slow") <= LIMITS.waiting_bytes
    await fast.append(b"x")
    await settled(lambda: "slow" not in many.host.nodes, "it is cut off")
    go_on(many)
    assert await fast.append(b"y") == 2
