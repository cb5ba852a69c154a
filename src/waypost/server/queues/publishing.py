"""Publishing from a program that has no server: in the application's own transaction on the store's file."""

from __future__ import annotations

import sqlite3
from typing import Any

from waypost.checking.arguments import check
from waypost.checking.names import Name, as_name
from waypost.checking.rules import rule_of
from waypost.protocol.codec import codec_for
from waypost.server.basics.environment import new_id
from waypost.server.queues.message import NewMessage, to_row
from waypost.server.queues.options import QueueOptions, decode_settings, limits_of, with_settings
from waypost.storage.sqlite import outbox

__all__ = ["publish"]

_OPTIONS = rule_of(QueueOptions | None)


def publish(
    connection: sqlite3.Connection,
    queue: Name,
    event: str,
    *args: Any,
    id: Name | None = None,
    key: Name | None = None,
    ttl_s: float | None = None,
    delay_s: float | None = None,
    options: QueueOptions | None = None,
) -> str:
    """Put a message into a queue with a transaction of the application's own, from a program without a server.

    See `Queue.publish`, which does the same beside a server, for what is not said here.

    Args:
        connection: The application's connection to the file that the server's option ``store`` names; a server must
            have made the file.
        queue: The queue's name.
        event: The event that its consumers get.
        args: The event's arguments.
        id: The message's id; the same id is accepted once within the queue's ``deduplication_s``.
        key: What it is ordered by.
        ttl_s: For how many seconds it is worth delivering.
        delay_s: In how many seconds from now it is due.
        options: The server's option ``queues``, if it has one; what was configured for one queue is in the file.

    Returns:
        The message's id.

    Raises:
        QueueFull: The queue's limits leave no room for it, and it refuses.
        EncodingFailed: An argument can't be encoded.
        ConfigurationError: An argument can't be what it is.
        StorageError: The connection's file is no store, or somebody else writes to it for longer than it waits.

    Delivery: at least once, as soon as a server runs on the file after the commit; in the order of the commits.
    """
    queue = as_name("queue", queue)
    message = NewMessage(event, *args, id=id, key=key, ttl_s=ttl_s, delay_s=delay_s)
    stored = to_row(message, codec_for("json"), new_id)
    check("options", options, _OPTIONS)
    options = options or QueueOptions()
    with outbox.publishing(connection):
        settings = decode_settings(outbox.configuration_at(connection, queue).settings)
        window_s = 0.0 if id is None else with_settings(options, **settings).deduplication_s
        outbox.publish(connection, queue, stored, deduplicate_s=window_s, limits=limits_of(options))
    return stored.id
