"""Which handlers of a client wait for an answer of this very client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

__all__ = ["WAITS", "Waits", "Working"]


class Waits:
    """The calls to one client for which its own handlers wait.

    Args:
        sid: The id of the client's socket.

    Attributes:
        sid: The id of the client's socket.
        count: The number of calls.
    """

    __slots__ = ("count", "sid")

    def __init__(self, sid: str) -> None:
        self.sid = sid
        self.count = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count a call as long as the context lasts."""
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1


WAITS: ContextVar[Waits | None] = ContextVar("WAITS", default=None)
"""The calls of the client whose handler runs, also in tasks and threads that the handler starts."""


class Working(Protocol):
    """The handlers of one socket's events, as a later connection of the same client sees them."""

    @property
    def is_working(self) -> bool:
        """Whether handlers are running, or about to be called."""
        ...

    @property
    def waits_for_client(self) -> bool:
        """Whether handlers are running, and all of them wait for an answer of this client."""
        ...

    def running(self) -> list[str]:
        """Return the names of the events whose handlers are running."""
        ...

    async def done(self) -> None:
        """Wait until no handler is running. May be cancelled."""
        ...
