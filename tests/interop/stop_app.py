"""An application whose functions still run when it is stopped; see test_stops.py."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import waypost
from tests.support.server_process import OPTIONS_VARIABLE

io = waypost.Server(**json.loads(os.environ[OPTIONS_VARIABLE]))


def note(path: str, text: str) -> None:
    """Append a line to a file that outlives the process."""
    with Path(path).open("a") as file:
        file.write(text + "\n")


@io.consumer("threads", concurrency=4)
def in_thread(message: waypost.Message, journal: str, seconds: float) -> None:
    note(journal, f"begun {message.id} attempt {message.attempt}")
    time.sleep(seconds)
    note(journal, f"done {message.id} attempt {message.attempt}")


@io.consumer("tasks")
async def in_task(message: waypost.Message, journal: str, seconds: float) -> None:
    note(journal, f"begun {message.id} attempt {message.attempt}")
    await asyncio.sleep(seconds)
    note(journal, f"done {message.id} attempt {message.attempt}")


@io.consumer("threads of the loop")
async def in_thread_of_the_loop(message: waypost.Message, journal: str, seconds: float) -> None:
    note(journal, f"begun {message.id} attempt {message.attempt}")
    await asyncio.to_thread(time.sleep, seconds)


@io.event
async def put(socket: waypost.Socket, queue: str, message: str, journal: str, seconds: float) -> None:
    await io.queue(queue).emit("work", journal, seconds, id=message)


@io.event
async def consume(socket: waypost.Socket, queue: str) -> None:
    await socket.consume(queue)


@io.event
async def echo(socket: waypost.Socket, value: int) -> int:
    return value


@io.event
def slow_event(socket: waypost.Socket, journal: str, seconds: float) -> str:
    note(journal, "begun event")
    time.sleep(seconds)
    note(journal, "done event")
    return "done"


@io.event
async def look(socket: waypost.Socket, queue: str) -> int:
    return (await io.queue(queue).get_consumer().info()).waiting
