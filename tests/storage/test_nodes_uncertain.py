"""The third outcome of a write: the host goes away before its report came. It was done once, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.storage.backends import ignore
from tests.storage.followers import Cluster, Node, cluster, settled
from waypost.errors import StorageError, StorageUncertain, StoreClosed, StoreLost
from waypost.storage.answer_base import Answer
from waypost.storage.base import Journal, Store
from waypost.storage.queue_records import NewMessageRow
from waypost.storage.wire.link import MemoryLink
from waypost.storage.wire.socket_link import SocketLink

KEY = b"key"
ENDS = (1_000_050, 1_000_900)
MESSAGES = [NewMessageRow("a", b"1"), NewMessageRow("b", b"2")]

Write = Callable[[Store, Journal, Callable[[object], None]], Awaitable[object]]
WRITES: dict[str, Write] = {
    "append": lambda store, journal, told: journal.append(b"event", told),
    "append once": lambda store, journal, told: store.append_once("/", b"event", "id", 60.0),
    "open": lambda store, journal, told: journal.open_session(b"new", "new", b"", told),
    "attach": lambda store, journal, told: journal.attach_session(b"away", told),
    "save": lambda store, journal, told: journal.save_session(KEY, b"other"),
    "detach": lambda store, journal, told: journal.detach_session(KEY, 1_000_050),
    "end": lambda store, journal, told: journal.end_session(KEY),
    "stuck": lambda store, journal, told: journal.note_stuck(KEY, 1, 1),
    "join": lambda store, journal, told: journal.join(KEY, ["room"], told),
    "leave": lambda store, journal, told: journal.leave(KEY, ["home"], told),
    "join matching": lambda store, journal, told: journal.join_matching(None, (), ["room"], told),
    "leave matching": lambda store, journal, told: journal.leave_matching(None, (), ["home"], told),
    "end matching": lambda store, journal, told: journal.end_matching(None, (), told),
    "enqueue": lambda store, journal, told: store.queue("q").enqueue(MESSAGES, deduplicate_s=60, on_commit=told),
    "seek": lambda store, journal, told: store.queue("q").seek("c", "new"),
    "configure": lambda store, journal, told: store.queue("q").configure(None, b"settings"),
    "answer": lambda store, journal, told: store.answers().keep(Answer(b"client", 1, "id", b"answer"), 0),
    "schedule": lambda store, journal, told: store.note_schedule("daily", 5.0),
}


@pytest.fixture(params=["memory", "sqlite-socket"])
async def many(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(request.param, tmp_path) as one:
        yield one


async def state(store: Store) -> list[object]:
    """All that the writes can change, as another node sees it."""
    journal, queue = await store.journal("/"), store.queue("q")
    sessions = [await journal.find_session(key) for key in (KEY, b"away", b"new")]
    return [
        journal.top,
        # How long the session lives that was attached is left out: the death of its node changes that.
        [
            one
            and (one.sid, one.data, one.memberships, one.stuck_at, one.expires_at if one.expires_at in ENDS else 0)
            for one in sessions
        ],
        await queue.info(),
        await queue.configuration(),
        (await queue.consumer("c")).cursor,
        await store.answers().find(b"client", 1, "id"),
        await store.schedule_noted("daily"),
    ]


async def prepared(many: Cluster) -> tuple[Node, Node, Journal]:
    """A node that has sessions and a queue, and one that looks on."""
    writer, other = await many.add("writer"), await many.add("other")
    journal = await writer.store.journal("/")
    for key in (KEY, b"away"):
        await journal.open_session(key, key.decode(), b"data", ignore)
        await journal.join(key, ["home"], ignore)
    await journal.append(b"first", ignore)
    await journal.detach_session(b"away", 1_000_900)
    queue = writer.store.queue("q")
    assert (await queue.add_consumer("c")).epoch
    await queue.enqueue([NewMessageRow("first", b"x")], deduplicate_s=60, on_commit=ignore)
    return writer, other, journal


def sever(node: Node) -> None:
    """Let the host go away, as the node sees it: what it has sent last does not come any more."""
    link = node.link
    assert isinstance(link, MemoryLink | SocketLink)
    link.sever()


@pytest.mark.parametrize("is_done", [True, False], ids=["done", "not done"])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_a_write_without_a_report_is_uncertain_and_done_once_or_not_at_all(
    many: Cluster, write: Write, is_done: bool
) -> None:
    writer, other, journal = await prepared(many)
    before = await state(other.store)
    assert writer.link is not None
    told: list[object] = []
    writer.link.pause()
    writing = asyncio.ensure_future(write(writer.store, journal, told.append))
    await asyncio.sleep(0)
    if is_done:
        async with asyncio.timeout(60):
            while await state(other.store) == before:
                await asyncio.sleep(0.001)
    else:
        many.host.detach("writer", "it was killed before it was heard")
    sever(writer)
    with pytest.raises(StorageUncertain) as uncertain:
        await writing
    assert told == [], "nothing is reported of what is not known"
    assert uncertain.value.operation
    await settled(lambda: "writer" not in other.nodes.others, "it is gone")
    after = await state(other.store)
    if not is_done:
        assert after == before
    else:
        assert after != before


async def test_messages_can_be_added_again_with_their_ids(many: Cluster) -> None:
    writer, other, journal = await prepared(many)
    assert writer.link is not None
    writer.link.pause()
    writing = asyncio.ensure_future(WRITES["enqueue"](writer.store, journal, ignore))
    async with asyncio.timeout(60):
        while (await other.store.queue("q").info()).messages == 1:
            await asyncio.sleep(0.001)
    sever(writer)
    with pytest.raises(StorageUncertain, match="add the messages again with the same ids") as uncertain:
        await writing
    assert uncertain.value.ids == ("a", "b")
    again = await other.store.queue("q").enqueue(MESSAGES, deduplicate_s=60, on_commit=ignore)
    assert [one.duplicate for one in again.accepted] == [True, True]


async def test_what_changes_nothing_is_not_uncertain(many: Cluster) -> None:
    writer, _, journal = await prepared(many)
    losses: list[StoreLost] = []
    writer.store.watch_loss(losses.append)
    assert writer.link is not None
    writer.link.pause()
    reads = [
        asyncio.ensure_future(journal.find_session(KEY)),
        asyncio.ensure_future(journal.read(0, 9, max_entries=9, max_bytes=999)),
        asyncio.ensure_future(journal.claim_session(b"away")),
        asyncio.ensure_future(writer.store.queue("q").info()),
    ]
    await asyncio.sleep(0)
    sever(writer)
    for read in reads:
        with pytest.raises(StoreLost):
            await read
    assert len(losses) == 1
    for later in (
        lambda: journal.append(b"", ignore),
        lambda: journal.find_session(KEY),
        lambda: writer.store.journal("/other"),
        lambda: writer.store.queue("q").info(),
        writer.store.trim,
    ):
        with pytest.raises(StoreLost, match="is gone; this process can't go on without it"):
            await later()
    with pytest.raises(StoreLost):
        writer.nodes.send(None, "topic", b"")
    with pytest.raises(StoreLost):
        journal.prove(KEY, 1, 1)
    await writer.store.close()
    with pytest.raises(StoreClosed):
        await journal.append(b"", ignore)


async def test_a_host_that_closes_is_a_host_that_is_gone(many: Cluster) -> None:
    writer, other, _ = await prepared(many)
    losses: list[StoreLost] = []
    for node in (writer, other):
        node.store.watch_loss(losses.append)
    await many.host.close()
    await settled(lambda: len(losses) == 2, "both are told")
    with pytest.raises(StorageError):
        await writer.store.trim()


async def test_nodes_learn_that_the_file_is_lost(tmp_path: Path) -> None:
    async with cluster("sqlite", tmp_path) as many:
        writer, other, journal = await prepared(many)
        losses: list[StoreLost] = []
        for node in (writer, other):
            node.store.watch_loss(losses.append)
        path = many.options.path()
        assert path is not None
        Path(path).unlink()

        async def append_until_it_fails() -> None:
            # The host looks at the file from time to time.
            async with asyncio.timeout(60):
                while True:
                    await journal.append(b"", ignore)
                    await asyncio.sleep(0.01)

        with pytest.raises(StoreLost, match="it was removed"):
            await append_until_it_fails()
        await settled(lambda: len(losses) == 2, "both are told")
        assert "it was removed" in str(losses[0])
