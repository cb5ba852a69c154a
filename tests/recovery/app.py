"""The application of these tests: like tests/interop/app.py, with gates to hold a recovery at, and a look inside.

Options of the `Server` come as JSON in the environment; ``upkeep_s``, ``clock_file`` and ``guarded`` are this
application's own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import waypost
import waypost.server.hub
from tests.support.server_process import OPTIONS_VARIABLE
from waypost.server.basics.environment import Environment
from waypost.server.basics.handshake import Handshake


async def _is_same_user(earlier: Handshake, now: Handshake) -> bool:
    return bool(earlier.auth.get("user") == now.auth.get("user"))


def _make_server() -> waypost.Server:
    options: dict[str, Any] = json.loads(os.environ.get(OPTIONS_VARIABLE, "{}"))
    upkeep_s = options.pop("upkeep_s", None)
    if upkeep_s is not None:
        waypost.server.hub._UPKEEP_INTERVAL_S = upkeep_s
    clock_file = options.pop("clock_file", None)
    offset_s = float(Path(clock_file).read_text()) if clock_file else 0.0
    may_resume = _is_same_user if options.pop("guarded", False) else None
    options["recovery"] = waypost.Recovery(may_resume=may_resume, **options.get("recovery", {}))
    return waypost.Server(environment=Environment(wall_time=lambda: time.time() + offset_s), **options)


io = _make_server()
other = io.of("/other")
control = io.of("/control")

_sockets: dict[str, waypost.Socket] = {}
_gates: dict[str, asyncio.Event] = {}
_held: dict[str, int] = {}
_revoked: set[str] = set()
_gate_runs: list[tuple[str, bool]] = []
_expired: list[tuple[str, Any]] = []


async def _hold(socket: waypost.Socket, step: str) -> None:
    """Wait at a step of a recovery until the test opens its gate; ``auth["hold"]`` says at which."""
    gate = (socket.handshake.auth.get("hold") or {}).get(step)
    if gate is not None and socket.recovered:
        _held[gate] = _held.get(gate, 0) + 1
        await _gates.setdefault(gate, asyncio.Event()).wait()


@io.use
async def middleware(socket: waypost.Socket) -> None:
    _gate_runs.append((socket.id, socket.recovered))
    if socket.handshake.auth.get("token") in _revoked:
        raise waypost.ConnectionRefused("revoked")
    await _hold(socket, "middleware")


@io.on("connect")
async def connect(socket: waypost.Socket, auth: Any) -> None:
    _sockets[socket.id] = socket
    await _hold(socket, "connect")
    for room in auth.get("rooms", ()):
        if not socket.recovered:
            await socket.join(room)
    for number in range(auth.get("greetings", 0)):
        await socket.emit("news", "greeting", number)


@io.on("session_expired")
async def session_expired(session: waypost.EndedSession) -> None:
    _expired.append((session.socket_id, session.data))


@io.event
async def publish(socket: waypost.Socket, room: str, *args: Any) -> None:
    """Emit to a room from the server; once this is acknowledged, the event is in the journal."""
    await io.to(room).emit("news", *args)


@io.event
async def publish_many(socket: waypost.Socket, room: str, first: int, last: int, padding: int = 0) -> None:
    """Emit numbers to a room, each with so many bytes of padding."""
    text = "x" * padding
    await asyncio.gather(*(io.to(room).emit("news", number, text) for number in range(first, last)))


@io.event
async def publish_volatile(socket: waypost.Socket, room: str, *args: Any) -> None:
    await io.to(room).volatile.emit("news", *args)


@io.event
async def publish_except(socket: waypost.Socket, rooms: list[str], excluded: list[str], *args: Any) -> None:
    await io.to(*rooms).except_(*excluded).emit("news", *args)


@io.event
async def publish_from(socket: waypost.Socket, rooms: list[str], *args: Any) -> None:
    """Emit to rooms, the sender excluded."""
    await socket.to(*rooms).emit("news", *args)


@io.event
async def publish_as(socket: waypost.Socket, sid: str, rooms: list[str], *args: Any) -> None:
    """Emit to rooms as another socket would, so that socket is excluded, whether it is here or not."""
    await _sockets[sid].to(*rooms).emit("news", *args)


@io.event
async def move(socket: waypost.Socket, how: str, members: list[str], excluded: list[str], *rooms: str) -> None:
    """Let the server join or leave rooms for all who are in some room."""
    whom = io.in_(*members).except_(*excluded)
    await (whom.sockets_join if how == "join" else whom.sockets_leave)(*rooms)


@io.event
async def echo(socket: waypost.Socket, *args: Any) -> tuple[Any, ...]:
    return args


@io.event
async def join(socket: waypost.Socket, *rooms: str) -> None:
    await socket.join(*rooms)


@io.event
async def leave(socket: waypost.Socket, *rooms: str) -> None:
    await socket.leave(*rooms)


@io.event
async def rooms(socket: waypost.Socket) -> list[str]:
    """The rooms it is in, without its own."""
    return sorted(set(socket.rooms) - {socket.id})


@io.event
async def remember(socket: waypost.Socket, key: str, value: Any) -> None:
    socket.data[key] = value


@io.event
async def recall(socket: waypost.Socket) -> Any:
    return dict(socket.data)


@io.event
async def outcome(socket: waypost.Socket) -> dict[str, Any]:
    """What became of this socket's recovery."""
    return {"recovered": socket.recovered, **dataclasses.asdict(socket.recovery)}


@other.on("join")
async def join_other(socket: waypost.Socket, *rooms: str) -> None:
    await socket.join(*rooms)


@other.on("publish")
async def publish_other(socket: waypost.Socket, room: str, *args: Any) -> None:
    await other.to(room).emit("news", *args)


@other.on("rooms")
async def rooms_other(socket: waypost.Socket) -> list[str]:
    return sorted(set(socket.rooms) - {socket.id})


@control.on("state")
async def state(socket: waypost.Socket) -> dict[str, Any]:
    """All that the server counts."""
    return dataclasses.asdict(io.state())


@control.on("revoke")
async def revoke(socket: waypost.Socket, token: str) -> None:
    _revoked.add(token)


@control.on("held")
async def held(socket: waypost.Socket, gate: str) -> int:
    """How many recoveries have come to a gate so far."""
    return _held.get(gate, 0)


@control.on("open")
async def open_gate(socket: waypost.Socket, gate: str) -> None:
    _gates.setdefault(gate, asyncio.Event()).set()


@control.on("expired")
async def expired(socket: waypost.Socket) -> list[tuple[str, Any]]:
    """Whose sessions have ended because they did not come back: sid and data."""
    return _expired


@control.on("gate_runs")
async def gate_runs(socket: waypost.Socket, sid: str) -> list[bool]:
    """What ``recovered`` was each time the middleware saw a socket."""
    return [recovered for seen, recovered in _gate_runs if seen == sid]
