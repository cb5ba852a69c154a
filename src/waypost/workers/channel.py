"""The channel between a parent and a worker: messages in order, some of which bring a socket with them."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from waypost.logs import get_logger

__all__ = ["Channel"]

logger = get_logger("waypost.workers")

_LENGTH = struct.Struct(">IB")
_READ_BYTES = 65_536
_MOST_SOCKETS = 64
"""The sockets that one read may bring."""

Receive = TypeVar("Receive")


class Channel(Generic[Receive]):
    """One end of the channel.

    Args:
        sock: A unix stream socket; the channel owns it.
        decoder: Decodes what comes in.
    """

    def __init__(self, sock: socket.socket, decoder: msgspec.json.Decoder[Receive]) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._decoder = decoder
        self._encoder = msgspec.json.Encoder()
        self._buffer = bytearray()
        self._sockets: deque[socket.socket] = deque()
        self._waiting: deque[tuple[bytes, socket.socket | None]] = deque()
        self._received: Callable[[Receive, socket.socket | None], None] | None = None
        self._closed: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    def start(self, received: Callable[[Receive, socket.socket | None], None], closed: Callable[[], None]) -> None:
        """Begin to receive, on the running loop.

        Args:
            received: Called with each message, and the socket that came with it, if one did. It owns the socket.
            closed: Called once the other end is gone.
        """
        self._received, self._closed = received, closed
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read)
        self._write()

    def send(self, message: msgspec.Struct, passed: socket.socket | None = None) -> None:
        """Send a message. Returns at once; nothing happens if the other end is gone.

        Args:
            message: The message.
            passed: A socket that goes with it. This end of it is closed.
        """
        if self._is_closed:
            if passed is not None:
                passed.close()
            return
        encoded = self._encoder.encode(message)
        self._waiting.append((_LENGTH.pack(len(encoded), passed is not None) + encoded, passed))
        self._write()

    def close(self) -> None:
        """Close the channel. Nothing is received any more."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._loop is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        self._socket.close()
        for _, passed in self._waiting:
            if passed is not None:
                passed.close()
        for one in self._sockets:
            one.close()
        self._waiting.clear()
        self._sockets.clear()

    # -- sending --------------------------------------------------------------------------------------------

    def _write(self) -> None:
        try:
            while self._waiting:
                data, passed = self._waiting[0]
                sent = self._send_some(data, passed)
                if passed is not None:
                    passed.close()
                if sent == len(data):
                    self._waiting.popleft()
                else:
                    self._waiting[0] = data[sent:], None
        except BlockingIOError:
            if self._loop is not None:
                self._loop.add_writer(self._socket, self._write)
            return
        except OSError as error:
            self._lose(error)
            return
        if self._loop is not None:
            self._loop.remove_writer(self._socket)

    def _send_some(self, data: bytes, passed: socket.socket | None) -> int:
        if passed is None:
            return self._socket.send(data)
        return socket.send_fds(self._socket, [data], [passed.fileno()])

    # -- receiving ------------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, _READ_BYTES, _MOST_SOCKETS)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        self._sockets.extend(socket.socket(fileno=one) for one in descriptors)
        if not data:
            self._lose(None)
            return
        self._buffer += data
        while not self._is_closed and (found := self._next()) is not None:
            self._take(*found)

    def _next(self) -> tuple[bytes, bool] | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        length, brings = _LENGTH.unpack_from(self._buffer)
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        encoded = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return encoded, bool(brings)

    def _take(self, encoded: bytes, brings: bool) -> None:
        passed = self._sockets.popleft() if brings else None
        try:
            message = self._decoder.decode(encoded)
        except msgspec.MsgspecError as error:  # another version's
            logger.warning("a message between parent and worker is not understood: %s", error)
            if passed is not None:
                passed.close()
            return
        assert self._received is not None
        self._received(message, passed)

    def _lose(self, error: OSError | None) -> None:
        if error is not None:
            logger.debug("the channel between parent and worker ended: %s", error)
        is_news = not self._is_closed
        self.close()
        if is_news and self._closed is not None:
            self._closed()
