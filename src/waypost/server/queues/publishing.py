"""Publishing without a server: in the application's own transaction on the store's file."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from waypost.checking.arguments import check
from waypost.checking.names import Name, as_name
from waypost.checking.rules import rule_of
from waypost.protocol.codec import check_json_default, codec_for
from waypost.protocol.rich_json import JsonDefault
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
    headers: Mapping[str, str] | None = None,
    options: QueueOptions | None = None,
    json_default: JsonDefault | None = None,
) -> str:
    """Put a message into a queue in a transaction of the application's own, from a program without a server.

    `Queue.publish` does the same beside a server, and describes the arguments.

    Args:
        connection: The application's connection to the file that the server's option ``store`` names. A server must
            have made the file before.
        queue: The queue's name.
        event: The name of the event that consumers receive.
        args: The event's arguments.
        id: The message's id. The queue accepts an id once within its ``deduplication_s``.
        key: The ordering key.
        ttl_s: The time to live, in seconds above 0; ``None`` for no limit.
        delay_s: Seconds from this call until the message is due, from 0.
        headers: What receivers get beside the arguments, text to text.
        json_default: As the server's option of that name, for arguments of other types.
        options: The server's option ``queues``, if the server sets it. Options of a single queue are in the file.

    Returns:
        The message's id.

    Raises:
        QueueFull: The message does not fit into the queue's limits, and the queue refuses what does not fit.
        EncodingFailed: An argument can't be encoded.
        ConfigurationError: An argument has an impossible value.
        StorageError: The connection's file is not a store, or stays locked for longer than the connection waits.

    Delivery: at least once, in the order of the commits, from the moment that a server runs on the file.
    """
    queue = as_name("queue", queue)
    check_json_default(json_default, "json")
    message = NewMessage(event, *args, id=id, key=key, ttl_s=ttl_s, delay_s=delay_s, headers=headers)
    stored = to_row(message, codec_for("json", json_default=json_default), new_id)
    check("options", options, _OPTIONS)
    options = options or QueueOptions()
    with outbox.publishing(connection):
        settings = decode_settings(outbox.configuration_at(connection, queue).settings)
        window_s = 0.0 if id is None else with_settings(options, **settings).deduplication_s
        outbox.publish(connection, queue, stored, deduplicate_s=window_s, limits=limits_of(options))
    return stored.id
