"""The listening sockets of several workers on one address.

On Linux each worker has a socket of its own for each address (SO_REUSEPORT), and the kernel spreads connections
evenly; one socket for all gives most of them to the worker that is awake. Elsewhere the kernel does not spread them,
so all share one.
"""

from __future__ import annotations

import errno
import socket
import sys
import time

from waypost.errors import ConfigurationError
from waypost.logs import get_logger
from waypost.transports.uvicorn_runner import bind

__all__ = ["bind_for_workers", "share"]

logger = get_logger("waypost.workers")

_PATIENCE_S = 10.0
"""A worker that was just being started notices its parent's end once it has imported what it needs for that."""
_TRY_EVERY_S = 0.05


def bind_for_workers(
    host: str, port: int, workers: int, patience_s: float = _PATIENCE_S
) -> list[list[socket.socket]]:
    """Bind sockets for each worker. Blocks while the address is in use, up to a time.

    The workers of a parent that was killed need a moment to end, and its successor may be started at once.

    Args:
        host: A name or an address, as for `bind`.
        port: The port; 0 takes a free port.
        workers: The number of workers, from 1.
        patience_s: Seconds for which to try while the address is in use.

    Returns:
        For each worker a socket for each address. All have the same port. The caller closes them.

    Raises:
        ConfigurationError: An address can't be bound. A process that listens there already counts, even if it would
            share the address.
    """
    first = _bind_patiently(host, port, patience_s)
    if sys.platform != "linux":
        return share(first, workers)
    addresses = [(one.family, one.getsockname()) for one in first]
    # They were bound to learn whether the address is free; a socket that shares it must say so before.
    for one in first:
        one.close()
    bound: list[list[socket.socket]] = []
    try:
        for _ in range(workers):
            bound.append([])
            for family, address in addresses:
                bound[-1].append(_bind_shared(family, address))
    except OSError as error:
        for one in (each for listeners in bound for each in listeners):
            one.close()
        expected = f"an address that can be listened on; {error.strerror}"
        raise ConfigurationError("address", f"{host}:{addresses[0][1][1]}", expected) from error
    return bound


def share(listeners: list[socket.socket], workers: int) -> list[list[socket.socket]]:
    """Let all workers have the same sockets.

    Args:
        listeners: The bound sockets. The caller closes them, and the others.
        workers: The number of workers, from 1.
    """
    return [[one.dup() for one in listeners] for _ in range(workers - 1)] + [listeners]


def _bind_patiently(host: str, port: int, patience_s: float) -> list[socket.socket]:
    ends = time.monotonic() + patience_s
    has_said = False
    while True:
        try:
            return bind(host, port)
        except ConfigurationError as error:
            cause = error.__cause__
            is_used = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
            if not is_used or time.monotonic() > ends:
                raise
            if not has_said:
                has_said = True
                logger.warning(
                    "%s; trying for %g s, as the workers of a parent that was killed need a moment to end",
                    *(error, patience_s),
                )
        time.sleep(_TRY_EVERY_S)


def _bind_shared(family: socket.AddressFamily | int, address: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener
