"""An application for several workers. What it does at its import is read from a file, as if its code had changed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import waypost
from tests.support.server_process import OPTIONS_VARIABLE

_options: dict[str, Any] = json.loads(os.environ[OPTIONS_VARIABLE])
_mode_file: str | None = _options.pop("mode_file", None)
mode = Path(_mode_file).read_text() if _mode_file and Path(_mode_file).exists() else ""

if mode == "broken":
    raise RuntimeError("broken on purpose")
if mode == "ends":
    os._exit(7)
if mode == "hangs":
    sys.stderr.write("hanging in its import\n")
    time.sleep(600)
if mode == "other options":
    _options["answer_ttl_s"] = 12345
if mode == "own options":
    _options["answer_ttl_s"] = 10_000 + os.getpid()

io = waypost.Server(**_options)


@io.on("connect")
async def connect(socket: waypost.Socket) -> None:
    await socket.join("all")


@io.event
async def where(socket: waypost.Socket) -> list[Any]:
    return [os.getpid(), mode]


@io.event
async def tell(socket: waypost.Socket, value: Any) -> int:
    await io.to("all").emit("told", value)
    return os.getpid()


@io.event
async def who(socket: waypost.Socket) -> list[Any]:
    """Who is there, and how many servers have not said so."""
    fetched = await io.fetch_sockets()
    return [sorted(one.id for one in fetched), len(fetched.missing_servers)]


@io.event
async def ask(socket: waypost.Socket, seconds: float) -> list[Any]:
    """Who has answered, and how many are missing, have left, and were not heard of."""
    answers = await io.timeout(seconds).call("question")
    unheard = [len(answers.missing), len(answers.left), len(answers.missing_servers)]
    return [sorted(answers.answers), *unheard]


@io.event
async def numbers(socket: waypost.Socket) -> list[Any]:
    """The connections of all workers, those of each, and how many clients read too slowly."""
    state = io.state()
    return [state.connections, sorted(one.connections for one in state.servers.values()), state.sockets["/"]]


@io.event
async def forwarded(socket: waypost.Socket) -> int:
    """How many connections this server has forwarded to others."""
    return io.state().counters.forwarded


@io.event
async def work(socket: waypost.Socket) -> int:
    await socket.consume("jobs", order="none")
    return os.getpid()


@io.event
async def put(socket: waypost.Socket, job: Any) -> None:
    await io.queue("jobs").emit("job", job)


@io.event
async def slow(socket: waypost.Socket, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


@io.event
async def hang(socket: waypost.Socket, seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251  # the loop is stuck, on purpose
