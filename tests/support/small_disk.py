"""A disk that a test fills: a small file system in memory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.server_process import ServerProcess

LARGE = 100_000
"""The bytes of what no longer fits when the disk is full."""

SMALL_DISK_BYTES = 8 << 20


class SmallDisk:
    """A small file system, filled by another program's file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ballast = directory / "ballast"

    def fill(self, server: ServerProcess) -> None:
        self.leave(4 * LARGE)

    def leave(self, size: int) -> None:
        """Leave so many bytes."""
        stats = os.statvfs(self.directory)
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, stats.f_bavail * stats.f_frsize - size)

    def free(self, server: ServerProcess) -> None:
        self._ballast.unlink()


@contextmanager
def small_disk(directory: Path, size: int = SMALL_DISK_BYTES) -> Iterator[SmallDisk]:
    """Mount a file system in memory, where this user may."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "waypost-test", str(directory)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount a file system")
    try:
        yield SmallDisk(directory)
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
