"""Says once that the process runs out of file descriptors: uvloop says nothing, and asyncio says it every second."""

from __future__ import annotations

import logging
import sys

if sys.platform != "win32":
    import resource

from waypost.logs import fields, get_logger

__all__ = ["DescriptorWatch", "OncePerShortage"]

logger = get_logger("waypost.serve")

_LEFT = 8
"""So few are as good as none: the store and the log need some, too."""
_ASYNCIO = "socket.accept() out of system resource"


class DescriptorWatch:
    """Looks at the number of each new connection's descriptor: the kernel gives the lowest that is free."""

    def __init__(self) -> None:
        self._is_short = False

    def note(self, descriptor: int) -> None:
        """Note a new connection; the first one that is near the process's limit is logged.

        It is logged again after a connection that is far from the limit.

        Args:
            descriptor: The number of its file descriptor.
        """
        if sys.platform == "win32":
            return
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit == resource.RLIM_INFINITY:
            return
        if descriptor >= limit - _LEFT and not self._is_short:
            self._is_short = True
            logger.error(
                "out of file descriptors: the limit is %d, and new connections wait; raise it (ulimit -n, or"
                " LimitNOFILE of systemd)",
                limit,
                extra=fields(count=limit),
            )
        elif descriptor < limit // 2:
            self._is_short = False


class OncePerShortage(logging.Filter):
    """Drops what asyncio logs each second while there are no descriptors; `DescriptorWatch` has said so."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a record."""
        return not record.getMessage().startswith(_ASYNCIO)
