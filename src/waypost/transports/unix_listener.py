"""Listens on a unix socket, for a proxy on the same machine and for programs of the same user."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from waypost.errors import ConfigurationError

__all__ = ["unix_listener"]


@contextmanager
def unix_listener(option: str, path: str, mode: int) -> Iterator[socket.socket]:
    """Bind a unix socket, and remove it when the block ends.

    Args:
        option: What names the path, for errors.
        path: The socket, made anew; one that a process left behind that is gone is replaced.
        mode: The permissions of the socket.

    Yields:
        The bound socket, which the block may close.

    Raises:
        ConfigurationError: No socket can stand there, or another process listens on it.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path).st_mode) and not _is_served(path):
                os.unlink(path)
        # Before anybody can connect: they can from `listen` on.
        listener.bind(path)
        os.chmod(path, mode)
    except OSError as error:
        listener.close()
        expected = f"the path of a socket that can be made; {error}"
        raise ConfigurationError(option, path, expected) from error
    try:
        yield listener
    finally:
        listener.close()
        with suppress(FileNotFoundError):
            os.unlink(path)


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == 0
