"""An application whose server dies by ``kill -9`` at a step of its work; see test_queue_kills.py.

A step is a statement of SQLite, a commit that is not reported yet, a message about to go out, or an answer to one
that has just come. The option ``steps_file`` names the file that says at which step, counted from the first client's
coming.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import waypost
from tests.support.server_process import OPTIONS_VARIABLE
from waypost.server.queues.runner import Runner
from waypost.server.queues.socket_carrier import SocketCarrier
from waypost.storage.sqlite.store import SqliteStore
from waypost.storage.sqlite.writer import Writer

QUEUE = "jobs"

_options = json.loads(os.environ.get(OPTIONS_VARIABLE, "{}"))
_left = int(Path(_options["steps_file"]).read_text()) if _options else 0
_is_armed = False

io = waypost.Server(drain_s=0.1, queues=waypost.QueueOptions(max_failures=3, first_backoff_s=0))


def _step(*_: object) -> None:
    global _left  # noqa: PLW0603  # steps are taken in two threads, by functions that can't be given anything
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def _watch(owner: type, name: str) -> None:
    """Let each call of a method begin with a step."""
    method: Callable[..., Any] = getattr(owner, name)

    def stepping(*arguments: Any, **options: Any) -> Any:
        if _is_armed:
            _step()
        return method(*arguments, **options)

    setattr(owner, name, stepping)


for _owner, _name in (
    (Writer, "_written"),
    (SocketCarrier, "send"),
    (Runner, "acknowledge"),
    (Runner, "reject"),
):
    _watch(_owner, _name)


async def _arm() -> None:
    global _is_armed  # noqa: PLW0603
    if not _is_armed:
        _is_armed = True
        store = io._hub.services.store
        assert isinstance(store, SqliteStore)
        await store._open().writer.submit(lambda tx: tx.connection.set_trace_callback(_step))


@io.on("connect")
async def connect(socket: waypost.Socket, auth: dict[str, Any]) -> None:
    await _arm()
    if auth["role"] == "consumer":
        await socket.consume(QUEUE, **auth.get("consuming", {}))


@io.event
async def put(socket: waypost.Socket, number: int) -> int:
    return (await io.queue(QUEUE).emit("job", number, id=str(number))).offset


@io.event
async def redrive(socket: waypost.Socket) -> int:
    return await io.queue(QUEUE).redrive()


@io.event
async def look(socket: waypost.Socket) -> dict[str, Any]:
    """Tell what is on disk: up to where all is settled, how much waits, and the dead letters."""
    queue = io.queue(QUEUE)
    letters = [[one.args[0], one.reason, one.failures] for one in await queue.dead_letters()]
    consumers = await queue.consumers()
    return {
        "messages": (await queue.info()).messages,
        "offset": max((one.offset for one in consumers), default=0),
        "waiting": sum(one.waiting for one in consumers),
        "dead": letters,
    }
