"""Emitting and publishing with an application's own connection, in its transaction: each library that is known."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as sqlalchemy_async

import waypost
from tests.outside.schema import Database
from tests.outside.test_sql import events
from tests.support.waiting import until
from waypost.protocol.records import read_values
from waypost.storage.postgres.queues.texts import from_store
from waypost.testing import serve


class Failed(Exception):
    """Raised to let a transaction fail."""


@contextmanager
def in_psycopg(url: str) -> Iterator[Any]:
    with psycopg.connect(url) as connection:
        yield connection


@contextmanager
def in_psycopg_with_rows_of_its_own(url: str) -> Iterator[Any]:
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as connection:
        yield connection


def _engine(url: str) -> Any:
    return sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))


@contextmanager
def in_sqlalchemy(url: str) -> Iterator[Any]:
    engine = _engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def in_a_session(url: str) -> Iterator[Any]:
    engine = _engine(url)
    try:
        with orm.Session(engine) as session, session.begin():
            yield session
    finally:
        engine.dispose()


@contextmanager
def in_a_scoped_session(url: str) -> Iterator[Any]:
    engine = _engine(url)
    try:
        session = orm.scoped_session(orm.sessionmaker(engine))
        with session.begin():
            yield session
        session.remove()
    finally:
        engine.dispose()


def _django(settings: dict[str, Any]) -> Any:
    django, configured = import_module("django"), import_module("django.conf").settings
    if not configured.configured:
        configured.configure()
    django.setup()
    return import_module("django.db.utils").ConnectionHandler({"default": settings})


@contextmanager
def in_django(url: str) -> Iterator[Any]:
    place = psycopg.conninfo.conninfo_to_dict(url)
    names = {"NAME": "dbname", "USER": "user", "HOST": "host", "PORT": "port"}
    settings = {name: place[key] for name, key in names.items()}
    handler = _django({"ENGINE": "django.db.backends.postgresql", **settings})
    connection = handler["default"]
    try:
        with _atomic(connection):
            yield connection
    finally:
        connection.close()


@contextmanager
def _atomic(connection: Any) -> Iterator[None]:
    connection.set_autocommit(False)
    try:
        yield
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


BLOCKING = [
    in_psycopg,
    in_psycopg_with_rows_of_its_own,
    in_sqlalchemy,
    in_a_session,
    in_a_scoped_session,
    in_django,
]


@pytest.mark.parametrize("transaction", BLOCKING, ids=lambda one: one.__name__)
def test_a_blocking_connection_commits_both_or_neither(database: Database, transaction: Callable[[str], Any]) -> None:
    with transaction(database.url) as connection:
        assert waypost.emit(connection, "paid", 7, b"\x00", None, to=["a", 1], except_="b", id="order 7") == "order 7"
        made = waypost.publish(connection, "mails", "mail", {"to": "ä\0"}, headers={"t": "7"}, key="k", ttl_s=60)
        assert isinstance(waypost.emit(connection, "all"), str)
    with suppress(Failed), transaction(database.url) as connection:
        waypost.emit(connection, "never")
        waypost.publish(connection, "mails", "never")
        raise Failed
    assert events(database) == [(["1", "a"], ["b"], "paid", 7, b"\x00", None), (None, [], "all")]
    ((*parts, record),) = database.messages("mails")
    assert parts == [made, "k", '{"t":"7"}']
    assert read_values(record) == ["mail", {"to": "ä\0"}]


@asynccontextmanager
async def in_asyncpg(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def in_a_pool_of_asyncpg(url: str) -> AsyncIterator[Any]:
    async with (
        asyncpg.create_pool(url, min_size=1, max_size=1) as pool,
        pool.acquire() as connection,
        connection.transaction(),
    ):
        yield connection


@asynccontextmanager
async def in_psycopg_async(url: str) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield connection


@asynccontextmanager
async def _async_engine(url: str, driver: str) -> AsyncIterator[Any]:
    engine = sqlalchemy_async.create_async_engine(url.replace("postgresql:", f"postgresql+{driver}:"))
    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def in_sqlalchemy_async(url: str) -> AsyncIterator[Any]:
    async with _async_engine(url, "asyncpg") as engine, engine.begin() as connection:
        yield connection


@asynccontextmanager
async def in_sqlalchemy_over_psycopg(url: str) -> AsyncIterator[Any]:
    async with _async_engine(url, "psycopg") as engine, engine.begin() as connection:
        yield connection


@asynccontextmanager
async def in_an_async_session(url: str) -> AsyncIterator[Any]:
    async with (
        _async_engine(url, "asyncpg") as engine,
        sqlalchemy_async.AsyncSession(engine) as session,
        session.begin(),
    ):
        yield session


AWAITED = [
    in_asyncpg,
    in_a_pool_of_asyncpg,
    in_psycopg_async,
    in_sqlalchemy_async,
    in_sqlalchemy_over_psycopg,
    in_an_async_session,
]


@pytest.mark.parametrize("transaction", AWAITED, ids=lambda one: one.__name__)
async def test_an_awaited_connection_commits_both_or_neither(
    database: Database, transaction: Callable[[str], AbstractAsyncContextManager[Any]]
) -> None:
    async with transaction(database.url) as connection:
        emitted: Awaitable[str] = waypost.emit(connection, "paid", 7, b"\x00", to=["a", 1], id="order 7")
        assert await emitted == "order 7"
        published: Awaitable[str] = waypost.publish(connection, "mails", "mail", b"x", headers={"t": "7"}, id=8)
        assert await published == "8"
        assert isinstance(await waypost.emit(connection, "all"), str)
    with suppress(Failed):
        async with transaction(database.url) as connection:
            await waypost.emit(connection, "never")
            raise Failed
    assert events(database) == [(["1", "a"], [], "paid", 7, b"\x00"), (None, [], "all")]
    ((*parts, record),) = database.messages("mails")
    assert parts == ["8", None, '{"t":"7"}']
    assert read_values(record) == ["mail", b"x"]


def _fill(database: Database) -> None:
    database.query("SELECT waypost.publish('full', 'e')")
    database.messages("full")


@pytest.mark.parametrize("transaction", BLOCKING, ids=lambda one: one.__name__)
def test_errors_of_a_blocking_connection_are_ours(database: Database, transaction: Callable[[str], Any]) -> None:
    _fill(database)
    options = waypost.QueueOptions(max_messages=1)
    with pytest.raises(waypost.QueueFull) as raised, transaction(database.url) as connection:
        waypost.publish(connection, "full", "x", options=options)
    assert (raised.value.queue, raised.value.messages, raised.value.max_messages) == ("full", 1, 1)
    with pytest.raises(waypost.ConfigurationError, match="rooms"), transaction(database.url) as connection:
        waypost.emit(connection, "x", to="r" * 2000)
    database.query("DROP SCHEMA waypost CASCADE")
    with pytest.raises(waypost.StorageError, match="waypost db migrate"), transaction(database.url) as connection:
        waypost.emit(connection, "x")


@pytest.mark.parametrize("transaction", AWAITED, ids=lambda one: one.__name__)
async def test_errors_of_an_awaited_connection_are_ours(
    database: Database, transaction: Callable[[str], AbstractAsyncContextManager[Any]]
) -> None:
    _fill(database)
    options = waypost.QueueOptions(max_messages=1)
    with pytest.raises(waypost.QueueFull) as raised:
        async with transaction(database.url) as connection:
            await waypost.publish(connection, "full", "x", options=options)
    assert (raised.value.queue, raised.value.messages, raised.value.max_messages) == ("full", 1, 1)
    database.query("DROP SCHEMA waypost CASCADE")
    with pytest.raises(waypost.StorageError, match="waypost db migrate"):
        async with transaction(database.url) as connection:
            await waypost.emit(connection, "x")


def test_ids_and_keys_may_have_any_character_and_rooms_all_but_one(database: Database) -> None:
    odd = "a\0b\x01c\x02\x03"
    with psycopg.connect(database.url) as connection:
        for _ in range(2):
            assert waypost.publish(connection, "q", "x", id=odd, key=odd) == odd
            assert waypost.emit(connection, "x", id=odd, to="\x01") == odd
        connection.execute("SELECT waypost.publish('q', 'x', id => chr(1), key => chr(1) || chr(2))")
        for named in ({"to": "\0"}, {"except_": ["a", "\0"]}, {"namespace": "/\0"}):
            with pytest.raises(waypost.ConfigurationError, match="NUL"):
                waypost.emit(connection, "x", **named)
        with pytest.raises(waypost.ConfigurationError, match="NUL"):
            waypost.publish(connection, "\0", "x")
    assert events(database) == [(["\x01"], [], "x")]
    kept = [(from_store(one[0]), from_store(one[1])) for one in database.messages("q")]
    assert kept == [(odd, odd), ("\x01", "\x01\x02")]


# -- SQLite ---------------------------------------------------------------------------------------------------------


@contextmanager
def sqlite_itself(path: Path) -> Iterator[Any]:
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


@contextmanager
def sqlite_in_sqlalchemy(path: Path) -> Iterator[Any]:
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def sqlite_in_a_session(path: Path) -> Iterator[Any]:
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    try:
        with orm.Session(engine) as session, session.begin():
            yield session
    finally:
        engine.dispose()


@contextmanager
def sqlite_in_django(path: Path) -> Iterator[Any]:
    connection = _django({"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)})["default"]
    try:
        with _atomic(connection):
            yield connection
    finally:
        connection.close()


@pytest.mark.parametrize(
    "transaction",
    [sqlite_itself, sqlite_in_sqlalchemy, sqlite_in_a_session, sqlite_in_django],
    ids=lambda one: one.__name__,
)
async def test_a_connection_to_a_store_in_a_file_commits_both_or_neither(
    tmp_path: Path, transaction: Callable[[Path], Any]
) -> None:
    path = tmp_path / "store.db"
    async with serve(waypost.Server(store=path, drain_s=0)) as site:
        got: list[Any] = []
        client = site.client()
        client.on_any(lambda event, *args: got.append((event, *args)))
        await client.connect()

        def work() -> None:
            with suppress(Failed), transaction(path) as connection:
                waypost.emit(connection, "never")
                raise Failed
            with transaction(path) as connection:
                assert waypost.emit(connection, "paid", b"\x00", id="7") == "7"
                waypost.emit(connection, "paid", b"\x00", id="7")
                waypost.emit(connection, "elsewhere", to="r", except_="s", namespace="/x")
                waypost.publish(connection, "mails", "mail")
                waypost.emit(connection, "end")

        await asyncio.to_thread(work)
        await until(lambda: bool(got) and got[-1] == ("end",), "the client has the last event")
        assert got == [("paid", b"\x00"), ("end",)]
        assert (await site.io.queue("mails").info()).messages == 1


# -- what is none ---------------------------------------------------------------------------------------------------


class Connection:
    """A class of somebody else with a name that many have."""

    def execute(self, statement: object) -> None:
        raise AssertionError(statement)


@pytest.mark.parametrize("connection", [None, "shop.db", Connection(), object()])
def test_what_is_no_connection_is_refused(connection: Any) -> None:
    with pytest.raises(waypost.ConfigurationError, match="a connection of sqlite3, asyncpg, psycopg"):
        waypost.emit(connection, "x")
    with pytest.raises(waypost.ConfigurationError, match="a connection of sqlite3, asyncpg, psycopg"):
        waypost.publish(connection, "q", "x")


def test_another_kind_of_database_is_refused() -> None:
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(waypost.StorageError, match="no store"):
        waypost.emit(connection, "x")
    engine.dispose()


def test_no_library_is_imported_that_is_not_there() -> None:
    program = (
        "import sqlite3, sys, waypost\n"
        "try:\n    waypost.emit(sqlite3.connect(':memory:'), 'x')\n"
        "except waypost.StorageError: pass\n"
        "print([one for one in ('asyncpg', 'psycopg', 'sqlalchemy', 'django') if one in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
