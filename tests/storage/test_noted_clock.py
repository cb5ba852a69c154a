"""The store's clock over restarts and crashes, and as other programs on the same file see it."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.storage.backends import Clock, ignore, put
from waypost.storage.queue_records import NewMessageRow, QueueLimits
from waypost.storage.sqlite.outbox import publish
from waypost.storage.sqlite.store import SqliteStore
from waypost.storage.sqlite.visitor import SqliteVisitor

_HOUR_S = 3600.0


class Machine:
    """A machine with a store, and the two clocks of the machine, which a test moves."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wall, self.steady = Clock(), Clock(70.0)

    def store(self) -> SqliteStore:
        return SqliteStore(self.path, wall_time=self.wall, steady_time=self.steady)

    def visitor(self) -> SqliteVisitor:
        return SqliteVisitor(self.path, wall_time=self.wall, steady_time=self.steady)

    def pass_by(self, seconds: float) -> None:
        self.wall.now += seconds
        self.steady.now += seconds

    def reboot(self) -> None:
        self.steady.now = 1.0

    def crash(self) -> None:
        """Go on with the file as a kill at this moment would leave it."""
        copy = self.path.with_name(f"copy-of-{self.path.name}")
        for suffix in ("", "-wal"):
            shutil.copy(f"{self.path}{suffix}", f"{copy}{suffix}")
        self.path = copy


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "store.db")


async def test_it_goes_on_from_a_closed_store_if_the_wall_clock_was_set_back(machine: Machine) -> None:
    store = machine.store()
    await store.open()
    machine.pass_by(100)
    closed_at = store.clock.now()
    await store.close()
    machine.reboot()
    machine.wall.now -= _HOUR_S
    await store.open()
    assert store.clock.now() == closed_at
    await store.close()
    machine.wall.now += 2 * _HOUR_S
    await store.open()
    assert store.clock.now() == machine.wall.now
    await store.close()


async def test_no_commit_before_a_crash_is_later_than_what_comes_after_it(machine: Machine) -> None:
    before = machine.store()
    await before.open()
    for _ in range(5):
        machine.pass_by(0.03)
        await put(before.queue("q"), "m", deduplicate_s=0)
    machine.crash()
    machine.reboot()
    machine.wall.now -= _HOUR_S
    after = machine.store()
    await after.open()
    (*_, last) = await after.queue("q").peek(after=0, max_messages=10, max_bytes=1000)
    assert last.enqueued_at <= after.clock.now() <= last.enqueued_at + 0.2
    await after.close()
    await before.close()


async def test_commits_write_the_time_ten_times_a_second_at_most(machine: Machine) -> None:
    store = machine.store()
    await store.open()
    noted = []
    with sqlite3.connect(machine.path) as connection:
        for _ in range(100):
            machine.pass_by(0.01)
            await put(store.queue("q"), "m", deduplicate_s=0)
            noted += connection.execute("SELECT clock FROM opening").fetchone()
            assert noted[-1] >= store.clock.now()
    connection.close()
    assert len({*noted}) <= 11
    await store.close()


async def test_other_programs_follow_a_clock_that_is_apart_from_the_wall(machine: Machine) -> None:
    store = machine.store()
    await store.open()
    machine.wall.now += 30 * 24 * _HOUR_S
    await put(store.queue("q"), "one")
    machine.pass_by(_HOUR_S)
    visitor = machine.visitor()
    await visitor.open()
    assert visitor.clock.now() == pytest.approx(store.clock.now())
    assert visitor.clock.to_wall(store.clock.now()) == pytest.approx(machine.wall.now)
    await visitor.close()
    await store.close()


async def test_a_delay_of_another_program_counts_on_the_stores_clock(machine: Machine) -> None:
    store = SqliteStore(machine.path)
    await store.open()
    store.clock.begin(store.clock.now() + _HOUR_S)
    await put(store.queue("q"), "one")
    with sqlite3.connect(machine.path, isolation_level=None) as connection:
        limits = QueueLimits()
        publish(connection, "q", NewMessageRow("later", b"", delay_s=60), deduplicate_s=0, limits=limits)
    connection.close()
    due = await store.release_due()
    assert due.next_at is not None
    assert 50 < due.next_at - store.clock.now() <= 60
    await store.close()


async def test_what_is_noted_counts_after_a_failed_commit(machine: Machine) -> None:
    store = machine.store()
    await store.open()
    machine.pass_by(1)

    def fail(_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store._open().writer.submit(fail)
    await store.queue("q").enqueue([NewMessageRow("m", b"")], deduplicate_s=0, on_commit=ignore)
    with sqlite3.connect(machine.path) as connection:
        ((noted,),) = connection.execute("SELECT clock FROM opening").fetchall()
    connection.close()
    assert noted >= store.clock.now()
    await store.close()
