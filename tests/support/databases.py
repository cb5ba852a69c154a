"""Databases with Waypost's schema for tests, on the PostgreSQL server that all tests of a run share.

For stores that are made where no fixture is at hand; a test with fixtures takes `tests.support.postgres`'s.
"""

from __future__ import annotations

import asyncio
import threading
from functools import cache

from tests.support.places import place_of_run
from tests.support.postgres import PostgresServer, join_shared
from waypost.storage.postgres.driver import connect
from waypost.storage.postgres.schema import migrate

__all__ = ["drop_database", "make_database", "shared_server"]

_TEMPLATE = "waypost_schema"


@cache
def shared_server() -> PostgresServer:
    """Return the server that all tests of the run share: never stop, kill or freeze it."""
    server, users = join_shared(place_of_run())
    # The keeper stops the server when nobody has this file open any more.
    server.users = users  # type: ignore[attr-defined]
    return server


def make_database() -> str:
    """Make a database with Waypost's schema; returns its address, over TCP."""
    server = shared_server()
    return server.url(server.create_database(server.template(_TEMPLATE, _prepare)))


def drop_database(url: str) -> None:
    """Remove a database, whoever is still connected."""
    shared_server().drop_database(url.rpartition("/")[2])


def _prepare(url: str) -> None:
    # The caller may be in an event loop of its own.
    thread = threading.Thread(target=lambda: asyncio.run(_migrate(url)))
    thread.start()
    thread.join()


async def _migrate(url: str) -> None:
    connection = await connect(url, "preparing")
    await migrate(connection)
    await connection.close()
