"""Writes to disk what the system still holds of a file, or of a directory's names."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["flush"]


def flush(path: Path) -> None:
    """Wait until a file's content, or a directory's names, are on disk.

    Args:
        path: The file or directory.

    Raises:
        OSError: It can't be opened or flushed.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
