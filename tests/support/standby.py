"""A PostgreSQL server of a test's own with a synchronous standby, which the test freezes, or promotes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.postgres import PostgresServer
from tests.support.server_process import free_port

__all__ = ["Pair", "synchronous_pair"]

_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name LIKE %s"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two servers: what the first one confirms, the second one has.

    Attributes:
        primary: The server that takes writes.
        standby: The server that follows it.
        database: An empty database.
    """

    primary: PostgresServer
    standby: PostgresServer
    database: str

    def waiting(self, name: str) -> int:
        """Return how many connections with such a name (a LIKE pattern) wait for the standby."""
        ((number,),) = self.primary.execute(_WAITING, name)
        return int(number)

    def end_waits(self, function: str, name: str) -> None:
        """Call ``pg_cancel_backend`` or ``pg_terminate_backend`` for those connections."""
        query = _WAITING.replace("count(*)", f"{function}(pid)")
        assert self.primary.execute(query, name), "nobody waits for the standby"

    def promote(self) -> None:
        """Kill the primary, and make the standby, frozen or not, the new one."""
        self.primary.kill()
        self.standby.thaw()
        self.standby.execute("SELECT pg_promote()")


@contextmanager
def synchronous_pair() -> Iterator[Pair]:
    """Start a server and its synchronous standby. No program is needed that not every PostgreSQL brings."""
    primary = PostgresServer.make({"synchronous_standby_names": "*", "autovacuum": "off"})
    source = f"host=127.0.0.1 port={primary.port} user=postgres application_name=standby"
    folder = Path(tempfile.mkdtemp(prefix="waypost-pg-", dir="/tmp"))
    alone = {"primary_conninfo": source, "synchronous_standby_names": ""}
    standby = PostgresServer(folder, free_port(), {**primary.configuration, **alone})
    try:
        # A copy of a server that does not run is one that it can be followed from.
        shutil.copytree(primary.data, standby.data)
        (standby.data / "standby.signal").touch()
        for path in (folder, standby.data, *standby.data.rglob("*")):
            standby.own(path)
        primary.start()
        standby.start()
        yield Pair(primary, standby, primary.create_database())
    finally:
        for server in (primary, standby):
            server.thaw()
            server.remove()
