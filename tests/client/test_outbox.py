"""The durable outbox: what is emitted is on disk, and a Waypost server handles it once, in order."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.client.serving import playing, says, serving
from tests.support.link import Link
from waypost.errors import StoreBusy, StoreDamaged, StoreLost

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.db"


def note_orders(io: waypost.Server) -> list[Any]:
    handled: list[Any] = []

    @io.event
    async def order(socket: waypost.Socket, *args: Any) -> str:
        handled.append(args[0] if len(args) == 1 else args)
        assert socket.message_id
        return "noted"

    return handled


async def test_what_an_earlier_client_has_emitted_is_sent_in_order(io: waypost.Server, url: str, path: Path) -> None:
    handled = note_orders(io)
    for first in (0, 5):
        client = waypost.Client(NOWHERE, outbox=path)
        for n in range(first, first + 5):
            await client.emit("order", n)
        await client.emit("order", first, b"binary", {"a": [b"b"]})
        await client.close()
    async with waypost.Client(url, outbox=path) as client:
        await asyncio.gather(*(client.emit("order", n) for n in range(100, 300)))
        await client.outbox.drained()
        assert await client.outbox.pending() == []
    expected = [*range(5), (0, b"binary", {"a": [b"b"]}), *range(5, 10), (5, b"binary", {"a": [b"b"]})]
    assert handled == [*expected, *range(100, 300)]


async def test_cuts_lose_nothing_and_repeat_nothing(io: waypost.Server, link: Link, path: Path) -> None:
    handled = note_orders(io)
    client = waypost.Client(link.url, outbox=path, reconnection_delay_s=0.01, reconnection_delay_max_s=0.02)
    await client.connect()
    for n in range(150):
        await client.emit("order", n)
        if n % 30 == 15:
            link.cut()
    await client.outbox.drained()
    await client.close()
    assert handled == [*range(150)]


async def test_what_waits_can_be_looked_at_and_discarded(io: waypost.Server, url: str, path: Path) -> None:
    handled = note_orders(io)
    client = waypost.Client(NOWHERE, outbox=path)
    other = client.of("/other")
    for n in range(3):
        await client.emit("order", n, b"x")
    await other.emit("elsewhere")
    waiting = await client.outbox.pending()
    assert [(one.event, one.args, one.failures) for one in waiting] == [("order", (n, b"x"), 0) for n in range(3)]
    assert len({one.id for one in waiting}) == 3
    assert [one.event for one in await other.outbox.pending()] == ["elsewhere"]
    assert await client.outbox.discard(waiting[1].id)
    assert not await client.outbox.discard(waiting[1].id)
    assert not await client.outbox.discard((await other.outbox.pending())[0].id)
    assert (await client.outbox.count(), await other.outbox.count()) == (2, 1)
    assert await client.outbox.pending(max_events=1) == [waiting[0]]
    await client.close()
    async with waypost.Client(url, outbox=path) as client:
        await client.outbox.drained()
    assert handled == [(0, b"x"), (2, b"x")]


async def test_it_has_an_end(path: Path) -> None:
    client = waypost.Client(NOWHERE, outbox=path, outbox_max_events=3, outbox_max_bytes=1000)
    await client.emit("x")
    with pytest.raises(waypost.OutboxFull, match="1 events wait of at most 3") as caught:
        await client.emit("large", "y" * 1000)
    assert (caught.value.event, caught.value.events, caught.value.max_bytes) == ("large", 1, 1000)
    results = await asyncio.gather(*(client.emit("x") for _ in range(4)), return_exceptions=True)
    assert [type(result) for result in results] == [type(None)] * 2 + [waypost.OutboxFull] * 2
    await client.outbox.discard((await client.outbox.pending())[0].id)
    await client.emit("x")
    await client.close()


async def test_a_file_has_one_client_at_a_time(path: Path, url: str) -> None:
    first, second = waypost.Client(url, outbox=path), waypost.Client(url, outbox=path)
    await first.connect()
    with pytest.raises(StoreBusy):
        await second.emit("x")
    with pytest.raises(StoreBusy):
        await second.connect()
    assert not second.active
    await first.close()
    await second.connect()
    await second.close()


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("how", ["removed", "cut short"])
async def test_a_file_that_is_lost_keeps_nothing_more(path: Path, suffix: str, how: str) -> None:
    client = waypost.Client(NOWHERE, outbox=path)
    await client.emit("order", 1)
    lost = Path(f"{path}{suffix}")
    if how == "removed":
        lost.unlink()
    else:
        os.truncate(lost, 10)
    for _ in range(2):
        with pytest.raises(StoreLost, match=how):
            await client.emit("order", 2)
    await client.close()


async def test_only_a_clients_file_is_used(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    content = path.read_bytes()
    with pytest.raises(StoreDamaged):
        await waypost.Client(NOWHERE, outbox=path).emit("x")
    assert path.read_bytes() == content
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreDamaged):
        await waypost.Client(NOWHERE, outbox=path).emit("x")
    for wrong in (tmp_path, tmp_path / "nowhere" / "x.db"):
        with pytest.raises(waypost.ConfigurationError):
            await waypost.Client(NOWHERE, outbox=wrong).emit("x")


async def test_others_can_t_read_it(path: Path) -> None:
    client = waypost.Client(NOWHERE, outbox=path)
    await client.emit("x")
    assert path.stat().st_mode & 0o077 == 0
    await client.close()


async def test_what_the_server_refuses_goes_to_the_hook(io: waypost.Server, url: str, path: Path) -> None:
    handled = note_orders(io)
    given_up: list[Any] = []

    @io.event
    async def refused(socket: waypost.Socket) -> None:
        raise waypost.EventRefused("never", {"why": 5})

    async def undelivered(event: str, args: tuple[Any, ...], error: waypost.WaypostError) -> None:
        await asyncio.sleep(0)  # as whoever asks a database
        given_up.append((event, args, error))
        if event == "refused":
            await client.emit("order", "instead")

    async with waypost.Client(url, outbox=path, on_undelivered=undelivered) as client:
        await client.emit("order", 1)
        await client.emit("nobody's", 2)
        await client.emit("refused")
        await client.emit("order", 3)
        await client.outbox.drained()
    assert handled == [1, 3, "instead"]
    assert [(event, args) for event, args, _ in given_up] == [("nobody's", (2,)), ("refused", ())]
    error = given_up[1][2]
    assert isinstance(error, waypost.EventRefused)
    assert (error.message, error.data, error.is_final) == ("never", {"why": 5}, True)


async def test_what_failed_is_sent_again_before_all_others(io: waypost.Server, url: str, path: Path) -> None:
    handled: list[int] = []
    failures: list[int] = []
    tried: list[int] = []
    given_up: list[Any] = []

    @io.event
    async def order(socket: waypost.Socket, n: int) -> None:
        if n == 2 and len(failures) < 3:
            failures.append(n)
            raise waypost.Reject("not now", retry_in_s=0.01)
        if n == 4:
            raise waypost.Reject("not ever", retry_in_s=0)
        if n == 6:
            tried.append(n)
            raise waypost.Reject("never", final=True)
        handled.append(n)

    client = waypost.Client(
        url, outbox=path, outbox_retries=3, on_undelivered=lambda *undelivered: given_up.append(undelivered)
    )
    async with client:
        await asyncio.gather(*(client.emit("order", n) for n in range(8)))
        await client.outbox.drained()
    assert handled == [0, 1, 2, 3, 5, 7]
    assert tried == [6]
    assert [(event, args, str(error)) for event, args, error in given_up] == [
        ("order", (4,), "not ever"),
        ("order", (6,), "never"),
    ]


async def test_what_the_server_takes_not_is_given_up_alone(path: Path) -> None:
    io = waypost.Server(drain_s=0, max_payload_bytes=2000)
    handled = note_orders(io)
    given_up: list[Any] = []
    client = waypost.Client(NOWHERE, outbox=path)
    await client.emit("order", "x" * 1950)  # with its mark it is too large
    await client.emit("order", 2)
    await client.close()
    async with (
        serving(io) as port,
        waypost.Client(
            f"http://127.0.0.1:{port}", outbox=path, on_undelivered=lambda *undelivered: given_up.append(undelivered)
        ) as client,
    ):
        await client.outbox.drained()
    assert handled == [2]
    assert [type(error) for _, _, error in given_up] == [waypost.EncodingFailed]


async def test_a_call_and_volatile_go_past_it(io: waypost.Server, url: str, path: Path) -> None:
    async with waypost.Client(url, outbox=path) as client:
        assert await client.call("echo", 1) == 1
        assert await client.outbox.count() == 0
    client = waypost.Client(NOWHERE, outbox=path)
    assert not await client.volatile.emit("echo")
    assert await client.outbox.count() == 0
    await client.close()


async def test_another_server_gets_one_at_a_time_without_a_mark(path: Path) -> None:
    received: list[Any] = []

    async def acknowledge(connection: Any) -> None:
        for _ in range(3):
            packet = await connection.recv()
            received.append(packet)
            await connection.send(f"43{packet[2]}[]")
        await connection.wait_closed()

    async with playing(says('40{"sid":"s"}', then=acknowledge)) as url:
        client = waypost.Client(url, outbox=path)
        for n in range(3):
            await client.emit("order", n)
        async with client:
            await client.outbox.drained()
    assert received == [f'42{n}["order",{n}]' for n in range(3)]


async def test_without_one_there_is_none(url: str) -> None:
    with pytest.raises(waypost.ConfigurationError):
        _ = waypost.Client(url).outbox
    for wrong in ({"outbox": 5}, {"outbox": "x", "retries": 1}, {"outbox_retries": -1}, {"state": ""}):
        with pytest.raises(waypost.ConfigurationError):
            waypost.Client(url, **wrong)


async def test_an_event_whose_answer_was_given_up_is_told_and_not_handled_again(path: Path) -> None:
    io = waypost.Server(drain_s=0.0, max_answer_bytes=400)
    handled: list[int] = []
    told: list[tuple[str, tuple[Any, ...], Exception]] = []
    async with serving(io) as port, Link.to(port) as link:

        @io.event
        async def order(socket: waypost.Socket, number: int) -> str:
            handled.append(number)
            if number == 1:
                link.cut()
            return "x" * 1_000

        def undelivered(event: str, args: tuple[Any, ...], error: Exception) -> None:
            told.append((event, args, error))

        client = waypost.Client(link.url, outbox=path, reconnection_delay_s=0.01, on_undelivered=undelivered)
        async with client:
            for number in (1, 2):
                await client.emit("order", number)
                await client.outbox.drained()
    assert handled == [1, 2]
    assert [(event, args) for event, args, _ in told] == [("order", (1,))]
    assert isinstance(told[0][2], waypost.EventRefused)
    assert "its answer was given up" in told[0][2].message
    assert told[0][2].is_final
