"""What attackers do, once each: every function is one attack that took a server down, or much of it, before.

Attackers come from addresses of their own, by ``X-Forwarded-For``: the loopback is not counted for the limits of an
address. The numbers are those of issue 13.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random

from tests.support.raw import parse, request_bytes, target
from waypost.protocol.extension import HEADER, REVISION, OutboxMark

__all__ = ["ATTACKS", "Attack"]

Attack = Callable[[int, Random], Awaitable[None]]
_PATIENCE_S = 10.0


def _address(rng: Random) -> str:
    return f"203.0.113.{rng.randrange(1, 9)}"


async def _exchange(port: int, raw: bytes) -> bytes:
    """Send bytes, and return what came back until the end, for some seconds at most."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(_PATIENCE_S):
                writer.write(raw)
                await writer.drain()
                while chunk := await reader.read(65_536):
                    received += chunk
    finally:
        writer.close()
    return received


class _Polling:
    """A polling session of an attacker."""

    def __init__(self, port: int, headers: Mapping[str, str], sid: str) -> None:
        self._port = port
        self._headers = headers
        self.sid = sid

    def post_bytes(self, body: bytes) -> bytes:
        headers = {**self._headers, "Content-Type": "text/plain", "Connection": "keep-alive"}
        return request_bytes("POST", target(sid=self.sid), headers, body)

    def poll_bytes(self) -> bytes:
        return request_bytes("GET", target(sid=self.sid), {**self._headers, "Connection": "keep-alive"})

    async def post(self, body: bytes) -> bytes:
        headers = {**self._headers, "Content-Type": "text/plain"}
        return await _exchange(self._port, request_bytes("POST", target(sid=self.sid), headers, body))


@asynccontextmanager
async def _session(
    port: int, rng: Random, connect: bytes = b"40", headers: Mapping[str, str] | None = None
) -> AsyncIterator[_Polling]:
    headers = {"X-Forwarded-For": _address(rng), **(headers or {})}
    answer = parse(await _exchange(port, request_bytes("GET", target(), headers)))
    if answer.status != 200:
        raise OSError(f"refused with {answer.status}")
    session = _Polling(port, headers, json.loads(answer.body[1:])["sid"])
    await session.post(connect)
    yield session
    with contextlib.suppress(OSError):
        await session.post(b"1")


async def pipelined_posts(port: int, rng: Random) -> None:
    """1: a poll that waits, and behind it some 160 posts on the same connection."""
    async with _session(port, rng) as session:
        raw = session.poll_bytes() + session.post_bytes(b"6") * rng.randrange(150, 175)
        await _exchange(port, raw + session.post_bytes(b'42["echo",1]'))


async def tiny_packets(port: int, rng: Random) -> None:
    """2: one post of 300,000 noops."""
    async with _session(port, rng) as session:
        await session.post(b"\x1e".join([b"6"] * 300_000))


async def fat_handshakes(port: int, rng: Random) -> None:
    """3: handshakes with a query of thousands of parameters."""
    where = target() + "&" + "&".join(f"p{number}=" for number in range(8_000))
    await asyncio.gather(
        *(
            _exchange(port, request_bytes("GET", where, {"X-Forwarded-For": _address(rng)}))
            for _ in range(rng.randrange(5, 20))
        )
    )


async def nested_events(port: int, rng: Random) -> None:
    """4: events of many empty lists for a handler that is slow."""
    event = b'42["slow",[' + b",".join([b"[]"] * 150_000) + b"]]"
    async with _session(port, rng) as session:
        for _ in range(6):
            await session.post(event)


async def compressed_frames(port: int, rng: Random) -> None:
    """5: a WebSocket handshake that offers compression, and a frame that inflates a thousandfold."""
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Extensions": "permessage-deflate",
        "X-Forwarded-For": _address(rng),
    }
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packed.compress(b'42["nobody",[' + b"[]," * 290_000 + b"0]]") + packed.flush(zlib.Z_SYNC_FLUSH)
    body = data[:-4]
    head = bytes([0xC1, 0xFE]) + len(body).to_bytes(2, "big") + bytes(4)
    await _exchange(port, request_bytes("GET", target(transport="websocket"), headers) + (head + body) * 20)


async def idle_recoveries(port: int, rng: Random) -> None:
    """6: clients that ask for a session of theirs, or of others, and read nothing."""
    claim = b'40{"pid":"%s","offset":"made.%d"}'
    for _ in range(10):
        async with _session(port, rng, claim % (os.urandom(8).hex().encode(), rng.randrange(1000))):
            pass


async def many_namespaces(port: int, rng: Random) -> None:
    """7: names for ever more namespaces."""
    connects = b"\x1e".join(b"40/made/%d," % rng.randrange(10**9) for _ in range(90))
    async with _session(port, rng, connects):
        pass


async def trickling_bodies(port: int, rng: Random) -> None:
    """8: requests that are refused, whose bodies trickle on."""
    for where, method in (("/nowhere", "POST"), (target(), "PUT"), (target(sid="unknown"), "POST")):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            head = {"Content-Length": "1000", "X-Forwarded-For": _address(rng)}
            writer.write(request_bytes(method, where, head))
            for _ in range(20):
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.25)
            await reader.read(1)
        finally:
            writer.close()


async def odd_failures(port: int, rng: Random) -> None:
    """9: events whose handlers raise what is no Exception."""
    names = [b"leave_the_process", b"cancel_itself", b"stop_iterating", b"echo"]
    async with _session(port, rng) as session:
        events = b"\x1e".join(b'42["%s"]' % rng.choice(names) for _ in range(20))
        await session.post(events)


async def made_up_outboxes(port: int, rng: Random) -> None:
    """12: events that claim to come from an outbox, of a client that nobody knows."""
    text = "x" * 50_000
    for number in range(5):
        async with _session(port, rng, headers={HEADER: str(REVISION)}) as session:
            mark = OutboxMark(client=os.urandom(12).hex(), message=f"m{number}", sequence=1, settled=0)
            event = json.dumps(["echo", text, mark.argument()])
            await session.post(f"42{number}{event}".encode())


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        pipelined_posts,
        tiny_packets,
        fat_handshakes,
        nested_events,
        compressed_frames,
        idle_recoveries,
        many_namespaces,
        trickling_bodies,
        odd_failures,
        made_up_outboxes,
    )
}
"""Each attack by its name."""
