"""The unix socket on which the parent of several workers serves programs without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from waypost.storage.host.host import StoreHost
from waypost.storage.wire.socket_link import SocketLink
from waypost.transports.unix_listener import unix_listener

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

    with unix_listener("emitter_socket", path, 0o600) as listener:
        server = await asyncio.get_running_loop().create_unix_server(connected, sock=listener)
        try:
            yield
        finally:
            server.close()
            for link in [*links]:
                link.close()
