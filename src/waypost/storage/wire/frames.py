"""Frames: many messages in one, with its length before it.

A frame is a MessagePack array of the messages, which one call decodes. Each message is encoded when it is added, so
that what can't be encoded is refused there, and harms no other message.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

__all__ = ["FrameReader", "FrameWriter", "encode"]

_T = TypeVar("_T")

# The frame's length without these four bytes, the mark of an array with a 32 bit length, and that length.
_HEADER = struct.Struct(">IBI")
_ARRAY = 0xDD
_LENGTH = struct.Struct(">I")
_AT_END = -1

_encoder = msgspec.msgpack.Encoder()

encode = _encoder.encode
"""Encodes one message, or a value in one."""


class FrameWriter:
    """Gathers messages into a frame.

    Attributes:
        messages: The number of messages in it.
    """

    __slots__ = ("_buffer", "messages")

    def __init__(self) -> None:
        self.messages = 0
        self._buffer = bytearray(_HEADER.size)

    @property
    def size_bytes(self) -> int:
        """The size of the frame, in bytes."""
        return len(self._buffer)

    def add(self, message: object) -> None:
        """Add a message.

        Raises:
            UnicodeError: A text in it is not valid Unicode.
            TypeError: It contains something else that can't be encoded.
        """
        buffer = self._buffer
        size = len(buffer)
        try:
            _encoder.encode_into(message, buffer, _AT_END)
        except BaseException:
            del buffer[size:]
            raise
        self.messages += 1

    def add_encoded(self, message: bytes) -> None:
        """Add a message that `encode` has encoded."""
        self._buffer += message
        self.messages += 1

    def take(self) -> bytes:
        """Return the frame, and begin the next one."""
        buffer = self._buffer
        _HEADER.pack_into(buffer, 0, len(buffer) - _LENGTH.size, _ARRAY, self.messages)
        self._buffer = bytearray(_HEADER.size)
        self.messages = 0
        return bytes(buffer)


class FrameReader(Generic[_T]):
    """Puts frames together again from bytes, and decodes them.

    Args:
        decoder: Decodes the array of messages.
        most_bytes: The most bytes of a frame; ``None`` for those of whom no limit is needed.
    """

    __slots__ = ("_decoder", "_most_bytes", "_needed", "_rest")

    def __init__(self, decoder: msgspec.msgpack.Decoder[list[_T]], most_bytes: int | None = None) -> None:
        self._decoder = decoder
        self._most_bytes = most_bytes
        self._rest = bytearray()
        # The size of an incomplete frame, once known: a large one must not be copied for each part that comes.
        self._needed = 0

    @property
    def is_between(self) -> bool:
        """Whether nothing of the next frame has come."""
        return not self._rest

    def feed(self, data: bytes) -> Iterator[list[_T]]:
        """Take bytes; returns the messages of each frame that is complete with them.

        Raises:
            msgspec.DecodeError: A frame is not what the other side may send, or is too large.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest.clear()
        begin, size = 0, len(data)
        view = memoryview(data)
        self._needed = 0
        while size - begin >= _LENGTH.size:
            length = _LENGTH.unpack_from(data, begin)[0]
            end = begin + _LENGTH.size + length
            if self._most_bytes is not None and length > self._most_bytes:
                raise msgspec.DecodeError(f"a frame of at most {self._most_bytes:,} bytes, came {length:,}")
            if end > size:
                self._needed = end - begin
                break
            yield self._decoder.decode(view[begin + _LENGTH.size : end])
            begin = end
        if begin < size:
            self._rest += view[begin:]
