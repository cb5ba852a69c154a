"""What a store that fails does not take of a session's end is asked for again until it does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import waypost
from tests.server.model_client import ModelClient, hub_of, running, until
from tests.support.waiting import DEADLINE_S
from waypost.errors import StorageError
from waypost.retrying import RetryPolicy
from waypost.server.namespaces.channel import Channel
from waypost.server.recovery import insisting
from waypost.storage.journal_records import SessionRow

_FAILURES = 3


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insisting, "STORE_RETRIES", RetryPolicy(first_s=0.001, longest_s=0.001))


async def test_a_session_is_marked_as_away_as_soon_as_the_store_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(waypost.Server(drain_s=0.0)) as io:
        client, find = await _connected(io)
        asked = _fail_first(monkeypatch, io, "detach_session")
        await client.cut()
        await until(lambda: len(asked) > _FAILURES)
        found = await find()
        assert found is not None
        assert found.expires_at is not None


async def test_a_session_ends_as_soon_as_the_store_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(waypost.Server(drain_s=0.0)) as io:
        client, find = await _connected(io)
        asked = _fail_first(monkeypatch, io, "end_session")
        client.send("1")
        await until(lambda: len(asked) > _FAILURES)
        assert await find() is None


async def test_a_stop_does_not_wait_for_a_store_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insisting, "STORE_RETRIES", RetryPolicy(first_s=1000.0, longest_s=1000.0))
    async with asyncio.timeout(DEADLINE_S), running(waypost.Server(drain_s=0.0, stop_timeout_s=1000.0)) as io:
        client, _ = await _connected(io)
        other, _ = await _connected(io)
        asked = _fail_first(monkeypatch, io, "detach_session")
        await client.cut()
        await until(lambda: len(asked) == 1)
        # This one is cut off by the stop.
        assert other.connected
    assert len(asked) == 2


async def _connected(io: waypost.Server) -> tuple[ModelClient, Callable[[], Awaitable[SessionRow | None]]]:
    client = ModelClient(io)
    await client.connect()
    core = hub_of(io).directory.core("/")
    (channel,) = [one for one in core.index if one.sid == client.sid]
    assert isinstance(channel, Channel)
    keeper, session = core.ownership.keeper, channel.session
    assert keeper is not None
    assert session is not None
    return client, lambda: keeper.journal.find_session(session.key)


def _fail_first(monkeypatch: pytest.MonkeyPatch, io: waypost.Server, method: str) -> list[object]:
    """Let the journal fail a few times; returns what it was asked, then and later."""
    keeper = hub_of(io).directory.core("/").ownership.keeper
    assert keeper is not None
    original: Callable[..., Awaitable[Any]] = getattr(keeper.journal, method)
    asked: list[object] = []

    async def fail_first(*args: Any, **options: Any) -> Any:
        asked.append(args)
        if len(asked) <= _FAILURES:
            raise StorageError("here", "it does not answer")
        return await original(*args, **options)

    monkeypatch.setattr(type(keeper.journal), method, lambda _journal, *args, **options: fail_first(*args, **options))
    return asked
