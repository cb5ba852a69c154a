"""Several stores on one PostgreSQL database, each of which a test can let die."""

from __future__ import annotations

from collections.abc import Callable, Collection

import psycopg

from tests.support.databases import drop_database, make_database, shared_server
from tests.support.line import Line, Way
from waypost.storage.base import Store
from waypost.storage.choose import Clocks, StoreOptions
from waypost.storage.postgres.store import PostgresStore

__all__ = ["PostgresEngine"]

_DECLARE = """
    SELECT waypost.declare_1(id, incarnation, counter, %s) FROM waypost.node JOIN waypost.beat ON node = id
    WHERE name = %s AND state = 'alive'
"""


class PostgresEngine:
    """A database with Waypost's schema; each node reaches it over a line of its own.

    Args:
        now: The clock of the nodes, if the engine goes by it, too.

    Attributes:
        url: The database's address.
    """

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self.url = make_database()
        self._now = now
        self._lines: dict[str, Line] = {}
        self._ttl_s = 0.0

    @property
    def living(self) -> Collection[str]:
        """The names of the nodes that are alive, as the engine has it."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            rows = connection.execute("SELECT name FROM waypost.node WHERE state = 'alive'").fetchall()
        return {name for (name,) in rows}

    async def holds(self) -> int:
        """Return how many notes of messages in hand the database has."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            rows = connection.execute("SELECT count(*) FROM waypost.holding").fetchall()
        return int(rows[0][0])

    def make_store(self, name: str, options: StoreOptions, clocks: Clocks) -> Store:
        """Make a node's store."""
        self._ttl_s = options.orphan_ttl_s
        port = shared_server().port
        line = self._lines[name] = Line("127.0.0.1", port)
        spec = self.url.replace(f":{port}/", f":{line.port}/")
        return PostgresStore(
            spec,
            retention=options.retention,
            queue_limits=options.queue_limits,
            answer_ttl_s=options.answer_ttl_s,
            answer_limits=options.answer_limits,
            tail_bytes=options.tail_bytes,
            orphan_ttl_s=options.orphan_ttl_s,
            patience_s=options.patience_s,
            wall_time=clocks.wall_time,
            steady_time=clocks.steady_time,
            node=name,
        )

    def line(self, name: str) -> Line:
        """Return the line between a node and the database."""
        return self._lines[name]

    def kill(self, name: str) -> None:
        """Let a node die: its line is cut, and it is declared dead at once, as its beats would prove later."""
        self._lines[name].take_down()
        self.declare(name)

    def declare(self, name: str) -> None:
        """Let a node be dead for the others."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            if self._now is not None:
                connection.execute("SELECT set_config('waypost.now', %s, false)", (str(self._now()),))
            while name in self.living:
                # Not while one of its beats is under way.
                connection.execute(_DECLARE, (self._ttl_s, name))

    def freeze(self, name: str) -> None:
        """Let a node see nothing more of the engine; what it sends goes there."""
        self._lines[name].freeze(Way.BACK)

    def thaw(self, name: str) -> None:
        """Let a frozen node go on."""
        self._lines[name].thaw()

    async def close(self) -> None:
        """Remove the database."""
        for line in self._lines.values():
            line.close()
        drop_database(self.url)
