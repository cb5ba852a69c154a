"""A TCP connection between two nodes: frames in both directions, and an end that is noticed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

from waypost.storage.wire.frames import FrameReader, FrameWriter, encode

__all__ = ["MESSAGE_BYTES", "MeshConnection"]

MESSAGE_BYTES: Final = 256 << 20
"""The most bytes of a frame between nodes that are proven."""

_FRAME_BYTES = 256 << 10


class MeshConnection(asyncio.Protocol):
    """One side of a connection.

    Args:
        made: Called with it when it is there; it calls `expect` then.

    Attributes:
        transport: The connection.
        lost: Resolved when it is gone, with why in words.
        heard_at: When bytes came last, by the loop's clock.
        paused: Called with True when what was sent waits for the network, and with False when it does not any more.
    """

    def __init__(self, made: Callable[[MeshConnection], None]) -> None:
        self._made = made
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.heard_at = self._loop.time()
        self.paused: Callable[[bool], None] = lambda _: None
        self._take: Callable[[Any], None]
        self._reader: FrameReader[Any]
        self._frame = FrameWriter()
        self._is_scheduled = False
        self._why = "the other side has closed it"

    def expect(self, decoder: msgspec.msgpack.Decoder[Any], most_bytes: int, take: Callable[[Any], None]) -> None:
        """Set what comes next on the connection.

        Args:
            decoder: Decodes a frame.
            most_bytes: The most bytes of a frame.
            take: Called with each message. It may call this.
        """
        self._reader = FrameReader(decoder, most_bytes)
        self._take = take

    def send(self, message: bytes) -> None:
        """Send an encoded message, together with others of this turn of the loop."""
        self._frame.add_encoded(message)
        if self._frame.size_bytes > _FRAME_BYTES:
            self.flush()
        elif not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self.flush)

    def tell(self, message: object) -> None:
        """Send a message."""
        self.send(encode(message))

    def flush(self) -> None:
        """Write to the network what has gathered."""
        self._is_scheduled = False
        if self._frame.messages and not self.transport.is_closing():
            self.transport.write(self._frame.take())

    def close(self) -> None:
        """Close the connection when all is written."""
        self.flush()
        self.transport.close()

    def abort(self, why: str) -> None:
        """Close the connection at once."""
        self._why = why
        self.transport.abort()

    # -- asyncio's protocol ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._made(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a connection that brings what it must not is closed, and that harms no other one."""
        self.heard_at = self._loop.time()
        reader = self._reader
        try:
            for messages in reader.feed(data):
                for message in messages:
                    if self.transport.is_closing():
                        return
                    self._take(message)
        except msgspec.MsgspecError as problem:
            self.abort(f"it sent what no node sends here: {problem}")
            return
        if reader is not self._reader and not reader.is_between:
            self.abort("it went on before it was answered")

    def pause_writing(self) -> None:
        """Note that the network is slow."""
        self.paused(True)

    def resume_writing(self) -> None:
        """Note that the network takes bytes again."""
        self.paused(False)

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end."""
        if not self.lost.done():
            self.lost.set_result(self._why if error is None else str(error))
