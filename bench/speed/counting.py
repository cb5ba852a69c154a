"""Clients that only receive, and a client that calls: what broadcasts are measured with."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from bench.speed.asking import Unexpected
from bench.speed.entering import enter
from bench.speed.frames import FrameCounter, client_frame, heartbeat_answer, payload_bounds

__all__ = ["Caller", "Deliveries", "Member"]


@dataclass
class Deliveries:
    """What all members have got together.

    Attributes:
        received: How many events.
        lost: How many members' connections ended.
    """

    received: int = 0
    lost: int = 0
    _goal: int = 1 << 60
    _reached: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, count: int) -> None:
        """Count some."""
        self.received += count
        if self.received >= self._goal:
            self._reached.set()

    async def wait_for(self, goal: int, limit_s: float) -> None:
        """Wait until so many were received.

        Raises:
            Unexpected: They did not come in time.
        """
        self._goal = goal
        self._reached.clear()
        try:
            if self.received < goal:
                await asyncio.wait_for(self._reached.wait(), limit_s)
        except TimeoutError:
            raise Unexpected(
                f"{self.received} of {goal} events came, {self.lost} clients lost their connection"
            ) from None


class Member(asyncio.Protocol):
    """A connection that counts what it gets.

    Attributes:
        received: How many events that was.
        transport: Its connection.
    """

    __slots__ = ("_counter", "_deliveries", "received", "transport")

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries
        self._counter = FrameCounter(1 << 60, is_binary=False)
        self.received = 0
        self.transport: asyncio.Transport

    def begin(self, transport: asyncio.Transport) -> None:
        """Have the connection."""
        self.transport = transport

    def expect(self, least_bytes: int, is_binary: bool) -> None:
        """Count frames of at least that size from now on, beginning with none."""
        self.received = 0
        self._counter.expect(least_bytes, is_binary)

    def data_received(self, data: bytes) -> None:
        """Count."""
        found = self._counter.feed(data)
        if found:
            self.received += found
            self._deliveries.add(found)
        if self._counter.heartbeats:
            self.transport.write(b"".join(self._counter.heartbeats))
            self._counter.heartbeats.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note it."""
        self._deliveries.lost += 1


class Caller(asyncio.Protocol):
    """A connection that calls the server and waits for its answers."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._buffer = b""
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    @classmethod
    async def connect(cls, port: int, **auth: Any) -> Caller:
        """Connect one."""
        caller = cls()
        (await enter(port, auth)).hand_over(caller)
        return caller

    def begin(self, transport: asyncio.Transport) -> None:
        """Have the connection."""
        self._transport = transport

    def start(self, event: str, *args: Any) -> asyncio.Future[Any]:
        """Call the server; returns a future of the answer's first value."""
        self._number += 1
        waiting = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        text = json.dumps([event, *args], separators=(",", ":"))
        self._transport.write(client_frame(f"42{self._number}{text}"))
        return waiting

    async def call(self, event: str, *args: Any, limit_s: float = 60) -> Any:
        """Call the server; returns the answer's first value."""
        async with asyncio.timeout(limit_s):
            return await self.start(event, *args)

    def data_received(self, data: bytes) -> None:
        """Give answers to who waits for them."""
        self._buffer += data
        while True:
            start, stop = payload_bounds(self._buffer, 0)
            if not start or stop > len(self._buffer):
                return
            first, payload, self._buffer = self._buffer[0], self._buffer[start:stop], self._buffer[stop:]
            if (alive := heartbeat_answer(first, payload)) is not None:
                self._transport.write(alive)
            elif payload.startswith(b"43"):
                bracket = payload.index(b"[")
                answer = json.loads(payload[bracket:])
                self._waiting.pop(int(payload[2:bracket])).set_result(answer[0] if answer else None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail who waits."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(exc or Unexpected("the server closed the connection of a caller"))

    def close(self) -> None:
        """Leave."""
        self._transport.abort()
