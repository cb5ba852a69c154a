"""A link between the store's host and a node over a socket; see `waypost.storage.wire.link.Link`."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from waypost.storage.wire.link import Receiver

__all__ = ["SocketLink"]


class SocketLink(asyncio.Protocol):
    """One side of a link.

    Made by `open`.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        self._early: list[bytes] = []
        self._is_closed = False

    @classmethod
    async def open(cls, sock: socket.socket) -> SocketLink:
        """Make a link of a connected stream socket, which it then owns."""
        _, link = await asyncio.get_running_loop().create_unix_connection(cls, sock=sock)
        return link

    def start(self, receiver: Receiver) -> None:
        """Begin to receive; what came before is kept until then."""
        self._receiver = receiver
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)
        if self._is_closed:
            asyncio.get_running_loop().call_soon(receiver.closed)

    def send(self, data: bytes) -> None:
        """Send bytes. Returns at once; nothing happens if the link is closed."""
        if self._transport is not None and not self._is_closed:
            self._transport.write(data)

    def pause(self) -> None:
        """Receive nothing until `resume`."""
        if self._transport is not None and not self._is_closed:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Receive again."""
        if self._transport is not None and not self._is_closed:
            self._transport.resume_reading()

    def close(self) -> None:
        """Close the link. The other side still receives what was sent; this side hears nothing any more."""
        self._receiver = None
        self._is_closed = True
        if self._transport is not None:
            self._transport.close()

    def sever(self) -> None:
        """Note that the process at the other side has ended, also if a process of its own still has the socket."""
        if self._transport is not None:
            self._transport.abort()

    # -- as a protocol --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to receive."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand on what has come; before `start`, which follows at once, it is kept."""
        if self._receiver is not None:
            self._receiver.received(data)
        elif not self._is_closed:
            self._early.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that the other side is gone."""
        self._is_closed = True
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.closed()
