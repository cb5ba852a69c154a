"""A database with Waypost's schema and one node, whose outbox a test moves by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.support.postgres import PostgresServer
from waypost.storage.postgres import driver, schema

__all__ = ["Database", "database", "migrated"]

_NAMESPACES = ("/", "/admin")


@dataclass
class Database:
    """The database.

    Attributes:
        url: Its address, as its owner.
        server: The server.
        name: Its name.
        node: The number and incarnation of a node.
    """

    url: str
    server: PostgresServer
    name: str
    node: tuple[int, int]

    def query(self, query: str, *arguments: object) -> list[Any]:
        """Run a statement; returns its rows."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(query, arguments or None)
            return cursor.fetchall() if cursor.description else []

    def move(self, rows: int = 500) -> dict[str, Any]:
        """Move the outbox once; returns what was moved where."""
        ((moved,),) = self.query("SELECT waypost.move_outbox_1(%s, %s, %s)", *self.node, rows)
        return moved or {}

    def records(self, namespace: str = "/") -> list[bytes]:
        """Move all, and return the records of a namespace's journal."""
        while self.move().get("moved"):
            pass
        return [
            record
            for (record,) in self.query(
                "SELECT record FROM waypost.log JOIN waypost.journal j ON j.id = journal "
                "WHERE name = %s AND kind = 0 ORDER BY tick",
                namespace,
            )
        ]

    def messages(self, queue: str) -> list[tuple[Any, ...]]:
        """Move all, and return the id, key, headers and record of each message of a queue."""
        while self.move().get("moved"):
            pass
        return self.query(
            "SELECT m.id, key, headers, record FROM waypost.message m JOIN waypost.queue q ON q.id = queue "
            "WHERE name = %s ORDER BY position",
            queue,
        )


def migrated(url: str) -> None:
    """Make the schema in a database."""

    async def migrate() -> None:
        connection = await driver.connect(url, "test")
        try:
            await schema.migrate(connection)
        finally:
            await connection.close()

    asyncio.run(migrate())


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[Database]:
    """A database with the schema, and journals that a node has opened."""
    name = postgres.create_database(postgres.template("waypost_outside", migrated))
    made = Database(postgres.url(name), postgres, name, (0, 0))
    ((node, incarnation, _),) = made.query("SELECT * FROM waypost.enter_1('n', 'a:1', '0', '{}', 10)")
    made.node = node, incarnation
    for namespace in _NAMESPACES:
        made.query("SELECT waypost.open_journal_1(%s, 'gen', %s, %s)", namespace, *made.node)
    yield made
    postgres.drop_database(name)
