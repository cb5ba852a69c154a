"""A client that sends too fast is slowed down, then closed; nobody's events are lost on the way."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import waypost
from tests.server.model_client import ModelClient, running, until
from tests.transports.asgi_client import ask, join, serving, websocket
from waypost.errors import LimitExceeded
from waypost.server.connections.pace import Bucket


@given(st.floats(0.5, 1_000), st.lists(st.floats(0, 2), max_size=50))
def test_whoever_keeps_to_the_pace_is_never_ahead(per_s: float, pauses: list[float]) -> None:
    now = 0.0
    bucket = Bucket(per_s, now)
    for pause in pauses:
        now += max(pause, 1.001 / per_s)
        bucket.take(now)
        assert bucket.ahead_s(now) == pytest.approx(0, abs=1e-9)


@given(st.integers(1, 100), st.integers(0, 500))
def test_a_burst_is_ahead_by_what_goes_beyond_a_second(per_s: int, count: int) -> None:
    bucket = Bucket(per_s, 10.0)
    for _ in range(count):
        bucket.take(10.0)
    ahead_s = max(count - per_s, 0) / per_s
    assert bucket.ahead_s(10.0) == pytest.approx(ahead_s)
    assert bucket.ahead_s(10.0 + ahead_s) == pytest.approx(0, abs=1e-9)


def counting_server(per_s: float | None) -> tuple[waypost.Server, list[int]]:
    io = waypost.Server(drain_s=0.0, recovery=None, max_messages_per_s=per_s)
    came: list[int] = []

    @io.event
    async def count(socket: waypost.Socket, number: int) -> None:
        came.append(number)

    return io, came


async def test_a_websocket_that_sends_too_fast_is_read_slower_and_loses_nothing() -> None:
    io, came = counting_server(200)
    async with serving(io), websocket(io) as socket:
        began = asyncio.get_running_loop().time()
        socket.write("40")
        while not (await socket.next()).get("text", "").startswith("40"):
            pass
        for number in range(260):
            socket.write(f'42["count",{number}]')
        await until(lambda: len(came) == 260)
        # 200 come at once, the rest at their pace; the last may come before it is counted.
        assert asyncio.get_running_loop().time() - began >= 59 / 200
    assert came == list(range(260))


async def test_a_post_that_brings_too_much_is_answered_when_its_time_has_come() -> None:
    io, came = counting_server(200)
    async with serving(io):
        where = await join(io)
        began = asyncio.get_running_loop().time()
        packets = "\x1e".join(f'42["count",{number}]' for number in range(260))
        assert (await ask(io, where, method="POST", body=[packets.encode()])).status == 200
        assert asyncio.get_running_loop().time() - began >= 50 / 200
    assert came == list(range(260))


async def test_a_post_that_is_far_ahead_closes_its_connection() -> None:
    io, came = counting_server(1)
    async with serving(io):
        where = await join(io)
        # A thousand seconds' worth: no machine is so slow that these are in time.
        packets = "\x1e".join(f'42["count",{number}]' for number in range(1_000))
        assert (await ask(io, where, method="POST", body=[packets.encode()])).status == 400
        assert (await ask(io, where)).code == 1
    assert len(came) < 1_000  # how many were taken before depends on how fast that went


async def test_others_keep_their_own_pace() -> None:
    io, _ = counting_server(2)
    io.on("echo", lambda socket, value: value)
    async with running(io):
        fast, slow = ModelClient(io), ModelClient(io)
        await fast.connect()
        await slow.connect()
        with contextlib.suppress(LimitExceeded):
            for number in range(500):
                fast.send(f'2["count",{number}]')
        assert fast.connection is not None
        assert not fast.connection.is_open
        assert await slow.call("echo", 1) == [1]


async def test_there_is_no_limit_by_default() -> None:
    io, came = counting_server(None)
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        for number in range(5_000):
            client.send(f'2["count",{number}]')
        await until(lambda: len(came) == 5_000)


@pytest.mark.parametrize("wrong", [0, -1, "ten", True])
def test_a_pace_that_is_none_is_refused(wrong: float) -> None:
    with pytest.raises(waypost.ConfigurationError, match="max_messages_per_s"):
        waypost.Server(max_messages_per_s=wrong)
