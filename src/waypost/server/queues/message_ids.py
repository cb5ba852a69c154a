"""Ids for messages that were emitted without one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

__all__ = ["MessageIds"]


class MessageIds:
    """Makes unique ids: a random beginning of this server, and a number.

    An id is not a secret, and reading the system's randomness for each would cost more than the rest of an emit.

    Args:
        new_id: Makes the beginning at the first use.
    """

    __slots__ = ("_beginning", "_new_id", "_numbers")

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._beginning = ""
        self._numbers = count(1)

    def __call__(self) -> str:
        """Return a new id."""
        if not self._beginning:
            self._beginning = self._new_id()
        return f"{self._beginning}.{next(self._numbers)}"
