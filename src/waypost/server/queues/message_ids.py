"""Ids for messages that came without one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

__all__ = ["MessageIds"]


class MessageIds:
    """Makes ids that no other message has: a random beginning of this server's, and a number.

    A message's id is no secret, and one read of the system's randomness for each costs more than all else of an emit.

    Args:
        new_id: Makes the beginning, once it is needed.
    """

    __slots__ = ("_beginning", "_new_id", "_numbers")

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._beginning = ""
        self._numbers = count(1)

    def __call__(self) -> str:
        """Return another id."""
        if not self._beginning:
            self._beginning = self._new_id()
        return f"{self._beginning}.{next(self._numbers)}"
