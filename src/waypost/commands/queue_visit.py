"""A visit to a store: opens its file, has one command done there, and leaves."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

from waypost.errors import StorageError
from waypost.storage.choose import make_visitor
from waypost.storage.queue_records import QueueInfo
from waypost.storage.sqlite.visitor import SqliteVisitor

__all__ = ["existing", "run"]

_BROKEN_PIPE = 141

Command = Callable[[SqliteVisitor, argparse.Namespace], Awaitable[int]]


def run(command: Command, options: argparse.Namespace) -> int:
    """Run a command on the store that the options name.

    Returns:
        The exit code.

    Raises:
        ConfigurationError: There is no such store, or it is none that can be visited.
        StorageError: It could not be read or written to.
    """
    try:
        code = asyncio.run(_visit(command, options))
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read it, such as `head`, has seen enough; what is still to be written goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    return code


async def existing(visitor: SqliteVisitor, options: argparse.Namespace) -> QueueInfo:
    """Return the state of the queue that the options name.

    Raises:
        StorageError: There is none.
    """
    info = await visitor.queue(options.queue).info()
    if not info.generation:
        raise StorageError(options.store, f"it has no queue {options.queue}; `waypost queue ls` lists those it has")
    return info


async def _visit(command: Command, options: argparse.Namespace) -> int:
    visitor = make_visitor(options.store)
    await visitor.open()
    try:
        return await command(visitor, options)
    finally:
        await visitor.close()
