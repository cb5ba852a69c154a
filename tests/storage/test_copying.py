"""Stores copied between an SQLite file and PostgreSQL: there and back nothing has changed, and clients go on."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

import waypost
from tests.storage.backends import ignore
from tests.support.waiting import until
from waypost.cli import main
from waypost.errors import ConfigurationError, StorageError, StoreBusy
from waypost.storage.answer_base import Answer
from waypost.storage.copying import copy as copying
from waypost.storage.copying.records import TABLES
from waypost.storage.outside import OutsideWrite
from waypost.storage.queue_records import Attempt, DeadLetterFilter, NewMessageRow, QueueLimits
from waypost.storage.sqlite import outbox
from waypost.storage.sqlite.file import open_beside
from waypost.storage.sqlite.store import SqliteStore
from waypost.testing import serve


async def fill_journals(store: SqliteStore) -> None:
    journal = await store.journal("/")
    await journal.append(b"trimmed", ignore)
    for number in range(1, 700):
        await journal.append(b"event %d" % number, ignore)
    await journal.open_session(b"one", "sid 1", b"data \x00 1", ignore)
    await journal.join(b"one", ["sid 1", "room", "nul \0 \x01"], ignore)
    await asyncio.gather(*(journal.append(b"together %d" % number, ignore) for number in range(5)))
    await journal.leave(b"one", ["room"], ignore)
    await journal.append(b"large " + b"x" * 5000, ignore)
    journal.prove(b"one", 703, 702)
    await journal.note_stuck(b"one", 704, 2)
    await journal.detach_session(b"one", store.clock.now() + 1000)
    await journal.open_session(b"two", "sid 2", b"", ignore)
    await journal.open_session(b"old", "sid 3", b"", ignore)
    await journal.detach_session(b"old", store.clock.now() - 5)
    await store.expire_sessions()
    await store.journal("/empty")
    await (await store.journal("/other")).append(b"x", ignore)


async def fill_queues(store: SqliteStore) -> None:
    queue = store.queue("q")
    limits = QueueLimits(
        max_messages=50, max_bytes=1 << 20, max_age_s=1e6, overflow="drop_oldest", keep_settled_s=900
    )
    await queue.configure(limits, b'{"deduplication_s": 1000.0}')
    for number in range(1, 9):
        key, ttl_s = "k\x01" if number % 2 else None, 1e6 if number == 6 else None
        message = NewMessageRow(
            f"m{number}\0", b"record %d" % number, key, ttl_s, 0.0, '{"a":"b"}' if number == 2 else None
        )
        await queue.enqueue([message], deduplicate_s=1e6, on_commit=ignore)
    await queue.enqueue([NewMessageRow("large", b"y" * 5000)], deduplicate_s=0, on_commit=ignore)
    await queue.enqueue([NewMessageRow("later", b"z", "k", 5.0, 3600.0)], deduplicate_s=1e6, on_commit=ignore)
    a, b = await queue.add_consumer("a"), await queue.add_consumer("b")
    now = store.clock.now()
    await queue.settle("a", a.epoch, [1, 2, 5])
    await queue.settle("b", b.epoch, [1])
    await queue.retry("a", a.epoch, [Attempt(3, 1, 1, "rejected", "no \x01", now, now + 60, exception="ValueError")])
    await queue.bury("a", a.epoch, [Attempt(4, 2, 0, "rejected", "never", now)])
    await queue.bury("a", a.epoch, [Attempt(6, 2, 0, "rejected", "again", now)])
    again = DeadLetterFilter(reason="again")
    await queue.redrive(again, after=0, max_letters=1, spacing_s=0.0, first_at=0.0)
    await queue.pause("b", until=time.time() + 500)
    await store.queue("deleted").enqueue([NewMessageRow("x", b"x")], deduplicate_s=9, on_commit=ignore)
    await store.queue("deleted").delete()
    purged = store.queue("purged")
    await purged.add_consumer("c")
    await purged.enqueue([NewMessageRow(str(n), b"x") for n in range(5)], deduplicate_s=9, on_commit=ignore)
    await purged.purge(upto=3)
    await store.note_schedule("each hour", 12345.0)
    for number in range(3):
        answer = Answer(b"client", number, f"asked {number}", b"answer" * (1 + 1000 * number), "account")
        await store.answers().keep(answer, 0)


async def make(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    try:
        await fill_journals(store)
        await fill_queues(store)
        with closing(open_beside(path)) as connection:
            write = OutsideWrite("emit", "/", content=b"emitted outside")
            for _ in range(2):
                outbox.write(connection, write, write_id="once", deduplicate_s=900.0)
            store.queue("q").publish(connection, NewMessageRow("published", b"p"), deduplicate_s=900.0)
    finally:
        await store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM chunk WHERE journal = 1 AND first = 1")
        connection.execute("UPDATE journal SET oldest = 2 WHERE id = 1")
        connection.commit()


async def content(store: str) -> dict[str, Any]:
    """Read all of a store; times are rounded, and generations but for the ends of earlier ones."""
    found: dict[str, Any] = {}
    async with copying._reading(store) as reading:
        async for journal in reading.journals():
            one: dict[str, Any] = {"top": journal.top, "oldest": journal.oldest, "before": journal.before}
            one["generations"] = journal.generations
            one["entries"] = [entry[0] async for batch in reading.entries(journal) for entry in batch]
            one["sessions"] = sorted(
                [
                    (
                        s.key,
                        s.sid,
                        s.start,
                        s.proven,
                        s.last,
                        s.data,
                        s.stuck_at,
                        s.stuck_times,
                        sorted(s.rooms, key=repr),
                    )
                    async for s in reading.sessions(journal)
                ]
            )
            one["tombstones"] = [(stone.key, stone.sid) async for stone in reading.tombstones(journal)]
            one["emitted"] = [name async for name, _ in reading.emitted(journal)]
            found[journal.name] = one
        for table in TABLES:
            rows = [row async for batch in reading.rows(table) for row in batch]
            found[table.name] = sorted([_comparable(table, row) for row in rows], key=repr)
    return found


def _comparable(table: Any, row: tuple[Any, ...]) -> dict[str, Any]:
    values = {column.name: value for column, value in zip(table.columns, row, strict=True)}
    for column in table.columns:
        value = values[column.name]
        if column.kind == "time" and value is not None:
            values[column.name] = round(value / 30)
        elif column.kind == "history" and value is not None:
            values[column.name] = [item[1:] for item in json.loads(value)]
        elif isinstance(value, int) and column.type != "boolean":
            values[column.name] = int(value)
    values["given_up"] = bool(values.get("given_up"))
    if table.name == "queue":
        # Where the first message is, PostgreSQL knows better.
        values.pop("floor")
    return values


async def test_there_and_back_nothing_has_changed(tmp_path: Path, postgres_url: str) -> None:
    path, back = tmp_path / "store.db", tmp_path / "back.db"
    await make(path)
    reached: list[int] = []
    copied = await copying.copy_store(str(path), postgres_url, reached.append)
    assert copied.journals == 3
    assert reached == sorted(reached)
    assert reached[-1] == copied.entries + sum(copied.rows.values())
    original = await content(str(path))
    assert original["/"]["top"] == 707
    assert original["/"]["entries"][-1] == b"emitted outside"
    assert sorted(queue["name"] for queue in original["queue"]) == ["purged", "q"]
    assert len(original["answer"]) == 2
    assert original["outstanding"]
    assert original["dead_letter"]
    assert original["settled"]
    on_postgres = await content(postgres_url)
    for name, expected in original.items():
        assert on_postgres[name] == expected, name
    await copying.copy_store(postgres_url, str(back))
    returned = await content(str(back))
    for name, expected in original.items():
        assert returned[name] == expected, name
    # It is a sound file, with which a server goes on.
    assert main(["store", "check", str(back)]) == 0
    store = SqliteStore(back)
    await store.open()
    try:
        journal = await store.journal("/")
        assert (journal.top, journal.oldest) == (707, 2)
        found = await journal.find_session(b"one")
        assert found is not None
        assert (found.damaged, found.proven, found.last, found.stuck_at) == (False, 703, 702, 704)
        assert 900 < (found.expires_at or 0) - store.clock.now() < 1001
        assert (await journal.append(b"next", ignore)) == 708
        (info,) = [row for row in await store.queues() if row.name == "q"]
        assert (info.delayed, info.dead, info.consumers) == (1, 1, 2)
        again = await store.queue("q").enqueue([NewMessageRow("m1\0", b"again")], deduplicate_s=1e6, on_commit=ignore)
        assert again.accepted[0].duplicate
        assert await store.answers().find(b"client", 1, "asked 1") == b"answer" * 1001
        fetched = await store.queue("q").fetch("a", after=0, max_messages=9, max_bytes=1 << 20)
        assert not any(message.damaged for message in fetched)
    finally:
        await store.close()


async def test_a_client_recovers_from_the_copy(tmp_path: Path, postgres_url: str) -> None:
    path, back = tmp_path / "store.db", tmp_path / "back.db"
    got: list[Any] = []
    async with serve(waypost.Server(store=path, drain_s=0)) as site:
        port = int(site.url.rpartition(":")[2])
        client = waypost.Client(site.url, reconnection_delay_s=0.05, reconnection_delay_max_s=0.1)
        client.on_any(lambda event, *args: got.append((event, *args)))
        await client.connect()
        await site.io.emit("first")
        await until(lambda: got == [("first",)], "the client has the first event")
    async with waypost.Emitter(path) as emitter:
        await emitter.emit("while no server ran")
    await copying.copy_store(str(path), postgres_url)
    await copying.copy_store(postgres_url, str(back))
    async with serve(waypost.Server(store=back, drain_s=0), port=port) as site:
        await until(lambda: len(got) == 2, "the client has what it missed")
        assert client.recovered
        await site.io.emit("last")
        await until(lambda: got[-1] == ("last",), "the client has the last event")
        await client.close()
    assert got == [("first",), ("while no server ran",), ("last",)]


async def test_what_is_in_use_or_not_empty_is_refused_and_nothing_is_left_behind(
    tmp_path: Path, postgres_url: str
) -> None:
    path = tmp_path / "store.db"
    await make(path)
    with pytest.raises(ConfigurationError, match="does not exist yet"):
        await copying.copy_store(postgres_url, str(path))
    with pytest.raises(ConfigurationError, match="there is none"):
        await copying.copy_store(str(tmp_path / "none.db"), postgres_url)
    with pytest.raises(ConfigurationError, match="memory"):
        await copying.copy_store("memory:", postgres_url)
    async with serve(waypost.Server(store=path, drain_s=0)):
        with pytest.raises(StoreBusy):
            await copying.copy_store(str(path), postgres_url)
    await copying.copy_store(str(path), postgres_url)
    with pytest.raises(StorageError, match="not empty"):
        await copying.copy_store(str(path), postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("SELECT waypost.enter_1('n', 'a:1', '0', '{}', 10)")
    with pytest.raises(StorageError, match=r"servers use it \(n\)"):
        await copying.copy_store(postgres_url, str(tmp_path / "back.db"))
    assert [one.name for one in tmp_path.glob("back*")] == []


async def test_a_copy_that_fails_leaves_nothing_behind(tmp_path: Path, postgres_url: str) -> None:
    path, back = tmp_path / "store.db", tmp_path / "back.db"
    await make(path)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        await copying.copy_store(str(path), postgres_url)
        connection.execute("UPDATE waypost.dead_letter SET reason = NULL WHERE false")
        connection.execute("DROP TABLE waypost.schedule")
        with pytest.raises(StorageError, match="schedule"):
            await copying.copy_store(postgres_url, str(back))
    assert [one.name for one in tmp_path.glob("back*")] == []


def test_the_command_says_what_it_has_copied(
    tmp_path: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "store.db"
    asyncio.run(make(path))
    assert main(["store", "copy", str(path), postgres_url]) == 0
    told = capsys.readouterr().out
    assert told.startswith("copied 3 namespaces with ")
    assert "2 of queue" in told
    assert main(["store", "copy", postgres_url, str(tmp_path / "back.db"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["journals"] == 3
