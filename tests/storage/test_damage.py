"""Bytes that change in a file: they are found by a record's sum, and told instead of delivered."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from tests.storage.backends import UNLIMITED, Clock, ignore, settle
from waypost.errors import StoreDamaged
from waypost.storage.answer_base import Answer, AnswerGivenUp
from waypost.storage.base import Journal
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Attempt, DeadLetterFilter, NewMessageRow, QueueLimits
from waypost.storage.sqlite import file as sqlite_file
from waypost.storage.sqlite.copies import check
from waypost.storage.sqlite.outbox import publish
from waypost.storage.sqlite.store import SqliteStore

ALL = DeadLetterFilter()
MARKED = b"this text stands where the file is damaged "


def flip(path: Path, near: bytes, bytes_: int = 10, *, seed: int = 1) -> None:
    """Change some bytes of a file behind each place where a text stands."""
    content = bytearray(path.read_bytes())
    chance = random.Random(seed)
    start, places = content.find(near), 0
    while start >= 0:
        for index in range(start, start + min(bytes_, len(near))):
            content[index] ^= chance.randrange(1, 256)
        places += 1
        start = content.find(near)
    assert places, f"{near!r} is not in the file"
    path.write_bytes(content)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@asynccontextmanager
async def opened(path: Path, clock: Clock | None = None, tail_bytes: int = 0) -> AsyncIterator[SqliteStore]:
    """Open a store that reads all from the file, and close it so that the file has all."""
    store = SqliteStore(path, wall_time=clock or Clock(), tail_bytes=tail_bytes)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def read(journal: Journal, after: int) -> list[bytes]:
    entries = await journal.read(after, journal.top, max_entries=UNLIMITED, max_bytes=UNLIMITED)
    assert [entry.position for entry in entries] == [*range(after + 1, after + 1 + len(entries))]
    return [entry.record for entry in entries]


@pytest.mark.parametrize("size", [100, 5_000], ids=["small", "large"])
@pytest.mark.parametrize("tail_bytes", [0, 1 << 20], ids=["from the file", "from memory"])
async def test_a_damaged_event_is_told_and_the_others_are_read(path: Path, size: int, tail_bytes: int) -> None:
    records = [b"event %d " % number + b"x" * size for number in range(1, 8)]
    records[3] = MARKED + b"x" * size
    async with opened(path) as store:
        journal = await store.journal("/")
        for record in records:
            await journal.append(record, ignore)
    flip(path, MARKED)
    async with opened(path, tail_bytes=tail_bytes) as store:
        journal = await store.journal("/")
        assert journal.top == 7
        assert await read(journal, 0) == records[:3]
        assert await read(journal, 4) == records[4:]
        with pytest.raises(StoreDamaged, match="event 4 of /"):
            await read(journal, 3)
        assert await journal.append(b"new", ignore) == 8


async def test_events_of_one_commit_are_damaged_one_by_one(path: Path) -> None:
    async with opened(path) as store:
        journal = await store.journal("/")
        records = [MARKED if number == 2 else b"event %d" % number for number in range(1, 5)]
        await asyncio.gather(*(journal.append(record, ignore) for record in records))
    flip(path, MARKED)
    async with opened(path) as store:
        journal = await store.journal("/")
        assert await read(journal, 0) == [b"event 1"]
        assert await read(journal, 2) == [b"event 3", b"event 4"]
        with pytest.raises(StoreDamaged):
            await read(journal, 1)


async def test_a_hole_between_events_is_damage(path: Path) -> None:
    async with opened(path) as store:
        journal = await store.journal("/")
        for number in range(1, 8):
            await journal.append(b"%d" % number, ignore)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM chunk WHERE first IN (4, 5)")
        connection.commit()
    async with opened(path, tail_bytes=1 << 20) as store:
        journal = await store.journal("/")
        assert await read(journal, 0) == [b"1", b"2", b"3"]
        assert await read(journal, 5) == [b"6", b"7"]
        for after in (3, 4):
            with pytest.raises(StoreDamaged):
                await read(journal, after)


async def test_sizes_of_events_that_changed_are_damage(path: Path) -> None:
    async with opened(path) as store:
        journal = await store.journal("/")
        for _ in range(3):
            await journal.append(b"x" * 77, ignore)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE chunk SET sizes = x'4c000000' WHERE first = 2")
        connection.commit()
    async with opened(path) as store:
        journal = await store.journal("/")
        assert len(await read(journal, 0)) == 1
        with pytest.raises(StoreDamaged):
            await read(journal, 1)
        assert len(await read(journal, 2)) == 1


async def test_no_position_is_used_again_when_the_newest_ones_are_uncertain(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(path) as store:
        journal = await store.journal("/")
        for number in range(1, 8):
            await journal.append(b"%d" % number, ignore)
        await journal.open_session(b"key", "sid", b"{}", ignore)
        generation = journal.generation
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE chunk SET first = 5000 WHERE first = 7")
        connection.execute("DELETE FROM chunk WHERE first = 6")
        connection.commit()
    async with opened(path) as store:
        journal = await store.journal("/")
        assert "its newest events are damaged" in caplog.text
        assert journal.oldest == journal.top + 1 > 5000
        assert generation not in journal.ends
        assert await journal.find_session(b"key") is None
        top = journal.top
        assert await journal.append(b"new", ignore) == top + 1
    async with opened(path) as store:
        assert (await store.journal("/")).top == top + 1


SESSION_DAMAGE = {
    "data": "UPDATE session SET data = x'7b7d'",
    "proven": "UPDATE session SET proven = 3",
    "start": "UPDATE session SET start = 0",
    "sid": "UPDATE session SET sid = 'other'",
    "a room": "UPDATE membership SET room = 'other' WHERE room = 'room'",
    "when it joined": "UPDATE membership SET since = 2",
    "when it left": "UPDATE membership SET until = 1 WHERE room = 'left'",
}


@pytest.mark.parametrize("what", SESSION_DAMAGE)
async def test_a_damaged_session_is_told(path: Path, what: str) -> None:
    async with opened(path) as store:
        journal = await store.journal("/")
        await journal.append(b"1", ignore)
        await journal.open_session(b"key", "sid", b"old", ignore)
        await journal.join(b"key", ["room", "left"], ignore)
        await journal.append(b"2", ignore)
        await journal.append(b"3", ignore)
        await journal.leave(b"key", ["left"], ignore)
        await journal.save_session(b"key", b"data")
        journal.prove(b"key", 2, 2)
        found = await journal.find_session(b"key")
        assert found is not None
        assert not found.damaged
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(SESSION_DAMAGE[what])
        connection.commit()
    async with opened(path) as store:
        journal = await store.journal("/")
        found = await journal.find_session(b"key")
        assert found is not None
        assert found.damaged
        assert await journal.attach_session(b"key", lambda _: None) is None


async def test_rooms_that_many_join_and_leave_have_sums(path: Path) -> None:
    async with opened(path) as store:
        journal = await store.journal("/")
        await journal.open_session(b"key", "sid", b"data", ignore)
        await journal.join_matching(None, (), ["all", "gone"], ignore)
        await journal.append(b"1", ignore)
        await journal.leave_matching(["all"], (), ["gone"], ignore)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*), count(sum) FROM membership").fetchall() == [(2, 2)]
    async with opened(path) as store:
        found = await (await store.journal("/")).find_session(b"key")
        assert found is not None
        assert not found.damaged


async def test_the_data_of_a_session_that_expires_is_not_told_if_it_is_damaged(path: Path) -> None:
    clock = Clock()
    async with opened(path, clock) as store:
        journal = await store.journal("/")
        await journal.open_session(b"key", "sid", MARKED, ignore)
        await journal.detach_session(b"key", clock.now + 1)
    flip(path, MARKED)
    clock.now += 2
    async with opened(path, clock) as store:
        assert [(one.sid, one.data) for one in await store.expire_sessions()] == [("sid", b"")]


async def put_marked(store: SqliteStore, *, delay_s: float = 0.0) -> StoredQueue:
    """Put three messages into a queue, of which the second is to be damaged."""
    queue = store.queue("q")
    await queue.add_consumer("c")
    records = (b"first", MARKED, b"third")
    messages = [NewMessageRow(str(index), record, delay_s=delay_s) for index, record in enumerate(records, 1)]
    await queue.enqueue(messages, deduplicate_s=60, on_commit=ignore)
    return queue


async def seen(queue: StoredQueue) -> list[tuple[int, bool]]:
    messages = await queue.fetch("c", after=0, max_messages=9, max_bytes=UNLIMITED)
    return [(message.position, message.damaged) for message in messages]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE message SET record = x'00' WHERE position = 2",
        "UPDATE message SET id = 'other' WHERE position = 2",
        "UPDATE message SET id = CAST(x'c3' AS TEXT) WHERE position = 2",
        "UPDATE message SET key = 'other' WHERE position = 2",
        "UPDATE message SET headers = '{}' WHERE position = 2",
        "UPDATE message SET body = 77 WHERE position = 2",
    ],
)
async def test_a_damaged_message_is_marked_and_becomes_a_dead_letter(path: Path, damage: str) -> None:
    async with opened(path) as store:
        await put_marked(store)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(damage)
        connection.commit()
    async with opened(path) as store:
        queue = store.queue("q")
        assert await seen(queue) == [(1, False), (2, True), (3, False)]
        epoch = (await queue.consumer("c")).epoch
        await queue.bury("c", epoch, [Attempt(2, 0, 0, "rejected", "damaged", 1.0)])
        await settle(queue, "c", [1, 3])
        (letter,) = await queue.dead_letters(ALL, after=0, max_letters=9, max_bytes=UNLIMITED)
        assert (letter.position, letter.damaged, letter.reason) == (2, True, "damaged")
        await queue.redrive(ALL, after=0, max_letters=9, spacing_s=0, first_at=0)
        assert await seen(queue) == [(4, True)]


async def _in_the_queue(store: SqliteStore, _: Clock) -> None:
    await put_marked(store)


async def _delayed(store: SqliteStore, _: Clock) -> None:
    await put_marked(store, delay_s=60)


@pytest.mark.parametrize("put", [_in_the_queue, _delayed], ids=["in the queue", "delayed"])
async def test_a_message_is_found_damaged_wherever_it_was(
    path: Path, put: Callable[[SqliteStore, Clock], Awaitable[None]]
) -> None:
    clock = Clock()
    async with opened(path, clock) as store:
        await put(store, clock)
    flip(path, MARKED)
    clock.now += 61
    async with opened(path, clock) as store:
        await store.release_due()
        assert await seen(store.queue("q")) == [(1, False), (2, True), (3, False)]


async def test_a_published_message_is_found_damaged(path: Path) -> None:
    async with opened(path) as store:
        queue = store.queue("q")
        await queue.add_consumer("c")
        limits = (await queue.configuration()).limits
        assert limits is None
    with closing(sqlite3.connect(path)) as connection:
        publish(connection, "q", NewMessageRow("1", MARKED), deduplicate_s=0, limits=QueueLimits())
        connection.commit()
        connection.execute("UPDATE outbox SET record = x'00'")
        connection.commit()
    async with opened(path) as store:
        await store.release_due()
        assert await seen(store.queue("q")) == [(1, True)]


async def test_a_damaged_dead_letter_is_marked(path: Path) -> None:
    async with opened(path) as store:
        queue = await put_marked(store)
        epoch = (await queue.consumer("c")).epoch
        letters = [Attempt(position, 1, 0, "rejected", "no", 1.0) for position in (1, 2)]
        await queue.bury("c", epoch, letters)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE dead_letter SET record = x'00', history = 'no JSON' WHERE id = '2'")
        connection.commit()
    async with opened(path) as store:
        letters_read = await store.queue("q").dead_letters(ALL, after=0, max_letters=9, max_bytes=UNLIMITED)
        assert [(letter.id, letter.damaged) for letter in letters_read] == [("1", False), ("2", True)]


@pytest.mark.parametrize("size", [1, 100], ids=["small", "large"])
async def test_a_damaged_answer_counts_as_given_up(path: Path, size: int) -> None:
    async with opened(path) as store:
        await store.answers().keep(Answer(b"client", 1, "m", MARKED * size), 0)
        await store.answers().keep(Answer(b"client", 2, "n", b"sound"), 0)
    flip(path, MARKED)
    async with opened(path) as store:
        with pytest.raises(AnswerGivenUp):
            await store.answers().find(b"client", 1, "m")
        assert await store.answers().find(b"client", 2, "n") == b"sound"


@pytest.mark.parametrize("seed", range(20))
async def test_no_changed_byte_is_delivered(path: Path, seed: int) -> None:
    """Change ten bytes anywhere in the pages with content; whatever is read then is what was written, or told."""
    chance = random.Random(seed)
    records = [b"%d:" % number + chance.randbytes(700) for number in range(200)]
    async with opened(path) as store:
        journal, queue = await store.journal("/"), store.queue("q")
        await queue.add_consumer("c")
        for number, record in enumerate(records):
            await journal.append(record, ignore)
            await queue.enqueue([NewMessageRow(str(number), record)], deduplicate_s=0, on_commit=ignore)
    content = bytearray(path.read_bytes())
    for _ in range(10):
        # Within a record, so that SQLite's own structure stays.
        start = content.find(chance.choice(records)[:40])
        if start >= 0:
            content[start + chance.randrange(40)] ^= chance.randrange(1, 256)
    path.write_bytes(content)
    async with opened(path) as store:
        journal, queue = await store.journal("/"), store.queue("q")
        after = told = 0
        while after < journal.top:
            try:
                entries = await journal.read(after, journal.top, max_entries=50, max_bytes=UNLIMITED)
            except StoreDamaged:
                after, told = after + 1, told + 1
                continue
            assert all(entry.record == records[entry.position - 1] for entry in entries), f"seed {seed}"
            after = entries[-1].position
        messages = await queue.fetch("c", after=0, max_messages=UNLIMITED, max_bytes=UNLIMITED)
        assert [message.position for message in messages] == [*range(1, 201)]
        wrong = [message for message in messages if message.record != records[message.position - 1]]
        assert all(message.damaged for message in wrong), f"seed {seed}"
        assert told + len(wrong) > 0, f"seed {seed}"


async def test_a_check_names_each_damaged_record(path: Path) -> None:
    async with opened(path) as store:
        journal = await store.journal("/")
        for number in range(1, 5):
            await journal.append(b"%d" % number, ignore)
        await journal.open_session(b"key", "sid", b"data", ignore)
        await journal.join(b"key", ["room"], ignore)
        queue = await put_marked(store)
        await queue.enqueue([NewMessageRow("later", b"x", delay_s=9)], deduplicate_s=0, on_commit=ignore)
        epoch = (await queue.consumer("c")).epoch
        await queue.bury("c", epoch, [Attempt(1, 1, 0, "rejected", "no", 1.0)])
        await store.answers().keep(Answer(b"client", 1, "asked", b"answer"), 0)
    assert check(path, lambda _done, _all: None) == []
    with closing(sqlite3.connect(path)) as connection:
        for change in (
            "chunk SET records = x'00' WHERE first = 2",
            "chunk SET first = 30 WHERE first = 4",
            "session SET data = x'00', start = 77",
            "membership SET room = 'other'",
            "message SET record = x'00' WHERE position = 2",
            "message SET id = CAST(x'c3' AS TEXT) WHERE position = 3",
            "scheduled SET record = x'00'",
            "dead_letter SET record = x'00'",
            "answer SET record = x'00'",
        ):
            connection.execute(f"UPDATE {change}")
        connection.commit()
    assert sorted(check(path, lambda _done, _all: None)) == sorted(
        [
            "event 2 of / is damaged",
            "event 4 of / is damaged",
            "event 30 of / is damaged",
            "the data of session sid is damaged",
            "the place of session sid is damaged",
            "a room of session number 1 is damaged",
            "message q, 2 (queue, offset) is damaged",
            "message q, 3 (queue, offset) is damaged",
            "delayed message 1 is damaged",
            "dead letter 1 is damaged",
            "the answer to asked is damaged",
        ]
    )


async def test_a_page_that_can_not_be_read_keeps_nobody_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [b"%d:" % number + b"x" * 1_000 for number in range(1, 101)]
    async with opened(path) as store:
        journal = await store.journal("/")
        for record in records:
            await journal.append(record, ignore)
    content = bytearray(path.read_bytes())
    # The head of the page in which the 50th event stands.
    page = content.find(records[49]) // 8192 * 8192
    content[page : page + 8] = b"\xff" * 8
    path.write_bytes(content)
    # As for a large file, which is not read whole.
    monkeypatch.setattr(sqlite_file, "_FULL_CHECK_BYTES", 0)
    store = SqliteStore(path)
    await store.open()
    journal = await store.journal("/")
    assert await read(journal, 90) == records[90:]
    with pytest.raises(StoreDamaged):
        await read(journal, 0)
    assert await journal.append(b"new", ignore) == 101
    await store.close()
