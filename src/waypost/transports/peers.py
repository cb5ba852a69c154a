"""The news that a worker of ``waypost serve --workers`` gets of the other workers."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

__all__ = ["Peers"]


class Peers(Protocol):
    """The workers of one parent process, as one of them sees them."""

    @property
    def number(self) -> int:
        """This worker's number, from 1. No other worker of the same parent ever has it, not even after a restart."""
        ...

    def watch(
        self,
        came: Callable[[int, socket.socket], None],
        gone: Callable[[int], None],
        leaving: Callable[[int], None],
    ) -> None:
        """Call functions as other workers come and go, on the running loop; at once for those that are there.

        Args:
            came: Called with a worker's number and a stream socket to it, connected and non-blocking. The function
                owns the socket.
            gone: Called with the number of a worker whose process has ended.
            leaving: Called with the number of a worker that accepts no new clients any more, and serves those it has.
        """
        ...
