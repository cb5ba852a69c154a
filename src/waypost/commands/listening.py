"""``waypost listen``: prints events until the connection has ended for good, or nobody reads any more."""

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
    """Connect and print events; what happens to the connection goes to stderr.

    Args:
        client: A client that is not connected yet.
        names: The events to print; none for all.
        consumes: Whether to acknowledge an event once it is printed.
        as_json: Whether to print lines of JSON.

    Returns:
        The exit code: 0 if nobody reads any more, 1 if the connection has ended for good.

    Raises:
        ConnectFailed: There was no connection, or the server refused this client.
    """

    async def say_connected() -> None:
        _say(f"connected to {client.namespace} as {client.sid}{', recovered' if client.recovered else ''}")

    async def say_disconnected(reason: str, details: DisconnectDetails) -> None:
        _say(f"disconnected: {reason}")

    said = ""

    async def say_failed(error: ConnectFailed) -> None:
        nonlocal said
        if said != (said := str(error)):  # each attempt may fail for the same reason, for hours
            _say(said)

    client.on("connect", say_connected)
    client.on("disconnect", say_disconnected)
    client.on("connect_error", say_failed)
    printing = asyncio.create_task(_print(client, names, consumes=consumes, as_json=as_json))
    await asyncio.sleep(0)  # it listens before there is anything to hear
    try:
        async with client:
            ended = asyncio.create_task(client.wait_closed())
            await asyncio.wait((ended, printing), return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if printing.done():
                printing.result()
    except BrokenPipeError:
        # Whoever read has left; Python would complain when it flushes at the end.
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
