"""Notices that a file was removed, replaced or cut while it is open."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from waypost.errors import StoreLost

__all__ = ["WatchedFile"]


class WatchedFile:
    """A file that is open, seen by its name.

    Args:
        store: The store that it belongs to, as errors name it.
        path: The file. It exists.
        what: The file, as errors name it.
        is_held: Whether to hold it open, so that a look is faster. Not for a file that SQLite locks: closing any
            descriptor of it would end the locks.

    Attributes:
        size_bytes: The file's size at the last look.
        names: How many names the file has.
    """

    __slots__ = ("_descriptor", "_identity", "_path", "_store", "_what", "names", "size_bytes")

    def __init__(self, store: str, path: Path, what: str = "it", *, is_held: bool = False) -> None:
        self._store = store
        self._path = str(path)
        self._what = what
        self._descriptor = os.open(path, os.O_RDONLY) if is_held else None
        stat = self._stat()
        self._identity = (stat.st_dev, stat.st_ino)
        self.size_bytes = stat.st_size
        self.names = stat.st_nlink

    def look(self) -> bool:
        """Look at the file; returns whether it is smaller than at the last look.

        Raises:
            StoreLost: The file was removed, or another one was put in its place.
        """
        try:
            stat = self._stat()
        except OSError as error:
            raise StoreLost(self._store, f"{self._what} was removed ({error.strerror})") from error
        if not stat.st_nlink:
            raise StoreLost(self._store, f"{self._what} was removed")
        if (stat.st_dev, stat.st_ino) != self._identity:
            raise StoreLost(self._store, f"another file was put in the place of {self._what}")
        is_smaller = stat.st_size < self.size_bytes
        self.size_bytes = stat.st_size
        self.names = stat.st_nlink
        return is_smaller

    def shrank(self) -> bool:
        """Return whether a file that is held is smaller than at the last look; faster than a look."""
        if self._descriptor is None:
            return False
        before, self.size_bytes = self.size_bytes, os.lseek(self._descriptor, 0, os.SEEK_END)
        return self.size_bytes < before

    def close(self) -> None:
        """Close the file, if it is held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _stat(self) -> os.stat_result:
        return os.stat(self._path) if self._descriptor is None else os.fstat(self._descriptor)

    def note(self) -> None:
        """Note the size after writing. If the file is gone, the next look tells."""
        with suppress(OSError):
            self.size_bytes = os.stat(self._path).st_size

    def cut(self) -> StoreLost:
        """Return the error for a file that was cut."""
        return StoreLost(self._store, f"{self._what} was cut short")
