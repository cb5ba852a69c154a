"""Recovery (item 8): many clients are cut off, miss events, and come back all at once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from bench.speed.asking import Unexpected
from bench.speed.contenders import Serving
from bench.speed.counting import Caller
from bench.speed.entering import enter_all, leave
from bench.speed.frames import heartbeat_answer, payload_bounds
from bench.speed.items.common import Extent, Figures, rate_figures, settled
from bench.speed.process import Used

__all__ = ["recovery"]

_MISSED = 100
_SIZE_BYTES = 100
_TASK = {"rooms": ["all"], "except": [], "size": _SIZE_BYTES, "binary": False, "in_a_turn": 1}
_EVENT = b'42["blast",'
_LIMIT_S = 60.0


class _Returner(asyncio.Protocol):
    """A client that remembers where it was."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.received = 0
        self._last = b""
        self._buffer = b""

    def begin(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._buffer = b""

    def offset(self) -> str:
        return str(json.loads(self._last[2:])[-1])

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        at = 0
        while True:
            start, stop = payload_bounds(data, at)
            if not start or stop > len(data):
                break
            if data.startswith(_EVENT, start):
                self.received += 1
                self._last = data[start:stop]
            elif (alive := heartbeat_answer(data[at], data[start:stop])) is not None:
                self.transport.write(alive)
            at = stop
        self._buffer = data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        pass


async def recovery(server: Serving, extent: Extent) -> AsyncIterator[tuple[str, Figures]]:
    """Measure from the moment when all come back until all have caught up."""
    clients = 1_000 if extent.is_full else 300
    returners = [_Returner() for _ in range(clients)]
    entries = await enter_all(server.port, [{"rooms": ["all"]}] * clients, returners)
    pids = [entry.answer.result()["pid"] for entry in entries]
    caller = await Caller.connect(server.port)
    await caller.call("blast", {**_TASK, "count": 1})
    await settled(lambda: all(one.received == 1 for one in returners), "not everybody got the first event")
    for one in returners:
        leave(one.transport)
    deadline = time.monotonic() + _LIMIT_S
    while await caller.call("sockets") > 1:
        if time.monotonic() > deadline:
            raise Unexpected("the server did not notice that its clients have gone")
        await asyncio.sleep(0.02)
    await caller.call("blast", {**_TASK, "count": _MISSED})
    auths = [{"pid": pid, "offset": one.offset()} for pid, one in zip(pids, returners, strict=True)]
    start = Used.now(server.pid)
    entries = await enter_all(server.port, auths, returners)
    wanted = 1 + _MISSED
    await settled(lambda: all(one.received >= wanted for one in returners), "not everybody caught up", _LIMIT_S)
    used = Used.now(server.pid).since(start)
    if not all(one.received == wanted for one in returners):
        raise Unexpected("somebody got an event twice")
    if pids != [entry.answer.result()["pid"] for entry in entries]:
        raise Unexpected("somebody was not recovered")
    for one in returners:
        leave(one.transport)
    caller.close()
    figures = rate_figures(clients * _MISSED, used)
    case = f"{clients:,} clients, {_MISSED} missed events each"
    yield case, {**figures, "caught_up_s": used.seconds, "server_cpu_s": used.server_s}
