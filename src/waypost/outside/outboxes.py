"""Chooses the outbox for the text that names a store."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from waypost.errors import ConfigurationError
from waypost.outside.file_outbox import FileOutbox
from waypost.outside.outbox import Outbox
from waypost.outside.socket_outbox import SocketOutbox
from waypost.server.queues.options import QueueOptions
from waypost.storage.choose import file_of_store
from waypost.storage.database_address import SCHEMES, parse_address

__all__ = ["make_outbox"]

_UNIX = "unix:"


def make_outbox(store: str | PathLike[str], queues: QueueOptions | None) -> Outbox:
    """Return the outbox of a store; nothing is opened yet.

    Args:
        store: The text that names the store, as the server's option ``store``.
        queues: The options of queues without their own; ``None`` for the default ones.

    Raises:
        ConfigurationError: The text names no store, or one that other processes can't reach.
    """
    if isinstance(store, str) and store.partition(":")[0].lower() in SCHEMES:
        return _on_postgres(store, queues)
    if isinstance(store, str) and store.startswith(_UNIX) and len(store) > len(_UNIX):
        return SocketOutbox(store[len(_UNIX) :], queues or QueueOptions())
    path = file_of_store(store)
    if path is None:
        raise ConfigurationError(
            "store", store, "a file: what is in memory is reached only by the process that has it"
        )
    return FileOutbox(Path(path), queues or QueueOptions())


def _on_postgres(store: str, queues: QueueOptions | None) -> Outbox:
    address = parse_address(store)
    try:
        from waypost.outside.postgres_outbox import PostgresOutbox
    except ImportError as error:
        expected = "asyncpg to be installed for a store on PostgreSQL: pip install waypost[postgres]"
        raise ConfigurationError("store", address.shown, expected) from error
    return PostgresOutbox(address, queues)
