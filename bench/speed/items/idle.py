"""What clients cost that do nothing (items 6 and 7): memory each, and CPU time for their heartbeats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from bench.speed.contenders import Serving
from bench.speed.counting import Caller, Deliveries, Member
from bench.speed.entering import enter_all, leave
from bench.speed.http import HttpConnection, connect_http, get_request
from bench.speed.items.common import Extent, Figures
from bench.speed.polling import open_session
from bench.speed.process import Used, memory_bytes

__all__ = ["idle", "idle_environment", "idle_polling"]

_SETTLED_S = 1.5
_QUICK_PING_S = 5.0
_PING_S = 25.0
_AT_ONCE = 32


def idle_environment(extent: Extent) -> dict[str, str]:
    """Have hearts beat more often where there is little time."""
    return {"BENCH_PING_S": f"{_ping_s(extent):g}"}


async def idle(server: Serving, extent: Extent) -> AsyncIterator[tuple[str, Figures]]:
    """Measure WebSocket connections, over a whole interval of heartbeats; then polling sessions."""
    clients = 10_000 if extent.is_full else 2_000
    (await Caller.connect(server.port)).close()
    deliveries = Deliveries()
    members = [Member(deliveries) for _ in range(clients)]
    memory = await _grown(server, clients, lambda: enter_all(server.port, [{}] * clients, members))
    start = Used.now(server.pid)
    await asyncio.sleep(_ping_s(extent))
    used = Used.now(server.pid).since(start)
    lost = deliveries.lost
    for member in members:
        leave(member.transport)
    if lost:
        raise RuntimeError(f"{lost} of {clients} idle clients lost their connection")
    yield (
        f"{clients:,} WebSocket connections at rest",
        {"kb_each": memory, "cpu_share": used.server_s / used.seconds, "server_us": used.server_s / clients * 1e6},
    )


async def idle_polling(server: Serving, extent: Extent) -> AsyncIterator[tuple[str, Figures]]:
    """Measure the memory of polling sessions, each with a poll under way."""
    sessions = 10_000 if extent.is_full else 2_000
    (await Caller.connect(server.port)).close()
    connections: list[HttpConnection] = []
    memory = await _grown(server, sessions, lambda: _poll_all(server.port, sessions, connections))
    for connection in connections:
        leave(connection.transport)
    yield f"{sessions:,} polling sessions at rest", {"kb_each": memory}


async def _poll_all(port: int, sessions: int, connections: list[HttpConnection]) -> None:
    waiting = iter(range(sessions))

    async def usher() -> None:
        for number in waiting:
            connection = await connect_http(port, number)
            connections.append(connection)
            connection.ask(get_request(port, await open_session(port, connection)))

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(usher())


async def _grown(server: Serving, clients: int, come: Callable[[], Awaitable[object]]) -> float:
    """Give by how much a server has grown for each client, in thousands of bytes."""
    await asyncio.sleep(_SETTLED_S)
    before = memory_bytes(server.pid)
    await come()
    await asyncio.sleep(_SETTLED_S)
    return (memory_bytes(server.pid) - before) / clients / 1000


def _ping_s(extent: Extent) -> float:
    return _PING_S if extent.is_full else _QUICK_PING_S
