"""The lock that makes one process the owner of a file, and the few bytes that the owner keeps beside the file."""

from __future__ import annotations

import errno
import os
import platform
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from waypost.errors import StoreBusy

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["Knock", "OwnerFile"]

_SUFFIX = "-owner"
# Behind what the owner keeps there: who it is, and who waits for its end. Versions up to 0.1 know neither.
_HOLDER_AT = 256
_KNOCK_AT = 384
_LINE_BYTES = 128
_HOST_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Knock:
    """A process that waits for the end of a file's owner.

    Attributes:
        pid: Its process id.
        count: A number that goes up while it waits.
    """

    pid: int
    count: int


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
        self._write_line(_HOLDER_AT, f"{os.getpid()} {time.time():.3f} {_host()}")

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
        with suppress(OSError):  # a full disk: the line only says who it was
            self._write_line(_HOLDER_AT, "")
        os.close(self._descriptor)
        self._lock.release()

    def _write_line(self, at: int, line: str) -> None:
        os.pwrite(self._descriptor, _padded(line), at)

    @staticmethod
    def peek(path: Path, size: int) -> bytes:
        """Return the first bytes beside a file without owning it; none where there are none or they can't be read."""
        try:
            with Path(f"{path}{_SUFFIX}").open("rb") as file:
                return file.read(size)
        except OSError:
            return b""

    @staticmethod
    def peek_holder(path: Path) -> int | None:
        """Return the process of this machine that owns a file; ``None`` if none is known to."""
        return _busy(path).pid

    @staticmethod
    def knock(path: Path, count: int) -> None:
        """Tell the owner of a file that this process waits for its end; see `Knock`. 0 takes it back."""
        with suppress(OSError):  # it is told for the sake of a faster end only
            descriptor = os.open(f"{path}{_SUFFIX}", os.O_WRONLY)
            try:
                os.pwrite(descriptor, _padded(f"{os.getpid()} {count}" if count else ""), _KNOCK_AT)
            finally:
                os.close(descriptor)

    @staticmethod
    def peek_knock(path: Path) -> Knock | None:
        """Return who waited last for the end of a file's owner; ``None`` for nobody."""
        fields = _line(OwnerFile.peek(path, _KNOCK_AT + _LINE_BYTES), _KNOCK_AT)
        return Knock(int(fields[0]), int(fields[1])) if len(fields) == 2 else None


def _padded(line: str) -> bytes:
    # Of a fixed length, so that nothing is left of a longer one.
    return line.ljust(_LINE_BYTES - 1).encode("ascii", "replace") + b"\n"


def _line(content: bytes, at: int) -> list[str]:
    return content[at : at + _LINE_BYTES].decode("ascii", "replace").strip("\0 \n").split(" ")


def _host() -> str:
    return "".join(platform.node().split())[:_HOST_CHARACTERS] or "-"


def _busy(path: Path) -> StoreBusy:
    fields = _line(OwnerFile.peek(path, _HOLDER_AT + _LINE_BYTES), _HOLDER_AT)
    try:
        pid, since, host = int(fields[0]), float(fields[1]), fields[2]
    except (ValueError, IndexError):  # an owner of version 0.1, or one that has just come or goes
        return StoreBusy(str(path))
    if host == _host():
        host = ""
        if not _lives(pid):  # the note of an owner that was killed, before one of version 0.1
            return StoreBusy(str(path))
    return StoreBusy(str(path), pid=pid, since=since, host=host)


def _lives(pid: int) -> bool:
    with suppress(PermissionError):  # it lives, and is another user's
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


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
        raise _busy(path) from None
    return lock
