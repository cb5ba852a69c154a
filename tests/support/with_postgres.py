"""Runs a command on a PostgreSQL server of its own, in a temporary folder.

``python -m tests.support.with_postgres STORE COMMAND…``: in the command, ``{store}`` stands for the URL of the
database. STORE is ``postgresql`` for a server of its own, or the URL of another one.
"""

from __future__ import annotations

import subprocess
import sys

from tests.support.postgres import PostgresServer


def main(store: str, command: list[str]) -> int:
    """Run the command; returns its exit code."""
    if store != "postgresql":
        return _run(store, command)
    server = PostgresServer.make()
    try:
        server.start()
        return _run(server.url(), command)
    finally:
        server.remove()


def _run(store: str, command: list[str]) -> int:
    process = subprocess.Popen([part.replace("{store}", store) for part in command])
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # The command was told, too, and ends as it likes.
            continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
