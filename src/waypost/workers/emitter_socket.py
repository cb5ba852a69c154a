"""The unix socket on which the parent of several workers serves programs without a server."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from waypost.errors import ConfigurationError
from waypost.storage.host.host import StoreHost
from waypost.storage.wire.socket_link import SocketLink

__all__ = ["emitter_socket"]


@asynccontextmanager
async def emitter_socket(path: str | None, host: StoreHost) -> AsyncIterator[None]:
    """Serve emitters while the block runs. Only this user's programs can connect.

    Args:
        path: The socket, made anew; one that a process left behind that is gone is replaced. ``None`` for none.
        host: Has the store.

    Raises:
        ConfigurationError: No socket can stand there, or another process listens on it.
    """
    if path is None:
        yield
        return
    links: set[SocketLink] = set()

    def connected() -> SocketLink:
        link = SocketLink(lambda: links.discard(link))
        links.add(link)
        host.attach_outsider(link)
        return link

    server = await asyncio.get_running_loop().create_unix_server(connected, sock=_listening(path))
    try:
        yield
    finally:
        server.close()
        for link in [*links]:
            link.close()
        with suppress(FileNotFoundError):
            os.unlink(path)


def _listening(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path).st_mode) and not _is_served(path):
                os.unlink(path)
        # Before anybody can connect: they can from `listen` on.
        listener.bind(path)
        os.chmod(path, 0o600)
    except OSError as error:
        listener.close()
        expected = f"the path of a socket that can be made; {error}"
        raise ConfigurationError("emitter_socket", path, expected) from error
    return listener


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == 0
