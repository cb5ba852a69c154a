"""Emitting in a transaction of the application's own."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Collection, Sequence
from typing import Any, overload

from waypost.checking.arguments import NAMESPACE, check
from waypost.checking.names import Name, Names, as_name, as_names
from waypost.protocol.codec import EncodedEvent, check_json_default, codec_for
from waypost.protocol.records import read_json
from waypost.protocol.rich_json import JsonDefault
from waypost.server.basics.environment import new_id
from waypost.server.basics.targets import Target, write_record
from waypost.server.queues.publishing import returning, without_nul
from waypost.storage.foreign import Argument, AsyncHandle, SyncHandle, recognise
from waypost.storage.outside import EMIT_WINDOW_S, OutsideWrite
from waypost.storage.postgres.queues.texts import to_store
from waypost.storage.sqlite import outbox

__all__ = ["emit", "emit_arguments"]


@overload
def emit(
    connection: AsyncHandle,
    event: str,
    *args: Any,
    to: Names | None = None,
    except_: Names = (),
    namespace: str = "/",
    id: Name | None = None,
    json_default: JsonDefault | None = None,
) -> Awaitable[str]: ...


@overload
def emit(
    connection: SyncHandle,
    event: str,
    *args: Any,
    to: Names | None = None,
    except_: Names = (),
    namespace: str = "/",
    id: Name | None = None,
    json_default: JsonDefault | None = None,
) -> str: ...


def emit(
    connection: SyncHandle | AsyncHandle,
    event: str,
    *args: Any,
    to: Names | None = None,
    except_: Names = (),
    namespace: str = "/",
    id: Name | None = None,
    json_default: JsonDefault | None = None,
) -> str | Awaitable[str]:
    """Emit an event to clients in a transaction of the application's own: they get it if that commits.

    Args:
        connection: The application's connection to the database that the server's option ``store`` names: of sqlite3,
            asyncpg, psycopg, SQLAlchemy (also a session) or Django. A server must have made an SQLite file before,
            and ``waypost db migrate`` the schema on PostgreSQL.
        event: The event's name; none of Socket.IO's reserved names.
        args: The event's arguments: values that JSON can carry, and ``bytes`` anywhere in them.
        to: The members of a room, or of any of several; ``None`` for all clients.
        except_: Members of these rooms are left out.
        namespace: The namespace's name.
        id: An id of what the event is about. The namespace takes an id once within ten minutes.
        json_default: As the server's option of that name, for arguments of other types.

    Returns:
        The event's id, a random one without ``id``; for an asynchronous connection an awaitable of it.

    Raises:
        EncodingFailed: An argument can't be encoded, or the name is reserved.
        ConfigurationError: An argument has an impossible value.
        StorageError: The database is no store, or can't take it. The driver's error is its ``__cause__``.

    Delivery: as for an emit of the server's, once the transaction is committed and from the moment that a server
    runs. In an SQLite file the order is that of the commits, on PostgreSQL that of the calls. A later emit of a
    server's may be seen first.
    """
    check("namespace", namespace, NAMESPACE)
    check_json_default(json_default, "json")
    write_id = None if id is None else as_name("id", id)
    rooms = None if to is None else frozenset(as_names("to", (to,)))
    target = Target(rooms, frozenset(as_names("except_", (except_,))))
    encoded = codec_for("json", json_default=json_default).encode_event(namespace, event, args)
    handle = recognise(connection)
    if isinstance(handle, sqlite3.Connection):
        wanted = OutsideWrite("emit", namespace, content=write_record(target, encoded))
        outbox.write(handle, wanted, write_id=write_id or "", deduplicate_s=EMIT_WINDOW_S if write_id else 0.0)
        return write_id or new_id()
    arguments = emit_arguments(namespace, target, encoded, write_id, EMIT_WINDOW_S)
    return returning(handle.call("emit_1", arguments), write_id or new_id())


def emit_arguments(
    namespace: str, target: Target, event: EncodedEvent, write_id: str | None, window_s: float
) -> Sequence[Argument]:
    """Return the arguments of the SQL function ``emit_1``, which emits an event.

    Args:
        namespace: The namespace.
        target: The recipients.
        event: The event; encoded by the codec of JSON.
        write_id: Its id; ``None`` for none.
        window_s: The time within which a second event of that id is a repeat, in seconds.
    """
    json_text, attachments = read_json(event.to_record())
    return (
        Argument("text", without_nul("namespace", namespace)),
        Argument("text[]", None if target.rooms is None else _names("to", target.rooms)),
        Argument("text[]", _names("except_", target.except_)),
        Argument("text", json_text.decode()),
        Argument("bytea[]", [*attachments]),
        Argument("text", None if write_id is None else to_store(write_id)),
        Argument("float8", window_s),
        Argument("boolean", False),
    )


def _names(option: str, names: Collection[str]) -> list[str]:
    return [without_nul(option, name) for name in sorted(names)]
