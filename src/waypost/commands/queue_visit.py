"""Opens a store's file for one command of ``waypost queue``, and closes it afterwards."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

from waypost.errors import StorageError
from waypost.storage.choose import make_visitor
from waypost.storage.queue_records import QueueRow
from waypost.storage.visiting import Visitor

__all__ = ["existing", "run"]

_BROKEN_PIPE = 141

Command = Callable[[Visitor, argparse.Namespace], Awaitable[int]]


def run(command: Command, options: argparse.Namespace) -> int:
    """Run a command on the store that the options name.

    Args:
        command: The command; it gets the open store and the options.
        options: The parsed command line, with ``store``.

    Returns:
        The exit code: the command's, or 141 if the reader closed the pipe.

    Raises:
        ConfigurationError: The store does not exist, or is of a kind that other processes can't open.
        StorageError: The store could not be read or written.
    """
    try:
        code = asyncio.run(_visit(command, options))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, closed the pipe. The rest of the output goes to /dev/null.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    return code


async def existing(visitor: Visitor, options: argparse.Namespace) -> QueueRow:
    """Return the state of the queue that the options name.

    Raises:
        StorageError: The store has no such queue.
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
