"""Publishing in a transaction of the application's own, beside a server or without one."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, overload

from waypost.checking.arguments import check
from waypost.checking.names import Name, as_name
from waypost.checking.rules import rule_of
from waypost.errors import ConfigurationError
from waypost.protocol.codec import check_json_default, codec_for
from waypost.protocol.records import read_json
from waypost.protocol.rich_json import JsonDefault
from waypost.server.basics.environment import new_id
from waypost.server.queues.message import NewMessage, to_row
from waypost.server.queues.options import QueueOptions, decode_settings, limits_of, with_settings
from waypost.storage.foreign import Argument, AsyncHandle, SyncHandle, recognise
from waypost.storage.postgres.queues.texts import to_store
from waypost.storage.queue_records import NewMessageRow
from waypost.storage.sqlite import outbox

__all__ = ["publish", "publish_arguments", "publish_row", "returning", "without_nul"]

_OPTIONS = rule_of(QueueOptions | None)


@overload
def publish(
    connection: AsyncHandle,
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
) -> Awaitable[str]: ...


@overload
def publish(
    connection: SyncHandle,
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
) -> str: ...


def publish(
    connection: SyncHandle | AsyncHandle,
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
) -> str | Awaitable[str]:
    """Put a message into a queue in a transaction of the application's own, from a program without a server.

    `Queue.emit` describes the arguments.

    Args:
        connection: The application's connection to the database that the server's option ``store`` names: of sqlite3,
            asyncpg, psycopg, SQLAlchemy (also a session) or Django. A server must have made an SQLite file before,
            and ``waypost db migrate`` the schema on PostgreSQL.
        queue: The queue's name.
        event: The name of the event that consumers receive.
        args: The event's arguments.
        id: The message's id. The queue accepts an id once within its ``deduplication_s``.
        key: The ordering key.
        ttl_s: The time to live, in seconds above 0; ``None`` for no limit.
        delay_s: Seconds until the message is due, from 0: from this call in an SQLite file, from when the message is
            moved on PostgreSQL.
        headers: What receivers get beside the arguments, text to text.
        json_default: As the server's option of that name, for arguments of other types.
        options: The server's option ``queues``, if the server sets it. Options of a single queue are in the store.

    Returns:
        The message's id; for an asynchronous connection an awaitable of it.

    Raises:
        QueueFull: The message does not fit into the queue's limits, and the queue refuses what does not fit.
        EncodingFailed: An argument can't be encoded.
        ConfigurationError: An argument has an impossible value.
        StorageError: The database is no store, or can't take it. The driver's error is its ``__cause__``.

    Delivery: at least once, once the transaction is committed and from the moment that a server runs. In an SQLite
    file the order is that of the commits, on PostgreSQL that of the calls.
    """
    queue = as_name("queue", queue)
    check_json_default(json_default, "json")
    message = NewMessage(event, *args, id=id, key=key, ttl_s=ttl_s, delay_s=delay_s, headers=headers)
    stored = to_row(message, codec_for("json", json_default=json_default), new_id)
    check("options", options, _OPTIONS)
    handle = recognise(connection)
    if isinstance(handle, sqlite3.Connection):
        publish_row(handle, queue, stored, options or QueueOptions(), has_own_id=id is not None)
        return stored.id
    arguments = publish_arguments(queue, stored, options, has_own_id=id is not None)
    return returning(handle.call("publish_1", arguments), stored.id)


def publish_row(
    connection: sqlite3.Connection, queue: str, message: NewMessageRow, options: QueueOptions, *, has_own_id: bool
) -> None:
    """Put a message into a queue with the current transaction of a connection to a store's file, or with a new one.

    Args:
        connection: The connection.
        queue: The queue's name.
        message: The message.
        options: The options of a queue without its own.
        has_own_id: Whether the application chose its id.

    Raises:
        QueueFull: The message does not fit into the queue's limits.
        StorageError: The file can't be written.
    """
    with outbox.publishing(connection):
        settings = decode_settings(outbox.configuration_at(connection, queue).settings)
        window_s = with_settings(options, **settings).deduplication_s if has_own_id else 0.0
        outbox.publish(connection, queue, message, deduplicate_s=window_s, limits=limits_of(options))


def publish_arguments(
    queue: str, message: NewMessageRow, options: QueueOptions | None, *, has_own_id: bool
) -> Sequence[Argument]:
    """Return the arguments of the SQL function ``publish_1``, which puts a message into a queue.

    Args:
        queue: The queue's name.
        message: The message; written by the codec of JSON.
        options: The options of a queue without its own; ``None`` for those that it has by default.
        has_own_id: Whether the application chose its id.
    """
    json_text, attachments = read_json(message.record)
    return (
        Argument("text", without_nul("queue", queue)),
        Argument("text", json_text.decode()),
        Argument("bytea[]", [*attachments]),
        Argument("text", to_store(message.id)),
        Argument("float8", (options and options.deduplication_s) if has_own_id else 0.0),
        Argument("text", None if message.key is None else to_store(message.key)),
        Argument("float8", message.delay_s),
        Argument("float8", message.ttl_s),
        Argument("text", message.headers),
        Argument("jsonb", json.dumps(asdict(limits_of(options)) if options else {})),
        Argument("boolean", False),
    )


def without_nul(option: str, text: str) -> str:
    """Return a text that PostgreSQL can carry.

    Raises:
        ConfigurationError: It has a NUL character.
    """
    if "\0" in text:
        raise ConfigurationError(option, text, "text without NUL characters, which PostgreSQL has none of")
    return text


def returning(done: Awaitable[None] | None, value: str) -> str | Awaitable[str]:
    """Return a value, or an awaitable of it if something has to be awaited first."""
    return value if done is None else _after(done, value)


async def _after(done: Awaitable[None], value: str) -> str:
    await done
    return value
