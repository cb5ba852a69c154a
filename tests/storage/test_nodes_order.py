"""The contract between nodes: one order of rows, and messages in it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.storage.backends import ignore, read_all
from tests.storage.followers import ENGINES, HOSTED, Cluster, Rows, cluster, in_step, settled
from waypost.errors import ConfigurationError, StorageError, StoreLost
from waypost.storage.following import EVERYBODY
from waypost.storage.host.host import StoreHost
from waypost.storage.journal_records import Entry, Retention
from waypost.storage.remote.store import RemoteStore
from waypost.storage.wire.link import Link, memory_link

NOBODY: tuple[str, ...] = ()


@pytest.fixture(params=ENGINES)
async def many(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(request.param, tmp_path) as one:
        yield one


@pytest.fixture(params=HOSTED)
async def hosted(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(request.param, tmp_path) as one:
        yield one


async def three(many: Cluster) -> list[Rows]:
    """Three nodes that follow one journal."""
    return [await (await many.add(name)).journal() for name in "abc"]


async def test_all_nodes_apply_the_same_rows_in_the_same_order(many: Cluster, rng: random.Random) -> None:
    nodes = await three(many)

    async def write(number: int) -> None:
        one = rng.choice(nodes)
        match rng.randrange(10):
            case 0:
                await one.journal.join_matching(
                    ["r"], NOBODY, [str(number)], lambda _: one.rows.append(("joined", ["r"], [], [str(number)]))
                )
            case 1:
                await one.journal.leave_matching(
                    None, ["r"], [str(number)], lambda _: one.rows.append(("left", None, ["r"], [str(number)]))
                )
            case _:
                await one.append(b"%d" % number)

    for begin in range(0, 300, 30):
        await asyncio.gather(*(write(number) for number in range(begin, begin + rng.randrange(30))))
    await in_step(*nodes)
    first = nodes[0].rows
    positions = [row[0] for row in first if isinstance(row[0], int)]
    assert positions == list(range(1, len(positions) + 1))
    assert nodes[1].rows == nodes[2].rows == first
    assert len({one.journal.size_bytes for one in nodes}) == 1
    assert [Entry(*row) for row in first if isinstance(row[0], int)] == await read_all(nodes[1].journal)  # type: ignore[arg-type]


async def test_a_node_that_comes_later_follows_from_where_the_journal_stands(many: Cluster) -> None:
    one = await (await many.add("a")).journal()
    for _ in range(5):
        await one.append(b"before")
    late = await (await many.add("b")).journal()
    assert late.journal.top == 5
    assert late.journal.generation == one.journal.generation
    await one.append(b"after")
    await in_step(late)
    assert late.rows == [(6, b"after")]
    assert len(await read_all(late.journal)) == 6


async def test_a_node_reads_only_what_it_has_applied(many: Cluster) -> None:
    one, other, _ = await three(many)
    writing = asyncio.gather(*(one.append(b"x") for _ in range(200)))
    while other.journal.top < 200:
        await asyncio.sleep(0)
        top = other.journal.top
        read = await other.journal.read(0, 1 << 40, max_entries=1000, max_bytes=1 << 20)
        assert len(read) >= top
        assert other.journal.top >= len(read), "what is read was applied before"
    await writing


async def test_the_end_of_sessions_is_told_to_their_homes(many: Cluster) -> None:
    nodes = await three(many)
    for one, name in zip(nodes, "abc", strict=True):
        await one.journal.open_session(name.encode(), f"s{name}", b"", ignore)
        await one.journal.join(name.encode(), ["room"], ignore)
    ended: list[str] = []
    await nodes[0].journal.end_matching(
        ["room"], ["sc"], lambda sessions: ended.extend(one.sid for one in sessions), note=b"note"
    )
    await in_step(*nodes)
    assert ended == ["sa"]
    assert nodes[1].rows == [("ended", ["room"], ["sc"], ["sb"], b"note")]
    assert nodes[2].rows == [("ended", ["room"], ["sc"], [], b"note")]
    assert await nodes[0].journal.find_session(b"b") is None
    assert await nodes[0].journal.find_session(b"c") is not None


async def test_a_message_comes_behind_the_rows_asked_for_before_it_and_before_later_ones(hosted: Cluster) -> None:
    seen: list[list[object]] = []
    nodes = [await hosted.add(name) for name in "abc"]
    journals = [await node.journal() for node in nodes]
    for node, rows in zip(nodes, journals, strict=True):
        log: list[object] = rows.rows  # type: ignore[assignment]
        seen.append(log)
        node.nodes.listen("topic", lambda sender, message, log=log: log.append((sender, message)))  # type: ignore[misc]
    writes = []
    for number in range(50):
        writes.append(asyncio.ensure_future(journals[number % 2].append(b"%d" % number)))
        await asyncio.sleep(0)
        nodes[number % 2].nodes.send(EVERYBODY, "topic", b"%d" % number)
    await asyncio.gather(*writes)
    await in_step(*journals)
    assert seen[0] == seen[1] == seen[2], "messages to everybody have one order, among the rows too"
    for name in "ab":
        mine = [
            one[1]
            for one in seen[2]
            if isinstance(one, tuple)
            and (one[0] == name or (isinstance(one[0], int) and int(one[1]) % 2 == "ab".index(name)))
        ]
        assert mine == [text for number in range("ab".index(name), 50, 2) for text in [b"%d" % number] * 2]


async def test_messages_go_to_one_or_to_all_and_to_those_who_listen(many: Cluster) -> None:
    nodes = [await many.add(name) for name in "abc"]
    got: list[tuple[str, str, bytes]] = []
    for node in nodes:
        node.nodes.listen("t", lambda sender, message, name=node.name: got.append((name, sender, message)))  # type: ignore[misc]
    nodes[2].nodes.listen("t", None)
    nodes[0].nodes.send("b", "t", b"one")
    nodes[0].nodes.send("nobody", "t", b"lost")
    nodes[0].nodes.send(EVERYBODY, "t", b"all")
    nodes[1].nodes.send("a", "other topic", b"lost")
    await settled(lambda: len(got) == 3, "the messages came")
    assert sorted(got) == [("a", "a", b"all"), ("b", "a", b"all"), ("b", "a", b"one")]


async def test_nodes_learn_who_comes_and_goes(many: Cluster) -> None:
    first = await many.add("a")
    changes: list[tuple[str, bool]] = []
    again: list[tuple[str, bool]] = []
    first.nodes.watch(lambda name, is_there: changes.append((name, is_there)))
    first.nodes.watch(lambda name, is_there: again.append((name, name in first.nodes.others)))
    second = await many.add("b")
    assert (first.nodes.name, second.nodes.name) == ("a", "b")
    assert [*second.nodes.others] == ["a"]
    await settled(lambda: [*first.nodes.others] == ["b"], "b has come")
    await second.store.close()
    third = await many.add("c")
    await settled(lambda: [*first.nodes.others] == ["c"], "b is gone, c has come")
    third.kill()
    await settled(lambda: not first.nodes.others, "c is gone")
    assert changes == again == [("b", True), ("b", False), ("c", True), ("c", False)]


async def test_what_a_node_had_asked_for_is_told_before_its_death(hosted: Cluster) -> None:
    first, second = [await hosted.add(name) for name in "ab"]
    told, writer = await first.journal(), await second.journal()
    first.nodes.watch(lambda name, is_there: told.rows.append((name, is_there)))
    tasks = [asyncio.ensure_future(writer.append(b"%d" % number)) for number in range(100)]
    async with asyncio.timeout(60):
        # While the store writes them; a store in memory has written them at once.
        while not (hosted.under_way("b") or told.journal.top):
            await asyncio.sleep(0)
    second.kill()
    await settled(lambda: ("b", False) in told.rows, "its death is told")
    await asyncio.gather(*tasks, return_exceptions=True)
    rows = len(told.rows)
    assert told.rows[-1] == ("b", False)
    for _ in range(5):
        await in_step(told)
    assert len(told.rows) == rows, "nothing comes of a dead node"
    done = [task for task in tasks if task.exception() is None]
    assert len(done) <= rows - 1, "what was reported as done was told to others"


async def test_a_node_with_other_options_is_refused_with_the_difference(hosted: Cluster) -> None:
    await hosted.add("a")
    options = replace(hosted.options, orphan_ttl_s=5, retention=Retention(max_bytes=7))
    other = RemoteStore(lambda: _link_to(hosted.host), options)
    with pytest.raises(ConfigurationError) as refusal:
        await other.open()
    assert str(refusal.value).endswith(
        "expected the options it was opened with: retention.max_bytes 1073741824 (came 7), "
        "orphan_ttl_s 100.0 (came 5.0); to change them, restart the whole service"
    )
    with pytest.raises(StorageError):
        await other.journal("/")
    assert hosted.host.nodes == ("a",)


async def _link_to(host: StoreHost) -> Link:
    theirs, ours = memory_link()
    host.attach(theirs)
    return ours


async def test_a_node_of_another_version_is_refused(hosted: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    await hosted.add("a")
    monkeypatch.setattr("waypost.storage.remote.store.__version__", "0.0.1")
    other = RemoteStore(lambda: _link_to(hosted.host), hosted.options)
    with pytest.raises(ConfigurationError, match="expected the version of the process that has it open"):
        await other.open()


@pytest.mark.parametrize(
    "garbage", [b"\x00\x00\x00\x05hello", b"\x00\x00\x00\x01\x90" * 2 + b"\x00\x00\x00\x03\x91\x91\x63"]
)
async def test_a_node_that_sends_garbage_is_cut_off_and_no_other(hosted: Cluster, garbage: bytes) -> None:
    first, second = [await hosted.add(name) for name in "ab"]
    rows = await second.journal()
    assert first.link is not None
    first.link.send(garbage)
    await settled(lambda: [*second.nodes.others] == [], "it is cut off")
    with pytest.raises(StoreLost):
        await first.store.trim()
    assert await rows.append(b"x") == 1


async def test_a_follower_that_raises_harms_no_later_row(many: Cluster) -> None:
    one, other, _ = await three(many)
    raised: list[int] = []

    def fail(position: int, record: bytes) -> None:
        raised.append(position)
        raise RuntimeError("a mistake")

    other.appended = fail  # type: ignore[method-assign]
    await asyncio.gather(*(one.append(b"x") for _ in range(5)))
    await in_step(other)
    assert (raised, other.journal.top) == ([1, 2, 3, 4, 5], 5)
