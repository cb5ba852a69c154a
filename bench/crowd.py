"""A crowd of bare WebSocket clients in one process, each following the recovery protocol as official clients do.

As little Python for each event as can be: what a benchmark's clients cost is taken from the server's share of the
machine. Run as a process of its own by `bench.recovery`; a command a line on stdin, a JSON report a line on stdout.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import uvloop

_REQUEST = (
    "GET /socket.io/?EIO=4&transport=websocket&waypost-offsets=yes HTTP/1.1\r\nHost: {host}\r\n"
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
# All zeros: the masked payload is the payload.
_MASK = b"\0\0\0\0"
_TEXT = 1
_CLOSE = 8
_RETRY_S = 0.1


@dataclass
class Memory:
    """What a client remembers from one connection to the next.

    Attributes:
        seen: The numbers of the events it got, in order.
        recovered: Whether its last connection went on where it was.
        reason: Why not, as the server told it.
        connected_at: When its last CONNECT was answered.
        caught_up_at: When it had got all there is.
        ended_at: When its last connection ended.
        changed: Set when it has got all there is, and when its connection ends.
    """

    pid: str | None = None
    offset: str | None = None
    seen: list[int] = field(default_factory=list)
    recovered: bool = False
    reason: str | None = None
    connected_at: float = 0
    caught_up_at: float = 0
    ended_at: float = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Wire(asyncio.Protocol):
    """One connection: HTTP upgrade, frames, Engine.IO, Socket.IO."""

    def __init__(self, memory: Memory, host: str, expected: int, when_lost: Callable[[Wire], None]) -> None:
        self._memory = memory
        self._host = host
        self._expected = expected
        self._when_lost = when_lost
        self._buffer = bytearray()
        self._upgraded = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(_REQUEST.format(host=self._host).encode())

    def data_received(self, data: bytes) -> None:
        """Take whatever whole frames there are."""
        self._buffer += data
        if not self._upgraded:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            if b" 101 " not in head:
                self.transport.abort()
                return
            self._upgraded = True
            self._buffer = rest
        while (frame := self._next_frame()) is not None:
            self._take(frame)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Note when it ended."""
        self._memory.ended_at = time.time()
        self._memory.changed.set()
        self._when_lost(self)

    def _next_frame(self) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1] & 127, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + size:
            return None
        kind, frame = buffer[0] & 15, bytes(buffer[start : start + size])
        del buffer[: start + size]
        if kind == _CLOSE:
            self.transport.close()
        return frame if kind == _TEXT else b""

    def _send(self, text: str) -> None:
        data = text.encode()
        size = len(data)
        head = bytes((129, 128 | size)) if size < 126 else bytes((129, 254)) + size.to_bytes(2, "big")
        self.transport.write(head + _MASK + data)

    def _take(self, packet: bytes) -> None:
        if packet.startswith(b"42"):
            self._take_event(packet)
        elif packet == b"2":
            self._send("3")
        elif packet.startswith(b"0"):
            memory = self._memory
            known = {"pid": memory.pid} if memory.pid else {}
            if memory.offset:
                known["offset"] = memory.offset
            self._send("40" + json.dumps(known))
        elif packet.startswith(b"40"):
            self._take_answer(json.loads(packet[2:]))

    def _take_answer(self, answer: dict[str, Any]) -> None:
        memory = self._memory
        memory.recovered = memory.pid == answer["pid"]
        memory.reason = answer.get("reason")
        memory.pid = answer["pid"]
        memory.connected_at = time.time()
        self._note_progress()

    def _take_event(self, packet: bytes) -> None:
        _name, number, _padding, offset = json.loads(packet[2:])
        self._memory.seen.append(number)
        self._memory.offset = offset
        self._note_progress()

    def _note_progress(self) -> None:
        if len(self._memory.seen) >= self._expected:
            self._memory.caught_up_at = time.time()
            self._memory.changed.set()


class Crowd:
    """All clients of this process."""

    def __init__(self, count: int, host: str, port: int) -> None:
        self._memories = [Memory() for _ in range(count)]
        self._wires: set[Wire] = set()
        self._emptied = asyncio.Event()
        self._host = f"{host}:{port}"
        self._address = (host, port)
        self._expected = 0
        self._failed = 0

    async def come(self, expected: int, limit_s: float) -> dict[str, Any]:
        """Connect all at once, trying again until the server is there; wait until all have got all there is."""
        self._expected = expected
        for memory in self._memories:
            memory.connected_at = memory.caught_up_at = 0
        entering = [asyncio.create_task(self._enter(memory)) for memory in self._memories]
        _done, late = await asyncio.wait(entering, timeout=limit_s)
        for task in late:
            task.cancel()
        return self._report()

    def leave(self) -> None:
        """Cut all connections."""
        for wire in list(self._wires):
            wire.transport.abort()

    async def ended(self, limit_s: float) -> list[float]:
        """Wait until the server has ended all connections; return when each did."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._wires:
                    self._emptied.clear()
                    await self._emptied.wait()
        return [memory.ended_at for memory in self._memories]

    async def _enter(self, memory: Memory) -> None:
        """Connect, again if the connection is lost, until the client has got all there is."""
        loop = asyncio.get_running_loop()
        while not memory.caught_up_at:
            memory.changed.clear()
            wire = Wire(memory, self._host, self._expected, self._lost)
            try:
                await loop.create_connection(partial(_same, wire), *self._address)
            except OSError:
                self._failed += 1
            else:
                self._wires.add(wire)
                await memory.changed.wait()
            if not memory.caught_up_at:
                await asyncio.sleep(_RETRY_S)

    def _lost(self, wire: Wire) -> None:
        self._wires.discard(wire)
        if not self._wires:
            self._emptied.set()

    def _report(self) -> dict[str, Any]:
        wanted = list(range(self._expected))
        reasons: dict[str, int] = {}
        for memory in self._memories:
            if memory.reason:
                reasons[memory.reason] = reasons.get(memory.reason, 0) + 1
        return {
            "connected": sum(memory.connected_at > 0 for memory in self._memories),
            "recovered": sum(memory.recovered for memory in self._memories),
            "reasons": reasons,
            "wrong": sum(memory.seen != wanted for memory in self._memories),
            "missing": sum(len(set(wanted) - set(memory.seen)) for memory in self._memories if memory.seen != wanted),
            "attempts_failed": self._failed,
            "connected_at": [memory.connected_at for memory in self._memories],
            "caught_up_at": [memory.caught_up_at for memory in self._memories],
        }


def _same(wire: Wire) -> Wire:
    return wire


async def main(count: int, host: str, port: int) -> None:
    """Do what stdin says: ``come EXPECTED LIMIT_S``, ``leave``, ``ended LIMIT_S``."""
    crowd = Crowd(count, host, port)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).split():
        answer: Any = None
        if line[0] == b"come":
            answer = await crowd.come(int(line[1]), float(line[2]))
        elif line[0] == b"leave":
            crowd.leave()
            answer = await crowd.ended(10)
        else:
            answer = await crowd.ended(float(line[1]))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
