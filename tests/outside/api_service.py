"""A service of two workers with the HTTP API mounted, in processes of its own."""

from __future__ import annotations

from pathlib import Path

from tests.operations.places import SECRET
from tests.support.server_process import ServerProcess
from waypost.operations.http.api_keys import digest_of

__all__ = ["with_api"]

_KEY = (
    'programs = {{sha256 = "{}", scopes = ["emit", "queues:write", "queues:read"], rooms = ["order *"], '
    'queues = ["mails"]}}\n'
)


def with_api(folder: Path, store: str) -> ServerProcess:
    """Return the service of tests/outside/api_app.py, whose key is `SECRET`.

    Args:
        folder: Where its log and its file of keys are.
        store: Its store.
    """
    keys = folder / "keys.toml"
    keys.write_text(_KEY.format(digest_of(SECRET)))
    command = ("-m", "waypost", "serve", "tests.outside.api_app:app", "--port", "{port}", "--workers", "2")
    return ServerProcess((*command, "--store", store), folder / "server.log", {"drain_s": 0.1, "keys": str(keys)})
