"""Known vulnerabilities of Socket.IO servers, as WebSocket frames: what was sent then must harm nobody here."""

from __future__ import annotations

import asyncio
import struct

import pytest
from websockets.exceptions import ConnectionClosed

from tests.faults.conftest import Case
from tests.support.raw import WAIT_S, RawWebSocket, join, open_polling, open_websocket, websocket

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

MIB = 1 << 20


def frame(opcode: int, payload: bytes, *, final: bool = True, reserved: int = 0) -> bytes:
    """Write a masked frame of a client."""
    first = (0x80 if final else 0) | reserved << 4 | opcode
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65_536:
        head = bytes((first, 0x80 | 126)) + struct.pack("!H", size)
    else:
        head = bytes((first, 0x80 | 127)) + struct.pack("!Q", size)
    return head + bytes(4) + payload


async def close_code(raw: RawWebSocket) -> int | None:
    """Wait for the server to close, and return its close code."""
    async with asyncio.timeout(WAIT_S):
        try:
            while True:
                await raw.connection.recv()
        except ConnectionClosed as error:
            return error.rcvd.code if error.rcvd else None


async def test_cve_2022_21676_a_broken_frame_right_after_the_upgrade(case: Case) -> None:
    for broken in (frame(1, b"x", reserved=7), frame(3, b""), b"\xff" * 20):
        async with open_polling(case.port) as polling:
            await join(polling)
            async with websocket(case.port, {"sid": polling.sid}) as connection:
                await connection.send("2probe")
                assert await connection.recv() == "3probe"
                connection.transport.write(frame(1, b"5") + broken)
                await close_code(RawWebSocket(connection, {}))


async def test_cve_2022_21676_a_broken_frame_as_the_first_one(case: Case) -> None:
    async with websocket(case.port) as connection:
        connection.transport.write(frame(1, b"40", reserved=4))
        raw = RawWebSocket(connection, {})
        assert await close_code(raw) == 1002


@pytest.mark.parametrize("size", [0, 1, 125])
async def test_cve_2016_10518_a_ping_is_answered_with_its_own_bytes(case: Case, size: int) -> None:
    async with open_websocket(case.port) as raw:
        await join(raw)
        answer = await raw.connection.ping(b"p" * size if size else b"")
        async with asyncio.timeout(WAIT_S):
            await answer


async def test_a_ping_that_is_too_long(case: Case) -> None:
    async with open_websocket(case.port) as raw:
        await join(raw)
        raw.connection.transport.write(frame(9, b"p" * 126))
        assert await close_code(raw) == 1002


async def test_a_flood_of_pings_that_nobody_reads_the_answers_of(case: Case) -> None:
    before = case.server.memory_bytes()
    async with open_websocket(case.port) as raw:
        await join(raw)
        raw.connection.transport.pause_reading()
        raw.connection.transport.write(frame(9, b"p" * 125) * 20_000)
        await asyncio.sleep(0.2)
        assert case.server.memory_bytes() - before < 64 * MIB
    case.lines_allowed = 2


@pytest.mark.parametrize("size", [1_000_001, 256 * MIB, 1 << 62])
@pytest.mark.parametrize("opcode", [1, 2])
async def test_cve_2016_10542_a_length_beyond_the_limit_is_enough(case: Case, opcode: int, size: int) -> None:
    async with open_websocket(case.port) as raw:
        await join(raw)
        raw.connection.transport.write(bytes((0x80 | opcode, 0xFF)) + struct.pack("!Q", size) + bytes(4))
        assert await close_code(raw) == 1009


async def test_a_length_beyond_64_bits(case: Case) -> None:
    async with open_websocket(case.port) as raw:
        await join(raw)
        raw.connection.transport.write(b"\x81\xff" + b"\xff" * 8 + bytes(4))
        assert await close_code(raw) in (1002, 1009, None)


@pytest.mark.parametrize(
    "payload",
    [b"\x03", b"\x00\x00", b"\x03\xed", b"\x03\xe8" + b"\xff\xfe", b"\xff\xff", b"\x03\xe8" + b"r" * 123, b""],
    ids=["half a code", "code 0", "code 1005", "no UTF-8", "code 65535", "long reason", "nothing"],
)
async def test_cve_2026_45736_close_frames(case: Case, payload: bytes) -> None:
    async with open_websocket(case.port) as raw:
        await join(raw)
        raw.connection.transport.write(frame(8, payload))
        await close_code(raw)


async def test_cve_2026_48779_a_message_in_empty_fragments(case: Case) -> None:
    before = case.server.memory_bytes()
    async with open_websocket(case.port) as raw:
        await join(raw)
        raw.connection.transport.write(frame(1, b"4", final=False) + frame(0, b"", final=False) * 50_000)
        assert await close_code(raw) == 1009
    assert case.server.memory_bytes() - before < 64 * MIB


async def test_cve_2026_48779_a_message_in_bytes(case: Case) -> None:
    async with open_websocket(case.port) as raw:
        await join(raw)
        text = b'421["echo","' + b"x" * 10_000 + b'"]'
        pieces = [frame(0, text[at : at + 1], final=False) for at in range(1, len(text))]
        whole = frame(1, text[:1], final=False) + b"".join(pieces) + frame(0, b"")
        for at in range(0, len(whole), 997):
            raw.connection.transport.write(whole[at : at + 997])
            await asyncio.sleep(0)
        assert await raw.receive() == "43" + text.decode()[2:].replace('"echo",', "")


async def test_control_frames_between_fragments(case: Case) -> None:
    async with open_websocket(case.port) as raw:
        await join(raw)
        raw.connection.transport.write(
            frame(1, b'421["echo",', final=False) + frame(9, b"ping") * 100 + frame(10, b"pong") + frame(0, b"5]")
        )
        assert await raw.receive() == "431[5]"


@pytest.mark.parametrize(
    "frames",
    [
        frame(0, b"x"),
        frame(1, b"4", final=False) + frame(1, b"2"),
        frame(9, b"", final=False),
        frame(8, b"", final=False),
        frame(11, b""),
    ],
    ids=["a fragment of nothing", "a message within a message", "a ping in parts", "a close in parts", "opcode 11"],
)
async def test_frames_that_may_not_come_here(case: Case, frames: bytes) -> None:
    async with open_websocket(case.port) as raw:
        await join(raw)
        raw.connection.transport.write(frames)
        assert await close_code(raw) == 1002


async def test_an_upgrade_raced_by_posts(case: Case) -> None:
    async with open_polling(case.port) as polling:
        await join(polling)
        async with websocket(case.port, {"sid": polling.sid}) as connection:
            await connection.send("2probe")
            assert await connection.recv() == "3probe"
            answers = await asyncio.gather(
                *(polling.post(b'427["echo","raced"]') for _ in range(3)),
                connection.send("5"),
                return_exceptions=True,
            )
            assert not any(isinstance(answer, TimeoutError) for answer in answers)
    case.lines_allowed = 4
