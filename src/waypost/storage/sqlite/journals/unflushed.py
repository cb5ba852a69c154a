"""Writes that the store has reported before they are on disk, as the event loop sees them."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Unflushed"]

_MAX_BYTES = 64 << 20


class Unflushed:
    """Counts the reported writes that are not on disk yet, of all journals of a store.

    Attributes:
        failure: The error that keeps them from the disk; ``None`` without one. The writer retries until it succeeds.
    """

    __slots__ = ("_size_bytes", "_watchers", "failure")

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self._size_bytes = 0
        self._watchers: list[Callable[[], None]] = []

    @property
    def is_full(self) -> bool:
        """Whether so many bytes wait that no further write may be reported."""
        return self._size_bytes >= _MAX_BYTES

    def watch(self, changed: Callable[[], None]) -> None:
        """Call a function whenever fewer bytes wait, or the failure begins or ends."""
        self._watchers.append(changed)

    def unwatch(self, changed: Callable[[], None]) -> None:
        """Stop calling the function."""
        self._watchers.remove(changed)

    def add(self, size: int) -> None:
        """Count a write of that many bytes."""
        self._size_bytes += size

    def written(self, size: int) -> None:
        """Note that this many bytes are on disk."""
        self._size_bytes -= size
        self._tell()

    def failed(self, failure: Exception | None) -> None:
        """Note that the writes can't be written; ``None`` ends the failure."""
        self.failure = failure
        self._tell()

    def _tell(self) -> None:
        for changed in self._watchers:
            changed()
