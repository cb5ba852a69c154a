"""An application's own connection: recognised without importing what is not there, and used within its transaction.

What it is, the names of its classes tell. A connection to an SQLite file is used as one of the module ``sqlite3``.
On PostgreSQL one function of Waypost's is called with it; the application's driver and its transaction stay as they
are.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from typing import Any, Final, NamedTuple, NoReturn, Protocol, TypeAlias

from waypost.errors import ConfigurationError, QueueFull, StorageError, WaypostError

__all__ = [
    "Argument",
    "AsyncHandle",
    "Handle",
    "HasAsyncExecute",
    "HasCursor",
    "HasExecute",
    "HasFetchval",
    "PostgresHandle",
    "SyncHandle",
    "error_of",
    "recognise",
]

_EXPECTED: Final = (
    "a connection of sqlite3, asyncpg, psycopg, SQLAlchemy (Connection, Session and the asynchronous ones) or Django,"
    " to the database that the server's option `store` names"
)
_STORE: Final = "of a connection"
_FULL, _INVALID = "WP004", "22023"
_REMEDIES: Final = {
    "3F000": 'there is no schema "waypost" in this database; make it: waypost db migrate',
    "42883": "its schema is another version's; bring it to this one: waypost db migrate",
    "42501": "the role may not do this; to let it emit and publish, run as the schema's owner: waypost db migrate "
    "--grant ROLE; rooms and disconnects need the owner's role",
}


class HasExecute(Protocol):
    """A connection whose method returns at once: of psycopg, SQLAlchemy."""

    def execute(self, statement: Any, /) -> Any:
        """Run a statement."""
        ...


class HasCursor(Protocol):
    """A connection of Django, or of another driver with cursors."""

    def cursor(self) -> Any:
        """Return a cursor."""
        ...


class HasAsyncExecute(Protocol):
    """A connection whose method is awaited: of psycopg, SQLAlchemy."""

    async def execute(self, statement: Any, /) -> Any:
        """Run a statement."""
        ...


class HasFetchval(Protocol):
    """A connection of asyncpg, also one that a pool has lent."""

    async def fetchval(self, query: str, /, *args: Any) -> Any:
        """Run a query, and return the first value of its first row."""
        ...


SyncHandle: TypeAlias = sqlite3.Connection | HasExecute | HasCursor
"""A connection, or a session, that blocks."""

AsyncHandle: TypeAlias = HasAsyncExecute | HasFetchval
"""A connection, or a session, that is awaited."""


class Argument(NamedTuple):
    """One argument of a call.

    Attributes:
        type: Its SQL type.
        value: Its value.
    """

    type: str
    value: object


class PostgresHandle:
    """Calls functions of Waypost's on an application's connection to PostgreSQL.

    Args:
        run: Runs a statement; the result is awaited if the connection is asynchronous.
        write: Writes a statement for a function's name and its arguments, in the driver's form.
        is_async: Whether results are awaited.

    Attributes:
        is_async: Whether results are awaited.
    """

    __slots__ = ("_run", "_write", "is_async")

    def __init__(
        self, run: Callable[..., Any], write: Callable[[str, Sequence[Argument]], tuple[Any, ...]], *, is_async: bool
    ) -> None:
        self._run = run
        self._write = write
        self.is_async = is_async

    def call(self, function: str, arguments: Sequence[Argument]) -> Awaitable[None] | None:
        """Call a function in the connection's transaction.

        Args:
            function: Its name.
            arguments: Its arguments, in their order.

        Returns:
            An awaitable for an asynchronous connection; ``None``, when it is done, for others.

        Raises:
            QueueFull: The queue has reached its limits, and refuses messages.
            ConfigurationError: The database refuses an argument.
            StorageError: The database can't do it.
        """
        statement = self._write(function, arguments)
        if self.is_async:
            return self._await(statement)
        try:
            self._run(*statement)
        except Exception as error:  # noqa: BLE001 - of a driver that is not imported here; those without a code pass
            _raise(error)
        return None

    async def _await(self, statement: tuple[Any, ...]) -> None:
        try:
            await self._run(*statement)
        except Exception as error:  # noqa: BLE001 - as above
            _raise(error)


Handle: TypeAlias = sqlite3.Connection | PostgresHandle
"""What a connection was recognised as."""


def recognise(connection: object) -> Handle:
    """Recognise an application's connection.

    Raises:
        ConfigurationError: It is none, or to another kind of database.
    """
    if isinstance(connection, sqlite3.Connection):
        return connection
    names = {f"{one.__module__.partition('.')[0]}.{one.__name__}" for one in type(connection).__mro__}
    for name, make in _KINDS.items():
        if name in names:
            found = make(connection)
            if found is not None:
                return found
    raise ConfigurationError("connection", f"{type(connection).__module__}.{type(connection).__name__}", _EXPECTED)


# -- each kind ------------------------------------------------------------------------------------------------------


def _asyncpg(connection: Any) -> Handle:
    return PostgresHandle(connection.fetchval, _with_numbers, is_async=True)


def _psycopg(connection: Any) -> Handle:
    return PostgresHandle(connection.execute, _with_marks, is_async=False)


def _psycopg_async(connection: Any) -> Handle:
    return PostgresHandle(connection.execute, _with_marks, is_async=True)


def _with_cursor(connection: Any) -> Handle:
    def run(*statement: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(*statement)

    return PostgresHandle(run, _with_marks, is_async=False)


def _django(connection: Any) -> Handle | None:
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        return recognise(connection.connection)
    return _with_cursor(connection) if connection.vendor == "postgresql" else None


def _sqlalchemy(connection: Any) -> Handle | None:
    if connection.dialect.name == "sqlite":
        return recognise(connection.connection.driver_connection)
    if connection.dialect.name != "postgresql":
        return None
    return PostgresHandle(connection.execute, _with_names, is_async=False)


def _sqlalchemy_session(session: Any) -> Handle | None:
    return _sqlalchemy(session.connection())


def _sqlalchemy_async(connection: Any) -> Handle | None:
    # Sessions know their engine, which may be one for each table; all that are used with Waypost are PostgreSQL's.
    dialect = getattr(connection, "dialect", None) or connection.get_bind().dialect
    return PostgresHandle(connection.execute, _with_names, is_async=True) if dialect.name == "postgresql" else None


_KINDS: Final[dict[str, Callable[[Any], Handle | None]]] = {
    "asyncpg.Connection": _asyncpg,
    "asyncpg.PoolConnectionProxy": _asyncpg,
    "psycopg.Connection": _psycopg,
    "psycopg.AsyncConnection": _psycopg_async,
    "psycopg2.connection": _with_cursor,
    "django.BaseDatabaseWrapper": _django,
    "django.ConnectionProxy": _django,
    "sqlalchemy.Connection": _sqlalchemy,
    "sqlalchemy.Session": _sqlalchemy_session,
    "sqlalchemy.scoped_session": _sqlalchemy_session,
    "sqlalchemy.AsyncConnection": _sqlalchemy_async,
    "sqlalchemy.AsyncSession": _sqlalchemy_async,
    "sqlalchemy.async_scoped_session": _sqlalchemy_async,
}


# -- statements, as drivers want them -----------------------------------------------------------------------------


def _with_numbers(function: str, arguments: Sequence[Argument]) -> tuple[Any, ...]:
    marks = ", ".join(f"${number}::{one.type}" for number, one in enumerate(arguments, 1))
    return (f"SELECT waypost.{function}({marks})", *(one.value for one in arguments))


def _with_marks(function: str, arguments: Sequence[Argument]) -> tuple[Any, ...]:
    marks = ", ".join(f"%s::{one.type}" for one in arguments)
    return f"SELECT waypost.{function}({marks})", tuple(one.value for one in arguments)


def _with_names(function: str, arguments: Sequence[Argument]) -> tuple[Any, ...]:
    marks = ", ".join(f"CAST(:a{number} AS {one.type})" for number, one in enumerate(arguments))
    text = import_module("sqlalchemy").text
    return text(f"SELECT waypost.{function}({marks})"), {
        f"a{number}": one.value for number, one in enumerate(arguments)
    }


# -- errors ---------------------------------------------------------------------------------------------------------


def error_of(store: str, sqlstate: str, message: str, detail: str) -> WaypostError:
    """Return our error for a refusal of PostgreSQL's.

    Args:
        store: The store, as errors name it.
        sqlstate: The code.
        message: The server's words; of Waypost's own functions what was expected, and what came.
        detail: What the server adds; of Waypost's own functions the data of the error.
    """
    message = message.partition("\n")[0]
    if sqlstate == _FULL:
        return QueueFull(store, *json.loads(detail))
    if sqlstate == _INVALID and ": expected " in message and ", came " in message:
        option, _, rest = message.partition(": expected ")
        expected, _, came = rest.rpartition(", came ")
        return ConfigurationError(option, came, expected)
    remedy = _REMEDIES.get(sqlstate)
    return StorageError(store, f"PostgreSQL: {message} ({sqlstate})" + (f"; {remedy}" if remedy else ""))


def _raise(error: Exception) -> NoReturn:
    """Raise our error for one of a driver; one that no database has raised as it is."""
    found = _of_the_driver(error)
    if found is None:
        raise error
    raise error_of(_STORE, found[0], str(getattr(error, "orig", error)), found[1]) from error


def _of_the_driver(error: BaseException | None) -> tuple[str, str] | None:
    """Return the SQLSTATE of an error, and its detail; frameworks wrap the driver's, some of them twice."""
    while error is not None:
        for one in (error, getattr(error, "orig", None)):
            sqlstate = getattr(one, "sqlstate", None) or getattr(one, "pgcode", None)
            if isinstance(sqlstate, str):
                inner = getattr(one, "__cause__", None)
                found = (
                    getattr(one, "detail", None),
                    getattr(getattr(one, "diag", None), "message_detail", None),
                    getattr(inner, "detail", None),
                )
                return sqlstate, next((str(detail) for detail in found if detail), "")
        error = error.__cause__
    return None
