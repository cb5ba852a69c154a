"""The options of an emit: timeout, volatile, compress, local."""

from __future__ import annotations

from typing import NamedTuple

from waypost.checking.arguments import BOOL, POSITIVE, check

__all__ = ["Flags"]


class Flags(NamedTuple):
    """The options of an emit.

    Attributes:
        timeout_s: Seconds that a client has to acknowledge, if it is asked to; above 0.
        volatile: Whether to drop the event for each client that can't take it at once.
        compress: Whether the transport may compress the packet.
        local: Whether to emit only to clients of this server.
    """

    timeout_s: float
    volatile: bool = False
    compress: bool = True
    local: bool = False

    def with_timeout(self, seconds: float) -> Flags:
        """Return these options with another timeout.

        Raises:
            ConfigurationError: The timeout is not a number above 0.
        """
        check("timeout", seconds, POSITIVE)
        return self._replace(timeout_s=seconds)

    def with_compress(self, compress: bool) -> Flags:
        """Return these options with another say about compression.

        Raises:
            ConfigurationError: The value is not a bool.
        """
        check("compress", compress, BOOL)
        return self._replace(compress=compress)
