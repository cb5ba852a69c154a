"""What happened, in order: cheap to take down, readable when it is needed."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Trace"]


class Trace:
    """The lines of one history.

    Args:
        time: The virtual clock.
    """

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._lines: list[tuple[float, str, tuple[object, ...]]] = []

    def __len__(self) -> int:
        return len(self._lines)

    def note(self, form: str, *values: object) -> None:
        """Take down a line, as `str.format` would write it; values must not change afterwards."""
        self._lines.append((self._time(), form, values))

    def text(self, last: int | None = None) -> str:
        """Write it out, or only the last lines."""
        lines = self._lines if last is None else self._lines[-last:]
        return "\n".join(f"{time:10.4f}  {form.format(*values)}" for time, form, values in lines)
