"""The application that the official clients are tested against.

`waypost serve tests.interop.app:io` runs it in a process of its own. Options of the `Server` come as JSON in
the environment, since no two tests want the same heartbeat.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections import defaultdict
from typing import Any

import waypost
from tests.support.server_process import OPTIONS_VARIABLE


def _options() -> dict[str, Any]:
    options: dict[str, Any] = json.loads(os.environ.get(OPTIONS_VARIABLE, "{}"))
    if options.get("recovery"):
        options["recovery"] = waypost.Recovery(**options["recovery"])
    if options.get("queues"):
        options["queues"] = waypost.QueueOptions(**options["queues"])
    return options


io = waypost.Server(**_options())
other = io.of("/other")
control = io.of("/control")
slow = io.of("/slow")
tenants = io.of(re.compile(r"/tenant-\d+"))

_sockets: dict[str, waypost.Socket] = {}
_left: list[tuple[str, str]] = []
_counted: defaultdict[str, list[int]] = defaultdict(list)
_streams: set[asyncio.Task[None]] = set()


@io.on("connect")
async def connect(socket: waypost.Socket, auth: Any) -> None:
    auth = auth or {}
    if "refuse" in auth:
        raise waypost.ConnectionRefused("not you", {"because": auth["refuse"]})
    if not socket.recovered:
        for room in auth.get("rooms", ()):
            await socket.join(room)
    _sockets[socket.id] = socket
    for queue in auth.get("consume", ()):
        await socket.consume(queue, **auth.get("consuming", {}))
    if "stream" in auth:
        _start_stream(socket, auth["stream"])


@io.on("disconnect")
async def disconnect(socket: waypost.Socket, reason: str) -> None:
    _left.append((socket.id, reason))


@io.event
async def echo(socket: waypost.Socket, *args: Any) -> tuple[Any, ...]:
    return args


@slow.on("connect")
async def connect_slowly(socket: waypost.Socket) -> None:
    await asyncio.sleep(0.02)


@slow.event
async def who(socket: waypost.Socket) -> str:
    return socket.id


@io.event
async def in_slow(socket: waypost.Socket) -> list[str]:
    return [one.id for one in await slow.fetch_sockets()]


@io.event
async def say(socket: waypost.Socket, *args: Any) -> None:
    """Answer with an event instead of an ack."""
    await socket.emit("said", *args)


@io.event
async def ask(socket: waypost.Socket, *args: Any) -> Any:
    """Ask the client, and hand its answer back."""
    try:
        return await socket.call("question", *args, timeout_s=5)
    except waypost.AckTimeout:
        return "no answer"


@io.event
async def ask_another(socket: waypost.Socket, sid: str, *args: Any) -> Any:
    if sid in _sockets:
        return await _sockets[sid].call("question", *args, timeout_s=10)
    answers = await io.server_side_call("ask_here", sid, *args)
    return next(iter(answers.answers.values()))


@io.on_server_side("ask_here")
async def ask_here(sid: str, *args: Any) -> Any:
    """Ask a client that another worker's client wants to ask."""
    return await _sockets[sid].call("question", *args, timeout_s=10)


@io.event
async def ask_room(socket: waypost.Socket, room: str, timeout_s: float, *args: Any) -> dict[str, Any]:
    """Ask everyone in a room, and say who answered what."""
    answers = await io.to(room).timeout(timeout_s).call("question", *args)
    return {"answers": answers.answers, "missing": answers.missing, "left": answers.left}


@io.event
async def ask_room_one_by_one(socket: waypost.Socket, room: str, *args: Any) -> list[str]:
    """Ask everyone in a room, tell each answer as it comes, and say who is missing."""
    call = io.to(room).timeout(0.3).call("question", *args)
    async for sid, answer in call:
        await socket.emit("answered", sid, answer)
    return list(call.so_far().missing)


@io.event
async def disconnect_room(socket: waypost.Socket, room: str, close: bool) -> list[str]:
    """Disconnect everyone in a room, and say who was in it."""
    fetched = await io.in_(room).fetch_sockets()
    await io.in_(room).disconnect_sockets(close=close)
    return [one.id for one in fetched]


@io.event
async def ask_in_vain(socket: waypost.Socket) -> str:
    try:
        await socket.call("question", timeout_s=0.2)
    except waypost.AckTimeout as error:
        return str(error)
    return "answered"


@io.event
async def fail(socket: waypost.Socket) -> None:
    raise ValueError("the handler's own business")


@io.event
async def join(socket: waypost.Socket, room: str) -> None:
    await socket.join(room)


@io.event
async def leave(socket: waypost.Socket, room: str) -> None:
    await socket.leave(room)


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
async def publish(socket: waypost.Socket, room: str, *args: Any) -> None:
    """Emit to a room from the server; once this is acknowledged, the event is in the journal."""
    await io.to(room).emit("news", *args)


@io.event
async def clock(socket: waypost.Socket) -> float:
    """Return the wall time as this process has it, in seconds."""
    return time.time()


@io.event
async def whisper(socket: waypost.Socket, sid: str, *args: Any) -> None:
    await io.to(sid).emit("news", *args)


@io.event
async def broadcast(
    socket: waypost.Socket, to: list[str], excluded: list[str], from_socket: bool, *args: Any
) -> None:
    """Emit to several rooms but for others, from the server or from the socket itself."""
    target: waypost.Operator | waypost.Server = socket.broadcast if from_socket else io
    if to:
        target = target.to(*to)
    await target.except_(*excluded).emit("news", *args)


@io.event
async def announce(socket: waypost.Socket, *args: Any) -> None:
    await io.emit("news", *args)


@io.event
async def kick(socket: waypost.Socket, close: bool) -> None:
    await socket.disconnect(close=close)


@io.event
async def count(socket: waypost.Socket, number: int) -> None:
    _counted[socket.id].append(number)


@io.event
async def counted(socket: waypost.Socket) -> list[int]:
    return _counted[socket.id]


@io.event
async def enqueue(socket: waypost.Socket, queue: str, id: str | None, *args: Any) -> str:  # noqa: A002
    """Publish to a queue; once this is acknowledged, the message is on disk."""
    return (await io.queue(queue).emit("job", *args, id=id)).id


@io.event
async def enqueue_many(socket: waypost.Socket, queue: str, jobs: list[Any]) -> list[int]:
    """Publish jobs, each with its key, in one commit."""
    messages = [waypost.NewMessage("job", job, key=key) for job, key in jobs]
    return [receipt.offset for receipt in await io.queue(queue).emit_many(messages)]


@io.event
async def dead_letters(socket: waypost.Socket, queue: str) -> list[Any]:
    """The jobs that were given up, and why."""
    return [[letter.args[0], letter.reason, letter.failures] for letter in await io.queue(queue).dead_letters()]


@io.event
async def redrive(socket: waypost.Socket, queue: str) -> int:
    return await io.queue(queue).redrive()


@io.event
async def waiting(socket: waypost.Socket, queue: str) -> int:
    """How many messages of a queue its consumer has not acknowledged yet."""
    return sum(consumer.waiting for consumer in await io.queue(queue).consumers())


@io.event
async def consume(socket: waypost.Socket, queue: str) -> None:
    await socket.consume(queue)


@other.use
async def refuse_other(socket: waypost.Socket) -> None:
    if "refuse" in socket.handshake.auth:
        raise waypost.ConnectionRefused("not you", {"because": socket.handshake.auth["refuse"]})


@other.on("connect")
async def connect_other(socket: waypost.Socket, auth: Any) -> None:
    if not socket.recovered:
        await socket.join("others")


@other.on("echo")
async def echo_other(socket: waypost.Socket, *args: Any) -> tuple[Any, ...]:
    return ("other", *args)


@other.on("publish")
async def publish_other(socket: waypost.Socket, *args: Any) -> None:
    await other.to("others").emit("news", *args)


@other.on("kick")
async def kick_other(socket: waypost.Socket) -> None:
    await socket.disconnect()


@tenants.event
async def where(socket: waypost.Socket) -> str:
    return socket.namespace


@control.event
async def tell_tenants(socket: waypost.Socket, *args: Any) -> None:
    """Emit to all tenants at once."""
    await tenants.emit("news", *args)


@control.event
async def guard(socket: waypost.Socket) -> None:
    """Refuse events from now on."""

    @socket.use
    async def gate(event: str, *args: Any) -> None:
        raise waypost.EventRefused("closed", {"event": event})


@control.event
async def buy(socket: waypost.Socket, n: int) -> int:
    """Refuse what is too much, and fail at zero."""
    if n > 9:
        raise waypost.EventRefused("sold out", {"left": b"nine"})
    return 9 // n


@control.on("left")
async def left(socket: waypost.Socket) -> list[tuple[str, str]]:
    """Who has left the main namespace, and why, at all workers."""
    others = await io.server_side_call("left")
    return [*_left, *(one for theirs in others.answers.values() for one in theirs)]


@io.on_server_side("left")
async def left_here() -> list[tuple[str, str]]:
    return _left


def _start_stream(socket: waypost.Socket, gaps_ms: list[float]) -> None:
    task = asyncio.create_task(_stream(socket, gaps_ms))
    _streams.add(task)
    task.add_done_callback(_streams.discard)


async def _stream(socket: waypost.Socket, gaps_ms: list[float]) -> None:
    for number, gap_ms in enumerate(gaps_ms):
        if gap_ms > 0:
            await asyncio.sleep(gap_ms / 1000)
        await socket.emit("tick", number)
