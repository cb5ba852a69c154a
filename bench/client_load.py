"""One client library at one kind of work, in a process of its own: ``python -m bench.client_load LIBRARY WORK URL``.

Prints one line of JSON: how much was done in how many seconds, also of the processor's time, or the memory in use.
`bench.client` runs it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import socketio  # type: ignore[import-untyped]

import waypost

_PAGE_BYTES = 4096
_IN_FLIGHT = 100
_FLOOD_EVENTS = 2_000


class Library(Protocol):
    """A client, whosever it is."""

    async def connect(self) -> None:
        """Connect over a WebSocket."""
        ...

    async def ask(self, value: Any) -> Any:
        """Call the server and return its answer."""
        ...

    async def flood(self, count: int) -> None:
        """Ask the server for so many events, and return when the last one has been handled."""
        ...

    async def leave(self) -> None:
        """Disconnect."""
        ...


class Waypost:
    """Waypost's client."""

    def __init__(self, url: str) -> None:
        self._client = waypost.Client(url, transports=("websocket",), reconnection=False)
        self._left = Countdown()
        self._client.on("told", self._left.handle)

    async def connect(self) -> None:
        """Connect over a WebSocket."""
        await self._client.connect()

    async def ask(self, value: Any) -> Any:
        """Call the server and return its answer."""
        return await self._client.call("ask", value)

    async def flood(self, count: int) -> None:
        """Ask the server for so many events, and return when the last one has been handled."""
        self._left.begin(count)
        await self._client.emit("flood", count)
        await self._left.done.wait()

    async def leave(self) -> None:
        """Disconnect."""
        await self._client.disconnect()


class PythonSocketio:
    """python-socketio's client."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = socketio.AsyncClient(reconnection=False)
        self._left = Countdown()
        self._client.on("told", self._left.handle)

    async def connect(self) -> None:
        """Connect over a WebSocket."""
        await self._client.connect(self._url, transports=["websocket"], wait_timeout=30)

    async def ask(self, value: Any) -> Any:
        """Call the server and return its answer."""
        return await self._client.call("ask", value)

    async def flood(self, count: int) -> None:
        """Ask the server for so many events, and return when the last one has been handled."""
        self._left.begin(count)
        await self._client.emit("flood", count)
        await self._left.done.wait()

    async def leave(self) -> None:
        """Disconnect."""
        await self._client.disconnect()


class Countdown:
    """Counts events until all have been handled."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self._left = 0

    def begin(self, count: int) -> None:
        """Expect so many."""
        self._left = count
        self.done.clear()

    async def handle(self, _value: Any) -> None:
        """Count one; the handler of the event."""
        self._left -= 1
        if not self._left:
            self.done.set()


class Clock:
    """What has passed since it was made, in a room and in the processor; make it when connected."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._started_cpu = time.process_time()

    @property
    def passed_s(self) -> float:
        """How many seconds have passed."""
        return time.perf_counter() - self._started

    def read(self) -> dict[str, float]:
        """Return the seconds that have passed, and those that this process has used."""
        return {"seconds": self.passed_s, "cpu_seconds": time.process_time() - self._started_cpu}


LIBRARIES: dict[str, Callable[[str], Library]] = {"waypost": Waypost, "python-socketio": PythonSocketio}


async def ask(make: Callable[[], Library], seconds: float) -> dict[str, float]:
    """Count acknowledged calls of one client with 100 in flight."""
    client = make()
    await client.connect()
    clock = Clock()
    done = 0

    async def worker() -> None:
        nonlocal done
        while clock.passed_s < seconds:
            assert await client.ask({"number": done}) is not None
            done += 1

    await asyncio.gather(*(worker() for _ in range(_IN_FLIGHT)))
    taken = clock.read()
    await client.leave()
    return {"done": done, **taken}


async def listen(make: Callable[[], Library], seconds: float) -> dict[str, float]:
    """Count the events that one client handles, 2,000 sent at a time."""
    client = make()
    await client.connect()
    clock = Clock()
    done = 0
    while clock.passed_s < seconds:
        await client.flood(_FLOOD_EVENTS)
        done += _FLOOD_EVENTS
    taken = clock.read()
    await client.leave()
    return {"done": done, **taken}


async def crowd(make: Callable[[], Library], clients: int) -> dict[str, float]:
    """Measure the memory of so many connected clients."""
    first = make()
    await first.connect()
    before = _resident_bytes()
    connected = [make() for _ in range(clients)]
    for start in range(0, clients, 50):
        await asyncio.gather(*(client.connect() for client in connected[start : start + 50]))
    taken = _resident_bytes() - before
    for client in (first, *connected):
        await client.leave()
    return {"bytes_each": taken / clients}


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(description="One client library at one kind of work.")
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("work", choices=("ask", "listen", "crowd"))
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--clients", type=int, default=1000)
    options = parser.parse_args()
    make = partial(LIBRARIES[options.library], options.url)
    work: Coroutine[Any, Any, dict[str, float]]
    if options.work == "ask":
        work = ask(make, options.seconds)
    elif options.work == "listen":
        work = listen(make, options.seconds)
    else:
        work = crowd(make, options.clients)
    print(json.dumps(asyncio.run(work)))


if __name__ == "__main__":
    main()
