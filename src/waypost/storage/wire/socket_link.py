"""A link over a connected stream socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from waypost.storage.wire.link import Receiver

__all__ = ["SocketLink", "socket_link"]


class SocketLink(asyncio.Protocol):
    """One side of a link over a stream socket; see `waypost.storage.wire.link.Link`. Made by `socket_link`.

    What comes before `start`, which follows at once, is kept. Reading is not paused until then: uvloop does not begin
    to read at all if its transport is paused when the connection is made, and resumed a moment later.
    """

    __slots__ = ("_early", "_is_closed", "_lost", "_receiver", "_transport")

    def __init__(self, lost: Callable[[], None] | None = None) -> None:
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        self._early: list[bytes] = []
        self._is_closed = False

    # -- the link --------------------------------------------------------------------------------------------

    def start(self, receiver: Receiver) -> None:
        """Begin to receive."""
        self._receiver = receiver
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)
        if self._is_closed:
            asyncio.get_running_loop().call_soon(receiver.closed)

    def send(self, data: bytes) -> None:
        """Send bytes; what the socket does not take is kept, and sent when it does."""
        if self._transport is not None and not self._is_closed:
            self._transport.write(data)

    def pause(self) -> None:
        """Receive nothing for now, so that the other side's socket fills up."""
        if self._transport is not None and not self._is_closed:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Receive again."""
        if self._transport is not None and not self._is_closed:
            self._transport.resume_reading()

    def close(self) -> None:
        """Close the socket, when what was sent is written."""
        self._is_closed = True
        self._receiver = None
        if self._transport is not None:
            self._transport.close()

    def sever(self) -> None:
        """Note that the other side's process has ended, also if another process still has its socket."""
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio's protocol ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket's transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        if self._receiver is not None:
            self._receiver.received(data)
        elif not self._is_closed:
            self._early.append(data)

    def eof_received(self) -> bool:
        """Close the socket: the other side is gone."""
        return False

    def pause_writing(self) -> None:
        """Do nothing: the sides bound what is under way."""

    def resume_writing(self) -> None:
        """Do nothing: the sides bound what is under way."""

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the receiver that the other side is gone."""
        if not self._is_closed:
            self._is_closed = True
            if self._lost is not None:
                self._lost()
            if self._receiver is not None:
                self._receiver.closed()


async def socket_link(connected: socket.socket, lost: Callable[[], None] | None = None) -> SocketLink:
    """Return a link over a connected stream socket, which it owns from now on.

    Args:
        connected: The socket.
        lost: Called first, before the receiver, when the other side is gone.

    Raises:
        OSError: The socket can't be used.
    """
    link = SocketLink(lost)
    connected.setblocking(False)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: link, connected)
    return link
