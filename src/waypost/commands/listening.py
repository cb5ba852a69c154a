"""``waypost listen``: prints events until the connection ends for good, or the reader of the pipe has closed it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

from waypost.client import Client, DisconnectDetails
from waypost.commands.printing import event_line
from waypost.errors import ConnectFailed
from waypost.text import printable

__all__ = ["listen"]


async def listen(client: Client, names: Sequence[str], *, consumes: bool, as_json: bool) -> int:
    """Connect and print events to stdout; connects, disconnects and errors go to stderr.

    Args:
        client: A client that is not connected yet.
        names: The names of the events to print; an empty sequence prints all events.
        consumes: Whether to acknowledge each event after it is printed.
        as_json: Whether to print each event as a line of JSON.

    Returns:
        The exit code: 0 if the reader closed the pipe, 1 if the connection ended for good.

    Raises:
        ConnectFailed: The client got no connection, or the server refused it.
    """

    async def say_connected() -> None:
        _say(f"connected to {client.namespace} as {client.id}{', recovered' if client.recovered else ''}")

    async def say_disconnected(reason: str, details: DisconnectDetails) -> None:
        _say(f"disconnected: {reason}")

    said = ""

    async def say_failed(error: ConnectFailed) -> None:
        nonlocal said
        if said != (said := str(error)):  # attempts may fail for the same reason for hours: print it once
            _say(said)

    client.on("connect", say_connected)
    client.on("disconnect", say_disconnected)
    client.on("connect_error", say_failed)
    printing = asyncio.create_task(_print(client, names, consumes=consumes, as_json=as_json))
    await asyncio.sleep(0)  # registers the handlers before the first event can arrive
    try:
        async with client:
            ended = asyncio.create_task(client.wait_closed())
            await asyncio.wait((ended, printing), return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if printing.done():
                printing.result()
    except BrokenPipeError:
        # The reader closed the pipe. Without this, Python's flush at exit would fail and print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        printing.cancel()
    return 1


async def _print(client: Client, names: Sequence[str], *, consumes: bool, as_json: bool) -> None:
    def show(name: str, arguments: Sequence[Any]) -> None:
        print(event_line(name, arguments, as_json=as_json), flush=True)

    if consumes:
        async for event in client.events(*names):
            show(event.name, event.args)
        return
    failed = asyncio.get_running_loop().create_future()

    @client.on_any
    async def look(name: str, *arguments: Any) -> None:
        if not failed.done() and (not names or name in names):
            try:
                show(name, arguments)
            except BrokenPipeError as error:
                failed.set_exception(error)

    await failed


def _say(text: str) -> None:
    print(f"waypost: {printable(text)}", file=sys.stderr, flush=True)
