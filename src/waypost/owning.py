"""The lock that makes one process the owner of a file, and the few bytes that the owner keeps beside the file."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from waypost.errors import StoreBusy

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["OwnerFile"]

_SUFFIX = "-owner"


class OwnerFile:
    """The file ``<path>-owner``, locked: no other process, and nothing else in this process, owns ``path``.

    The lock is not on the file itself. Its locks are SQLite's, and are lost when any descriptor of it closes.

    Args:
        path: The file to own, with symbolic links resolved.
        mode: The permissions of ``<path>-owner`` if it does not exist yet; ``None`` for what the umask leaves.

    Raises:
        StoreBusy: Another owner has the file.
        OSError: ``<path>-owner`` can't be made, opened or locked.
    """

    def __init__(self, path: Path, mode: int | None = None) -> None:
        self.path = Path(f"{path}{_SUFFIX}")
        # The lock would make a missing directory, and would take a FIFO for a file.
        _check_kind(self.path)
        self._lock = _lock(path, self.path, mode)
        try:
            # A descriptor of its own: closing it does not end the lock, which belongs to another one.
            self._descriptor = os.open(self.path, os.O_RDWR)
        except BaseException:
            self._lock.release()
            raise

    def read(self, size: int) -> bytes:
        """Return the first bytes, at most so many."""
        return os.pread(self._descriptor, size, 0)

    def write(self, content: bytes, at: int = 0, *, flush: bool = False) -> None:
        """Write bytes in one call, so that a killed process leaves the old ones or the new ones.

        Args:
            content: The bytes; few.
            at: The place in the file.
            flush: Whether they must survive a power loss.
        """
        os.pwrite(self._descriptor, content, at)
        if flush:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """End the ownership."""
        os.close(self._descriptor)
        self._lock.release()

    @staticmethod
    def peek(path: Path, size: int) -> bytes:
        """Return the first bytes beside a file without owning it; none where there are none or they can't be read."""
        try:
            with Path(f"{path}{_SUFFIX}").open("rb") as file:
                return file.read(size)
        except OSError:
            return b""


def _check_kind(owner: Path) -> None:
    try:
        mode = owner.stat().st_mode
    except FileNotFoundError:
        if not owner.parent.is_dir():
            raise
        return
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(owner))


def _lock(path: Path, owner: Path, mode: int | None) -> BaseFileLock:
    # Only now, as its import takes longer than all of ours.
    from filelock import FileLock, Timeout

    # Another kind of lock would not exclude the processes of older versions, which take this one.
    if mode is None:
        lock = FileLock(owner, timeout=0, thread_local=False, fallback_to_soft=False)
    else:
        lock = FileLock(owner, timeout=0, mode=mode, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise StoreBusy(str(path)) from None
    return lock
