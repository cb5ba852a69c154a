"""WebSocket clients that consume one queue of `bench.queue.app` and acknowledge whatever comes, in their own process.

Bare WebSockets with as little Python for each message as can be, so that the server is what is measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import uvloop

from bench.queue.documents import PREFETCH

__all__: list[str] = []

_REQUEST = (
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
# All zeros: the masked payload is the payload.
_MASK = b"\0\0\0\0"
_TOP_UP = 10
_CALL_EVERY_S = 0.01


class Wire(asyncio.Protocol):
    """One socket: joins, makes calls, and answers each event with an ack."""

    def __init__(self, host: str, taken: Callable[[], None]) -> None:
        self._host = host
        self._taken = taken
        self._buffer = bytearray()
        self._upgraded = False
        self._calls = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.joined = asyncio.Event()
        self.transport: asyncio.Transport

    async def call(self, event: str, *args: Any) -> Any:
        """Emit, and return what the server answers."""
        self._calls += 1
        answer = self._answers[self._calls] = asyncio.get_running_loop().create_future()
        self._send(f"42{self._calls}{json.dumps([event, *args])}".encode())
        return await answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(_REQUEST.format(host=self._host).encode())

    def data_received(self, data: bytes) -> None:
        """Take whatever whole frames there are."""
        buffer = self._buffer
        buffer += data
        if not self._upgraded:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._upgraded = True
            del buffer[: end + 4]
        start = 0
        while (following := _end_of_frame(buffer, start)) is not None:
            self._take(bytes(buffer[start + _head(buffer, start) : following]))
            start = following
        del buffer[:start]

    def _take(self, packet: bytes) -> None:
        if packet.startswith(b"42"):
            end = packet.index(b"[")
            if end > 2:
                self._taken()
                self._send(b"43" + packet[2:end] + b"[]")
        elif packet.startswith(b"43"):
            end = packet.index(b"[")
            answer = json.loads(packet[end:])
            self._answers.pop(int(packet[2:end])).set_result(answer[0] if answer else None)
        elif packet == b"2":
            self._send(b"3")
        elif packet.startswith(b"0"):
            self._send(b"40")
        elif packet.startswith(b"40"):
            self.joined.set()

    def _send(self, packet: bytes) -> None:
        size = len(packet)
        head = bytes((129, 128 | size)) if size < 126 else bytes((129, 254)) + size.to_bytes(2, "big")
        self.transport.write(head + _MASK + packet)


def _head(buffer: bytearray, start: int) -> int:
    size = buffer[start + 1]
    return 2 if size < 126 else 4 if size == 126 else 10


def _end_of_frame(buffer: bytearray, start: int) -> int | None:
    """Return where a frame ends; ``None`` if it is not all there."""
    if len(buffer) < start + 2:
        return None
    head, size = _head(buffer, start), buffer[start + 1]
    if size >= 126:
        size = int.from_bytes(buffer[start + 2 : start + head], "big")
    end = start + head + size
    return end if len(buffer) >= end else None


class Consumers:
    """Sockets that share a consumer of a queue."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._wires: list[Wire] = []
        self._when_taken: Callable[[], None]

    async def join(self, sockets: int) -> None:
        """Connect so many."""
        loop = asyncio.get_running_loop()
        while len(self._wires) < sockets:
            _, wire = await loop.create_connection(
                lambda: Wire(f"127.0.0.1:{self._port}", self._taken), "127.0.0.1", self._port
            )
            self._wires.append(wire)
            await wire.joined.wait()

    async def fill(self, queue: str, messages: int) -> None:
        """Put messages into a queue."""
        await self._wires[0].call("fill", queue, messages)

    async def drain(self, queue: str, order: str, messages: int, prefetch: int) -> dict[str, float]:
        """Put messages into a queue and take them all out.

        The time begins when the sockets, already connected, ask for messages, and ends with the last ack on disk.
        """
        left = messages
        ended = asyncio.Event()

        def taken() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                ended.set()

        speaker = self._wires[0]
        await self.fill(queue, messages)
        self._when_taken, began = taken, time.perf_counter()
        await asyncio.gather(*(wire.call("consume", queue, order, prefetch) for wire in self._wires))
        await ended.wait()
        while await speaker.call("waiting", queue):  # noqa: ASYNC110 - the server's disk is what is waited for
            await asyncio.sleep(0.001)
        return {"per_s": messages / (time.perf_counter() - began)}

    async def stand(self, queue: str, messages: int) -> dict[str, float]:
        """Take messages out of a queue and put as many in, ten in a commit, so that always as many wait.

        Returns what each cost of the server's CPU, its way in and out together.
        """
        left = messages
        topping_up: set[asyncio.Task[Any]] = set()
        ended = asyncio.Event()
        speaker = self._wires[0]

        def taken() -> None:
            nonlocal left
            left -= 1
            if left % _TOP_UP == 0:
                task = asyncio.create_task(speaker.call("fill", queue, _TOP_UP))
                topping_up.add(task)
                task.add_done_callback(topping_up.discard)
            if left == 0:
                ended.set()

        self._when_taken = taken
        began, began_cpu = time.perf_counter(), await speaker.call("cpu")
        await speaker.call("consume", queue, "none", _TOP_UP)
        await ended.wait()
        cpu_s = await speaker.call("cpu") - began_cpu
        # More have come meanwhile.
        seconds, taken_in_all = time.perf_counter() - began, messages - left
        await speaker.call("stop", queue)
        while topping_up:
            await asyncio.wait(topping_up)
        return {"per_s": taken_in_all / seconds, "cpu_us": cpu_s / taken_in_all * 1e6}

    async def replay(self, queue: str) -> dict[str, float]:
        """Take all messages that wait out of a queue, while another client makes calls.

        Returns how fast that was, how long the calls took, and by how much the server's memory has grown at most.
        """
        ended = asyncio.Event()
        taker, caller = self._wires
        left = messages = await caller.call("waiting", queue)

        def taken() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                ended.set()

        self._when_taken, began = taken, time.perf_counter()
        before = most = await caller.call("memory")
        began_cpu = await caller.call("cpu")
        calls_s: list[float] = []
        await taker.call("consume", queue, "none", PREFETCH)
        while not ended.is_set():
            called = time.perf_counter()
            most = max(most, await caller.call("memory"))
            calls_s.append(time.perf_counter() - called)
            await asyncio.sleep(_CALL_EVERY_S)
        seconds, cpu_s = time.perf_counter() - began, await caller.call("cpu") - began_cpu
        calls_s.sort()
        return {
            "per_s": messages / seconds,
            "cpu_us": cpu_s / messages * 1e6,
            "call_ms_p50": calls_s[len(calls_s) // 2] * 1e3,
            "call_ms_p99": calls_s[len(calls_s) * 99 // 100] * 1e3,
            "grown_mib": (most - before) / (1 << 20),
        }

    def _taken(self) -> None:
        self._when_taken()


async def main(task: dict[str, Any]) -> dict[str, float]:
    """Consume as told, and return what was measured."""
    consumers = Consumers(task["port"])
    await consumers.join(task["sockets"])
    if task["do"] == "drain":
        return await consumers.drain(task["queue"], task["order"], task["messages"], task["prefetch"])
    if task["do"] == "stand":
        return await consumers.stand(task["queue"], task["messages"])
    if task["do"] == "replay":
        return await consumers.replay(task["queue"])
    await consumers.fill(task["queue"], task["messages"])
    return {}


if __name__ == "__main__":
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    given = json.loads(sys.argv[1])
    os.sched_setaffinity(0, given["cores"])
    print(json.dumps(uvloop.run(main(given))))
