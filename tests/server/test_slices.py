"""Input of a client comes in slices: between two turns of the event loop only so much of it is taken."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

import waypost
from tests.server.model_client import hub_of
from tests.support.raw import WAIT_S, join, open_websocket
from tests.support.waiting import until
from tests.transports.asgi_client import ask, serving, websocket
from tests.transports.asgi_client import join as join_polling
from tests.transports.direct_site import serving as serving_directly
from waypost.server.basics.slices import Share, Slices
from waypost.server.watching.hooks import PacketReceived

pytestmark = pytest.mark.asyncio

_READINGS_IN_A_SLICE = 5
_PACKETS_IN_A_BATCH = 32
# The slice's own batches, the one in which time is over, and one that a request begins with.
_MOST_IN_A_TURN = (_READINGS_IN_A_SLICE + 3) * _PACKETS_IN_A_BATCH
_PIECE_BYTES = 8_192
# A connected client's ack that nobody waits for: it counts, and does nothing.
_ACK = "431[]"
_NOOP = "6"


def slow_clock() -> Callable[[], float]:
    """Make a clock on which each look takes a millisecond."""
    now = 0.0

    def look() -> float:
        nonlocal now
        now += 0.001
        return now

    return look


class Turns:
    """Counts the turns of the event loop, and what the server took in each."""

    def __init__(self, io: waypost.Server) -> None:
        self.packets = 0
        self.in_each: list[int] = []
        self._io = io
        io.hooks.packet_received(self._count)

    def _count(self, packet: PacketReceived) -> None:
        self.packets += 1

    @contextlib.asynccontextmanager
    async def counted(self) -> AsyncIterator[None]:
        loop, going = asyncio.get_running_loop(), True

        def tick() -> None:
            self.in_each.append(self.packets)
            self.packets = 0
            if going:
                loop.call_soon(tick)

        tick()
        try:
            yield
        finally:
            going = False
            await asyncio.sleep(0)


def sliced_server(**options: object) -> waypost.Server:
    io = waypost.Server(drain_s=0.0, recovery=None, **options)  # type: ignore[arg-type]
    hub_of(io).engine.slices = Slices(slow_clock())
    return io


def payload(packet: str, count: int) -> bytes:
    return "\x1e".join([packet] * count).encode()


async def test_a_post_of_very_many_packets_is_taken_in_slices() -> None:
    io = sliced_server()
    turns = Turns(io)
    async with serving(io):
        where = await join_polling(io)
        async with turns.counted():
            assert (await ask(io, where, method="POST", body=[payload(_ACK, 20_000)])).status == 200
    assert sum(turns.in_each) >= 20_000
    assert max(turns.in_each) <= _MOST_IN_A_TURN


async def test_half_a_million_noops_are_taken_in_slices() -> None:
    io = sliced_server()
    turns = Turns(io)
    async with serving(io):
        where = await join_polling(io)
        async with turns.counted(), asyncio.timeout(WAIT_S):
            body = payload(_NOOP, 499_999)
            assert len(body) < io.options.max_payload_bytes
            assert (await ask(io, where, method="POST", body=[body])).status == 200
        assert len(turns.in_each) >= 499_999 / _MOST_IN_A_TURN


async def test_ten_clients_share_the_slices() -> None:
    io = sliced_server()
    turns = Turns(io)
    async with serving(io):
        sessions = [await join_polling(io) for _ in range(10)]
        async with turns.counted(), asyncio.timeout(WAIT_S):
            posts = [ask(io, where, method="POST", body=[payload(_ACK, 5_000)]) for where in sessions]
            assert [answer.status for answer in await asyncio.gather(*posts)] == [200] * 10
    assert sum(turns.in_each) >= 50_000
    # Each request's first batch is taken when it comes; what follows shares the slices.
    assert max(turns.in_each) <= _MOST_IN_A_TURN + 10 * _PACKETS_IN_A_BATCH
    assert len(turns.in_each) >= 50_000 / _MOST_IN_A_TURN


async def test_handlers_that_never_wait_share_the_slices() -> None:
    io = sliced_server()
    handled, turns = 0, list[int]()

    @io.event
    async def work(socket: waypost.Socket) -> None:
        nonlocal handled
        handled += 1

    async with serving(io):
        sessions = [await join_polling(io) for _ in range(3)]
        loop = asyncio.get_running_loop()

        def tick() -> None:
            nonlocal handled
            turns.append(handled)
            handled = 0
            if sum(turns) < 3_000:
                loop.call_soon(tick)

        async with asyncio.timeout(WAIT_S):
            posts = [ask(io, where, method="POST", body=[payload('42["work"]', 1_000)]) for where in sessions]
            loop.call_soon(tick)
            assert [answer.status for answer in await asyncio.gather(*posts)] == [200] * 3
            await until(lambda: sum(turns) >= 3_000, "all are handled")
    # One event of each client needs no slice.
    assert max(turns) <= _READINGS_IN_A_SLICE + 3 + len(sessions)


async def test_a_websocket_over_asgi_is_taken_in_slices() -> None:
    io = sliced_server()
    turns = Turns(io)
    async with serving(io), websocket(io) as socket:
        socket.write("40")
        while not (await socket.next()).get("text", "").startswith("40"):
            pass
        async with turns.counted():
            for _ in range(5_000):
                socket.write(_ACK)
            await until(lambda: sum(turns.in_each) >= 5_000, "all are taken")
    assert max(turns.in_each) <= _MOST_IN_A_TURN


async def test_a_websocket_with_a_carrier_is_taken_in_slices() -> None:
    async with serving_directly() as site:
        io = site.io
        hub_of(io).engine.slices = Slices(slow_clock())
        turns = Turns(io)
        async with open_websocket(site.port) as raw:
            await join(raw)
            frame = b"\x81" + bytes([0x80 | len(_ACK)]) + bytes(4) + _ACK.encode()
            async with turns.counted():
                raw.connection.transport.write(frame * 100_000)
                await until(lambda: sum(turns.in_each) >= 100_000, "all are taken")
            pieces = _READINGS_IN_A_SLICE + 3
            assert max(turns.in_each) <= pieces * (_PIECE_BYTES // len(frame) + 1)
            # And it goes on as before.
            await raw.send('421["echo",1]')
            assert await raw.receive() == "431[1]"


async def test_others_have_their_turns_meanwhile() -> None:
    io = sliced_server()
    io.on("echo", lambda socket, value: value)
    async with serving(io):
        busy, other = await join_polling(io), await join_polling(io)
        post = asyncio.create_task(ask(io, busy, method="POST", body=[payload(_NOOP, 400_000)]))
        await asyncio.sleep(0)
        assert (await ask(io, other, method="POST", body=[b'421["echo",7]'])).status == 200
        assert (await ask(io, other)).body == b"431[7]"
        assert not post.done()
        assert (await post).status == 200


@pytest.mark.parametrize("packet", [_NOOP, "3", _ACK])
async def test_every_packet_counts_for_the_pace(packet: str) -> None:
    io = waypost.Server(drain_s=0.0, recovery=None, max_messages_per_s=10)
    async with serving(io):
        where = await join_polling(io)
        # Ten a second, and ahead of that for five seconds: no machine is so slow that a thousand are in time.
        assert (await ask(io, where, method="POST", body=[payload(packet, 1_000)])).status == 400
        assert (await ask(io, where)).code == 1


async def test_a_connection_that_ends_meanwhile_is_taken_no_further() -> None:
    io = sliced_server()
    async with serving(io):
        where = await join_polling(io)
        post = asyncio.create_task(ask(io, where, method="POST", body=[payload(_NOOP, 100_000)]))
        await asyncio.sleep(0)
        for connection in hub_of(io).engine.connections():
            connection.abort("the test's own")
        assert (await post).status == 400


async def test_one_that_waits_goes_on_in_each_turn() -> None:
    slices, order = Slices(slow_clock()), list[int]()
    for number in range(3):
        slices.when_next(lambda number=number: order.append(number))  # type: ignore[misc]
    for _ in range(3):
        await asyncio.sleep(0)
    assert order == [0, 1, 2]


async def test_a_batch_of_large_packets_is_one() -> None:
    share = Share(Slices(slow_clock()))
    assert share.take(1_000_000)
    looks = [share.take(1_000_000) for _ in range(20)]
    assert not all(looks)


async def test_one_that_fails_takes_nothing_from_those_that_wait() -> None:
    slices, order = Slices(slow_clock()), list[int]()
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def fail() -> None:
        raise ValueError("of its own")

    slices.when_next(fail)
    slices.when_next(lambda: order.append(1))
    await until(lambda: order == [1], "the other goes on")
    assert [type(error) for error in reported] == [ValueError]
