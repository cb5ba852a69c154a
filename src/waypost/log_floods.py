"""Limits the lines of the log that clients cause at will: a flood of requests must not become a flood of lines.

Of each kind of line, so many in a period are shown. The others are counted, and one line has their number.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

__all__ = ["BY_CLIENT", "MOST", "PERIOD_S", "FloodFilter"]

BY_CLIENT = "by_client"
"""The attribute of records that a client can cause at will."""

MOST = 100
"""The most lines of a kind that are shown in a period."""

PERIOD_S = 10.0
"""The length of a period, in seconds."""

_FOREIGN = frozenset(("Invalid HTTP request received.",))
"""Such lines of uvicorn's, which have no attribute."""


@dataclass(slots=True)
class _Kind:
    """The lines of a kind in a period.

    Attributes:
        name: The name of their logger.
        began_at: The beginning of the period, in seconds since 1970.
        lines: The number of lines so far.
    """

    name: str
    began_at: float
    lines: int = 0


class FloodFilter(logging.Filter):
    """Shows at most `MOST` lines of a kind in `PERIOD_S`, of those that clients cause at will.

    A kind is a level and a sentence before its arguments are in it, so there are as many as the source has. How many
    lines were left out is told before the first line that is logged after the period, whatever that is.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[int, str], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to show a record."""
        if self._kinds:
            self._end_periods(record.created)
        if not isinstance(record.msg, str):
            return True
        if not (getattr(record, BY_CLIENT, False) or record.msg in _FOREIGN):
            return True
        kind = self._kinds.setdefault((record.levelno, record.msg), _Kind(record.name, record.created))
        kind.lines += 1
        return kind.lines <= MOST

    def forget(self) -> None:
        """Begin anew."""
        self._kinds.clear()

    def _end_periods(self, now: float) -> None:
        # The clock may have been set back meanwhile.
        for key, kind in list(self._kinds.items()):
            if 0 <= now - kind.began_at < PERIOD_S or self._kinds.pop(key, None) is not kind:
                continue
            if kind.lines > MOST:
                level, message = key
                logging.getLogger(kind.name).log(  # noqa: TID251  # the logger whose lines they were
                    level,
                    "left out %d lines, which clients caused within %g s, of the kind: %s",
                    kind.lines - MOST,
                    PERIOD_S,
                    message,
                    extra={"count": kind.lines - MOST},
                )
