"""Upgrades and WebSocket connections that go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.protocol import State

from tests.faults.conftest import Case
from tests.support.raw import WAIT_S, RawPolling, join, open_polling, open_websocket, target, websocket

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

SERVER_OPTIONS = {"upgrade_timeout_s": 0.5, "connect_timeout_s": 0.5}

LIMIT = 1_000_000


async def ended(connection: ClientConnection) -> int | None:
    """Wait for the server to close, and return its close code."""
    async with asyncio.timeout(WAIT_S):
        try:
            while True:
                await connection.recv()
        except ConnectionClosed as error:
            return error.rcvd.code if error.rcvd else None


async def still_polls(raw: RawPolling) -> None:
    """Fail unless a polling session works."""
    await raw.send('425["echo","alive"]')
    assert await raw.receive() == '435["alive"]'


@pytest.mark.parametrize("size", [LIMIT + 1, 3 * LIMIT])
@pytest.mark.parametrize("kind", ["text", "binary"])
async def test_a_message_over_the_limit(case: Case, size: int, kind: str) -> None:
    async with open_websocket(case.port) as raw:
        await join(raw)
        await raw.send("4" * size if kind == "text" else b"4" * size)
        assert await ended(raw.connection) == 1009


async def test_fragments_over_the_limit(case: Case) -> None:
    over = asyncio.Event()

    async def fragments() -> AsyncIterator[str]:
        for _ in range(10):
            yield "x" * 100_000
        yield "x"
        await over.wait()

    async with open_websocket(case.port) as raw:
        await join(raw)
        sending = asyncio.create_task(raw.connection.send(fragments()))
        assert await ended(raw.connection) == 1009
        over.set()
        await asyncio.gather(sending, return_exceptions=True)


async def test_fragments_that_do_not_stop_at_the_limit(case: Case) -> None:
    async with open_websocket(case.port) as raw:
        await join(raw)
        sending = raw.connection.send("x" * 100_000 for _ in range(30))
        # The close code may be lost: TCP drops it if the server has closed while this still sends.
        await asyncio.gather(ended(raw.connection), sending, return_exceptions=True)
        assert raw.connection.state is State.CLOSED


BROKEN_FRAMES = {
    "reserved bits": b"\xf1\x80\x00\x00\x00\x00",
    "reserved opcode": b"\x83\x80\x00\x00\x00\x00",
    "not masked": b"\x81\x01x",
    "rubbish": random.Random(1).randbytes(64),
}


@pytest.mark.parametrize("frame", BROKEN_FRAMES.values(), ids=BROKEN_FRAMES)
async def test_a_frame_that_breaks_websocket(case: Case, frame: bytes) -> None:
    async with open_websocket(case.port) as raw:
        await join(raw)
        raw.connection.transport.write(frame + b"\x00" * 2_000)
        await ended(raw.connection)


async def test_text_that_is_not_utf8(case: Case) -> None:
    async with open_websocket(case.port) as raw:
        await join(raw)
        raw.connection.transport.write(b"\x81\x82\x00\x00\x00\x00\xff\xfe")
        assert await ended(raw.connection) == 1007


@pytest.mark.parametrize(
    "query",
    [
        {"sid": "unknown"},
        {"sid": "__proto__"},
        {"EIO": "3"},
        {"transport": "polling"},
        {"transport": "pigeon"},
        {"transport": ""},
    ],
    ids=str,
)
async def test_a_handshake_that_is_refused(case: Case, query: dict[str, str]) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        async with websocket(case.port, query):
            pass
    assert refusal.value.response.status_code == 400


async def test_an_upgrade_with_another_protocol(case: Case) -> None:
    async with open_polling(case.port) as raw:
        await join(raw)
        with pytest.raises(InvalidStatus):
            async with websocket(case.port, {"sid": raw.sid, "EIO": "3"}):
                pass
        await still_polls(raw)


@pytest.mark.parametrize("first", ["5", "2", "3probe", "4x", '42["x"]', "2prob", "", "9", b"\x00"])
async def test_a_probe_that_is_none(case: Case, first: str | bytes) -> None:
    async with open_polling(case.port) as raw:
        await join(raw)
        async with websocket(case.port, {"sid": raw.sid}) as connection:
            await connection.send(first)
            await ended(connection)
        await still_polls(raw)


@pytest.mark.parametrize("probes", [False, True])
async def test_an_upgrade_that_is_never_finished(case: Case, probes: bool) -> None:
    async with open_polling(case.port) as raw:
        await join(raw)
        async with websocket(case.port, {"sid": raw.sid}) as connection:
            if probes:
                await connection.send("2probe")
                assert await connection.recv() == "3probe"
            await ended(connection)
        await still_polls(raw)


async def test_an_upgrade_that_is_cut(case: Case) -> None:
    async with open_polling(case.port) as raw:
        await join(raw)
        async with websocket(case.port, {"sid": raw.sid}) as connection:
            await connection.send("2probe")
            assert await connection.recv() == "3probe"
        await still_polls(raw)


async def test_two_upgrades_at_once(case: Case) -> None:
    async with open_polling(case.port) as raw:
        await join(raw)
        async with websocket(case.port, {"sid": raw.sid}) as first:
            await first.send("2probe")
            assert await first.recv() == "3probe"
            await refused_upgrade(case.port, raw.sid)
            await first.send("5")
            await first.send('427["echo"]')
            assert await first.recv() == "437[]"


async def test_a_second_upgrade(case: Case) -> None:
    async with open_polling(case.port) as raw:
        await join(raw)
        async with websocket(case.port, {"sid": raw.sid}) as first:
            await first.send("2probe")
            assert await first.recv() == "3probe"
            await first.send("5")
            await refused_upgrade(case.port, raw.sid)
            assert (await raw.poll()).code == 3
            assert (await raw.post(b'42["x"]')).code == 3
            case.lines_allowed = 3
            await first.send('427["echo"]')
            assert await first.recv() == "437[]"


async def test_an_upgrade_of_a_websocket(case: Case) -> None:
    async with open_websocket(case.port) as raw:
        await join(raw)
        await refused_upgrade(case.port, raw.sid)
        await raw.send('427["echo"]')
        assert await raw.receive() == "437[]"


async def test_nobody_connects_to_a_namespace(case: Case, transport: str) -> None:
    if transport == "polling":
        async with open_polling(case.port) as polling:
            assert await polling.closed()
    else:
        async with open_websocket(case.port) as raw:
            assert await raw.closed()


async def test_a_namespace_is_left_and_none_joined(case: Case) -> None:
    async with open_websocket(case.port) as raw:
        await join(raw)
        await raw.send("41")
        assert await raw.closed()


async def test_handshakes_that_break_off(case: Case) -> None:
    where = target(transport="websocket")
    head = f"GET {where} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    for text in (head, head + "\r\n", head + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n"):
        _, writer = await asyncio.open_connection("127.0.0.1", case.port)
        writer.write(text.encode())
        await writer.drain()
        writer.transport.abort()
    case.lines_allowed = 3


async def refused_upgrade(port: int, sid: str) -> None:
    """Fail unless another WebSocket for the session is turned away, at the handshake or right after."""
    with contextlib.suppress(InvalidStatus, ConnectionClosed):
        async with websocket(port, {"sid": sid}) as connection:
            await connection.send("2probe")
            await ended(connection)
