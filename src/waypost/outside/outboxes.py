"""Chooses the outbox for the text that names a store."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from waypost.errors import ConfigurationError
from waypost.outside.file_outbox import FileOutbox
from waypost.outside.outbox import Outbox
from waypost.server.queues.options import QueueOptions
from waypost.storage.choose import file_of_store

__all__ = ["make_outbox"]


def make_outbox(store: str | PathLike[str], queues: QueueOptions) -> Outbox:
    """Return the outbox of a store; nothing is opened yet.

    Args:
        store: The text that names the store, as the server's option ``store``.
        queues: The options of queues without their own.

    Raises:
        ConfigurationError: The text names no store, or one that other processes can't reach.
    """
    path = file_of_store(store)
    if path is None:
        raise ConfigurationError(
            "store", store, "a file: what is in memory is reached only by the process that has it"
        )
    return FileOutbox(Path(path), queues)
