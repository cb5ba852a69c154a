"""Keeps the PostgreSQL server that all tests of a run share; started by `tests.support.postgres.join_shared`.

``python -m tests.support.postgres_keeper FOLDER`` starts a server and writes ``FOLDER/postgres.place``: the server's
folder and port. Each process that uses the server has a shared lock on ``FOLDER/postgres.users``. The kernel frees
the locks of processes that are gone, so the server stops soon after its last user, however that one has ended.
"""

from __future__ import annotations

import fcntl
import sys
import time
from pathlib import Path

from tests.support.postgres import PostgresServer

_EVERY_S = 0.5


def main(place: Path) -> None:
    """Run the server until nobody uses it."""
    server = PostgresServer.make()
    noted = place / "postgres.place"
    try:
        server.start()
        draft = place / "postgres.draft"
        draft.write_text(f"{server.folder}\n{server.port}\n")
        draft.rename(noted)
        with (place / "postgres.users").open("a+b") as users:
            while place.exists() and server.alive():
                time.sleep(_EVERY_S)
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                break
            noted.unlink(missing_ok=True)
    finally:
        server.remove()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
