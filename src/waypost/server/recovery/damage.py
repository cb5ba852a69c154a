"""Tells of events and sessions that the store can't give back as they were."""

from __future__ import annotations

from waypost.logs import fields, get_logger

__all__ = ["Damage"]

logger = get_logger("waypost.recovery")

_MOST_TOLD = 1000


class Damage:
    """Logs each damaged event or session once, however many clients ask for it.

    Args:
        namespace: The namespace of the events and sessions.
    """

    __slots__ = ("_namespace", "_told")

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._told: dict[str, None] = {}

    def tell(self, what: str, problem: object) -> None:
        """Log that something is damaged.

        Args:
            what: The event or session, in words.
            problem: The error that told of it.
        """
        if what in self._told:
            return
        if len(self._told) >= _MOST_TOLD:
            del self._told[next(iter(self._told))]
        self._told[what] = None
        logger.error(
            "%s: %s is damaged, and clients that need it start anew: %s",
            self._namespace,
            what,
            problem,
            extra=fields(namespace=self._namespace),
        )
