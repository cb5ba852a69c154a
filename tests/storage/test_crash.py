"""Killed at any moment, a durable store has all that it reported, and gives no position twice."""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from pathlib import Path

import pytest

from tests.storage import crash_child, queue_crash_child
from tests.storage.backends import UNLIMITED, ignore, read_all, runs
from waypost.storage.base import Journal
from waypost.storage.choose import make_store
from waypost.storage.journal_records import SessionRow
from waypost.storage.options import StoreOptions

pytestmark = pytest.mark.long

ROUNDS = 4
DEADLINE_S = 60.0


async def write_and_kill(spec: str, after_s: float) -> list[list[str]]:
    """Let a process write for a while, kill it, and return what it was told."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, crash_child.__file__, spec, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    ready = await asyncio.wait_for(child.stdout.readline(), DEADLINE_S)
    assert ready.startswith(b"ready")
    first = await asyncio.wait_for(child.stdout.readline(), DEADLINE_S)
    output = asyncio.create_task(child.stdout.read())
    await asyncio.sleep(after_s)
    child.kill()
    lines = (first + await asyncio.wait_for(output, DEADLINE_S)).decode().splitlines()
    assert await asyncio.wait_for(child.wait(), DEADLINE_S) == -9
    return [line.split() for line in lines]


async def check(spec: str, told: list[list[str]]) -> None:
    store = make_store(StoreOptions(spec=spec, orphan_ttl_s=50))
    await store.open()
    kept: dict[tuple[str, str, str], str] = {}
    for name in ("/a", "/b"):
        journal = await store.journal(name)
        entries = await read_all(journal)
        assert not [*runs([entry.position for entry in entries])]
        assert journal.top == len(entries)
        for entry in entries:
            kept["entry", name, str(entry.position)] = entry.record.removesuffix(crash_child.PAYLOAD).decode()
    queue = store.queue("q")
    messages = await queue.fetch("c", after=0, max_messages=UNLIMITED, max_bytes=UNLIMITED)
    assert not [*runs([message.position for message in messages])]
    for message in messages:
        kept["message", "q", str(message.position)] = message.id
    for kind, name, position, token in told:
        if kind == "session":
            session = await detached(await store.journal(name), token.encode())
            assert (session.expires_at or 0) <= store.clock.now() + 50
            assert [one.room for one in session.memberships] == ["room"]
        else:
            assert kept[kind, name, position] == token, "a position means what it meant when it was told"
    top = (await store.journal("/a")).top
    assert await (await store.journal("/a")).append(b"after" + crash_child.PAYLOAD, ignore) == top + 1
    await store.close()


async def detached(journal: Journal, key: bytes) -> SessionRow:
    """Wait until a session is detached: other nodes may notice the death of its home a moment later."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            session = await journal.find_session(key)
            assert session is not None, "stored while it lives"
            if session.expires_at is not None:
                return session
            await asyncio.sleep(0.05)


async def kill_in_rounds(spec: str, rng: random.Random) -> None:
    told: list[list[str]] = []
    for _ in range(ROUNDS):
        told += await write_and_kill(spec, after_s=rng.uniform(0.02, 0.5))
        await check(spec, told)
    assert len(told) > ROUNDS


async def test_nothing_reported_is_lost_to_a_kill(tmp_path: Path, rng: random.Random) -> None:
    await kill_in_rounds(str(tmp_path / "store.db"), rng)


@pytest.mark.timeout(240)
async def test_nothing_reported_is_lost_to_a_kill_on_postgres(postgres_url: str, rng: random.Random) -> None:
    await kill_in_rounds(postgres_url, rng)


async def test_a_kill_at_any_step_of_a_write_to_a_queue_leaves_all_of_it_or_nothing(rng: random.Random) -> None:
    # In memory, if there is such a file system: what a kill leaves is the same there, and comes sooner.
    memory = Path("/dev/shm")
    every = 4
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            queue_crash_child.__name__,
            directory,
            str(rng.randint(1, every)),
            str(every),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        output, errors = await asyncio.wait_for(child.communicate(), 3 * DEADLINE_S)
    assert child.returncode == 0, errors.decode()
    assert len(output.split()) > 50, "steps at which it was killed"
