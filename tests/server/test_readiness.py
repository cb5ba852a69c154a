"""Whether a server says that it is ready, over its life and over what happens to its store."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

import waypost
from tests.support import nodes
from tests.support.waiting import until
from waypost.storage.remote import following
from waypost.storage.sqlite import condition


def codes(io: waypost.Server) -> list[str]:
    return [trouble.code for trouble in io.state().readiness.troubles]


async def test_a_server_is_ready_between_its_start_and_its_stop(tmp_path: Path) -> None:
    io = waypost.Server(store=tmp_path / "a.db")
    assert io.state().readiness == waypost.Readiness("stopped")
    await io.start()
    assert io.state().readiness == waypost.Readiness("running")
    assert io.state().readiness.is_ready
    await io.close()
    assert io.state().readiness == waypost.Readiness("stopped")
    await io.start()
    assert io.state().readiness.is_ready
    await io.close()


async def test_a_server_that_waits_for_its_store_is_opening(tmp_path: Path) -> None:
    first = waypost.Server(store=tmp_path / "a.db")
    await first.start()
    second = waypost.Server(store=tmp_path / "a.db", store_wait_s=60)
    seen = []

    async def stop_the_first() -> None:
        seen.append(second.state().readiness.phase)
        await first.close()

    @second.task
    async def nothing() -> None:
        seen.append(second.state().readiness.phase)

    starting = asyncio.ensure_future(second.start())
    await asyncio.sleep(0)
    await stop_the_first()
    await starting
    await until(lambda: seen == ["opening", "running"], "it was opening, then running")
    await second.close()


async def test_a_server_that_stops_is_draining(tmp_path: Path) -> None:
    io = waypost.Server(store=tmp_path / "a.db")
    seen = []

    @io.consumer("jobs")
    async def work(message: waypost.Message) -> None:
        closing.append(asyncio.ensure_future(io.close(stop_timeout_s=10)))
        await asyncio.sleep(0)
        seen.append(io.state().readiness.phase)

    closing: list[asyncio.Future[None]] = []
    await io.start()
    await io.queue("jobs").emit("job")
    await until(lambda: bool(closing) and closing[0].done(), "the server has stopped")
    assert seen == ["draining"]


async def test_a_disk_without_space_is_told(tmp_path: Path) -> None:
    io = waypost.Server(store=tmp_path / "a.db", disk_reserve_bytes=1 << 60)
    await io.start()
    with pytest.raises(waypost.StoreFull) as full:
        await io.emit("news", 1)
    [trouble] = io.state().readiness.troubles
    assert (trouble.code, trouble.text) == ("full", full.value.problem)
    assert not io.state().readiness.is_ready
    await io.close()


async def test_a_write_that_is_stuck_is_told_until_it_is_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(condition, "STUCK_S", 0.1)
    io = waypost.Server(store=tmp_path / "a.db")
    await io.start()
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    emitting = asyncio.ensure_future(io.emit("news", 1))
    await until(lambda: codes(io) == ["stuck"], "it says that a write is stuck")
    other.execute("COMMIT")
    await emitting
    await until(lambda: codes(io) == [], "it says that all is well")
    other.close()
    await io.close()


async def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    io = waypost.Server(store=tmp_path / "a.db")
    await io.start()
    (tmp_path / "a.db").unlink()
    await until(lambda: codes(io) == ["lost"], "it says that its file is lost")
    await io.close()


async def test_servers_of_one_parent_hear_how_its_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "STUCK_S", 0.3)
    async with nodes.servers(2, store=tmp_path / "a.db", disk_reserve_bytes=1 << 60) as (all_nodes, servers):
        assert [codes(io) for io in servers] == [[], []]
        with pytest.raises(waypost.StoreFull):
            await servers[0].emit("news", 1)
        all_nodes.host.beat()
        await both(servers, ["full"])
        # The parent stands still.
        await both(servers, ["unreachable"])
        all_nodes.host.beat()
        await both(servers, ["full"])


async def both(servers: Sequence[waypost.Server], expected: list[str]) -> None:
    await until(lambda: all(codes(io) == expected for io in servers), f"both say {expected}")
