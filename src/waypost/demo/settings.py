"""The demo's settings, and the directory of its database."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The demo's settings.

    Attributes:
        port: The service's port; 0 takes a free port, ``None`` the default: 8000 for the page, a free port without
            it.
        directory: The directory of the database; ``None`` takes a temporary directory, which is removed at the end.
        log_level: The service's log level for stderr.
        store: The URL of a database, on which two servers play the story in the terminal; ``None`` takes a file, and
            one server.
    """

    port: int | None = None
    directory: str | None = None
    log_level: str = "warning"
    store: str | None = None

    @contextlib.contextmanager
    def place(self) -> Iterator[Path]:
        """Create the database's directory; a temporary directory is removed at the end."""
        if self.directory is None:
            with tempfile.TemporaryDirectory(prefix="waypost-demo-") as temporary:
                yield Path(temporary)
            return
        directory = Path(self.directory)
        directory.mkdir(parents=True, exist_ok=True)
        yield directory
