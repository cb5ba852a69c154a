"""What the demo can be told, and the directory its database lives in."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the demo can be told.

    Attributes:
        port: The service's port; 0 takes a free one, ``None`` whatever is best: 8000 for the page.
        directory: Where the database is kept; ``None`` takes a temporary directory that is removed at the end.
        log_level: What the service logs to stderr.
    """

    port: int | None = None
    directory: str | None = None
    log_level: str = "warning"

    @contextlib.contextmanager
    def place(self) -> Iterator[Path]:
        """Make the directory of the database, and remove it at the end if it is a temporary one."""
        if self.directory is None:
            with tempfile.TemporaryDirectory(prefix="waypost-demo-") as temporary:
                yield Path(temporary)
            return
        directory = Path(self.directory)
        directory.mkdir(parents=True, exist_ok=True)
        yield directory
