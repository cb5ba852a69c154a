"""How an event goes: its timeout, and whether it may be dropped, compressed or leave this server."""

from __future__ import annotations

from typing import NamedTuple

from waypost.checking.arguments import POSITIVE, check

__all__ = ["Flags"]


class Flags(NamedTuple):
    """How an event goes.

    Attributes:
        timeout_s: Seconds in which those who are asked for an ack have to answer.
        volatile: Whether it is dropped for every client that can't take it right now.
        compress: Whether its packet may be compressed.
        local: Whether it stays on this server.
    """

    timeout_s: float
    volatile: bool = False
    compress: bool = True
    local: bool = False

    def with_timeout(self, seconds: float) -> Flags:
        """The same with another timeout.

        Raises:
            ConfigurationError: It is no number above 0.
        """
        check("timeout", seconds, POSITIVE)
        return self._replace(timeout_s=seconds)
