"""The durable outbox of the blocking client."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.support.waiting import DEADLINE_S
from waypost.sync import Client
from waypost.testing import ThreadSite

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.db"


@pytest.fixture
def handled(site: ThreadSite) -> Iterator[list[int]]:
    """What the server has handled."""
    handled: list[int] = []

    @site.io.event
    async def order(socket: waypost.Socket, number: int) -> None:
        handled.append(number)

    @site.io.event
    async def refused(socket: waypost.Socket, number: int) -> None:
        raise waypost.EventRefused("never", {"why": number})

    yield handled
    site.io.off("order")
    site.io.off("refused")


def test_what_waits_can_be_looked_at_and_discarded(site: ThreadSite, handled: list[int], path: Path) -> None:
    client = Client(NOWHERE, outbox=path)
    for number in range(4):
        client.emit("order", number)
    client.of("/admin").emit("elsewhere")
    waiting = client.outbox.pending()
    assert [(one.event, one.args, one.failures) for one in waiting] == [("order", (n,), 0) for n in range(4)]
    assert client.outbox.discard(waiting[1].id)
    assert not client.outbox.discard(waiting[1].id)
    assert (client.outbox.count(), client.of("/admin").outbox.count()) == (3, 1)
    assert client.outbox.pending(max_events=1) == waiting[:1]
    with pytest.raises(TimeoutError):
        client.outbox.drained(timeout_s=0.01)
    client.close()
    with Client(site.url, outbox=path) as client:
        client.outbox.drained(timeout_s=DEADLINE_S)
        assert client.outbox.pending() == []
    assert handled == [0, 2, 3]


def test_the_hook_may_use_the_client(
    site: ThreadSite, handled: list[int], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    given_up: list[Any] = []

    def undelivered(event: str, args: tuple[Any, ...], error: waypost.WaypostError) -> None:
        assert isinstance(error, waypost.EventRefused)
        # It is in the file still: a crash here would not lose it.
        given_up.append((event, args, error.data, client.outbox.count(), threading.current_thread().name))
        client.emit("order", 100 + args[0])

    with Client(site.url, outbox=path, on_undelivered=undelivered) as client:
        client.emit("refused", 1)
        client.outbox.drained(timeout_s=DEADLINE_S)
    ((*what, thread),) = given_up
    assert what == ["refused", (1,), {"why": 1}, 1]
    assert thread.startswith("waypost-client-worker")
    assert handled == [101]


def test_without_one_there_is_none(client: Client) -> None:
    with pytest.raises(waypost.ConfigurationError):
        _ = client.outbox
