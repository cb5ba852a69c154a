"""What a store has reported before it is on disk, as the event loop sees it."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Unflushed"]

_MAX_BYTES = 64 << 20


class Unflushed:
    """Counts what is reported and not on disk yet, of all journals of a store.

    Attributes:
        failure: Why it can't be written at present; ``None`` if all is well. It is tried again until it can.
    """

    __slots__ = ("_size_bytes", "_watchers", "failure")

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self._size_bytes = 0
        self._watchers: list[Callable[[], None]] = []

    @property
    def is_full(self) -> bool:
        """Whether so much waits that nothing more may be reported."""
        return self._size_bytes >= _MAX_BYTES

    def watch(self, changed: Callable[[], None]) -> None:
        """Have something called whenever it has become less, or can't be written, or can again."""
        self._watchers.append(changed)

    def unwatch(self, changed: Callable[[], None]) -> None:
        """Have it called no more."""
        self._watchers.remove(changed)

    def add(self, size: int) -> None:
        """Count a write of that many bytes."""
        self._size_bytes += size

    def written(self, size: int) -> None:
        """Take note that so many bytes of it are on disk."""
        self._size_bytes -= size
        self._tell()

    def failed(self, failure: Exception | None) -> None:
        """Take note that it can't be written, or with ``None`` that it can again."""
        self.failure = failure
        self._tell()

    def _tell(self) -> None:
        for changed in self._watchers:
            changed()
