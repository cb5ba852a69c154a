"""WebSocket framing for both ends, without extensions.

Each call takes all input or output at hand. A batch of messages then costs one read or write of the network and one
wake-up of the waiting task, however many messages it has.

Source: RFC 6455, sections 5 to 7.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1

from waypost.errors import LimitExceeded
from waypost.protocol.engineio import Frame

try:
    # 0.1 us for a small frame, against 0.6 us with Python's large integers. Wheels exist for all common platforms.
    from websockets.speedups import apply_mask
except ImportError:

    def apply_mask(data: bytes | bytearray | memoryview, mask: bytes | bytearray) -> bytes:
        """Combine bytes with a mask (section 5.3), as one large integer: the fastest way in pure Python."""
        length = len(data)
        key = int.from_bytes((mask * (length // 4 + 1))[:length], "little")
        return (int.from_bytes(data, "little") ^ key).to_bytes(length, "little")


__all__ = [
    "GOING_AWAY",
    "Closing",
    "FrameEncoder",
    "MessageReader",
    "accept_key",
    "encode_close",
    "encode_messages",
    "encode_pong",
    "frame_close",
    "frame_message",
    "frame_pong",
]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_OPCODES = frozenset((_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG))
_FIN = 0x80
_MASKED = 0x80
_WHOLE_TEXT = _FIN | _TEXT
_MAX_CONTROL_BYTES = 125
_MAX_FRAGMENTS = 16_384
"""Enough for a message of the largest size in frames of 64 bytes. Empty fragments count: they cost time too."""

GOING_AWAY = 1001
"""The code with which a browser closes when a page is left."""

_NORMAL, _PROTOCOL_ERROR, _NO_CODE, _INVALID_DATA, _TOO_BIG = 1000, 1002, 1005, 1007, 1009
_CODES = frozenset((*range(1000, 1004), *range(1007, 1015)))
_APPLICATION_CODES = range(3000, 5000)


def accept_key(key: str) -> str:
    """Return the server's answer to a handshake's ``Sec-WebSocket-Key`` (section 4.2.2)."""
    return b64encode(sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


# ---------------------------------------------------------------------------------------------- encoding


def frame_message(message: Frame) -> bytes:
    """Encode a message as a server does: as one frame without a mask."""
    if isinstance(message, str):
        payload = message.encode()
        length = len(payload)
        return (_TEXT_HEADS[length] if length < 126 else _head(_TEXT, length, 0)) + payload
    return _head(_BINARY, len(message), 0) + message


class FrameEncoder:
    """Encodes packets as a server does. It caches the last one, so a broadcast is encoded only once."""

    __slots__ = ("_encoded", "_packet")

    def __init__(self) -> None:
        self._packet: tuple[Frame, ...] = ()
        self._encoded = b""

    def encode(self, packet: tuple[Frame, ...]) -> bytes:
        """Return the bytes to write for a packet: the frame of its message, then those of its attachments."""
        # A broadcast passes the identical tuple for every recipient; an ack's tuple is always a new one.
        if packet is not self._packet:
            self._packet = packet
            self._encoded = frame_message(packet[0]) if len(packet) == 1 else b"".join(map(frame_message, packet))
        return self._encoded


def frame_pong(payload: bytes) -> bytes:
    """Encode a server's answer to a ping."""
    return _head(_PONG, len(payload), 0) + payload


def frame_close(code: int, reason: str = "") -> bytes:
    """Encode a server's close frame with a code and a reason; a reason that is too long is cut."""
    payload = b"" if code == _NO_CODE else code.to_bytes(2) + reason.encode()[: _MAX_CONTROL_BYTES - 2]
    return _head(_CLOSE, len(payload), 0) + payload


def encode_messages(messages: Sequence[Frame], masks: bytes) -> bytes:
    """Encode a client's messages, each as one masked frame.

    Args:
        messages: Text and binary messages.
        masks: Four random bytes for each message.

    Returns:
        The bytes to write.
    """
    parts: list[bytes] = []
    for number, message in enumerate(messages):
        mask = masks[4 * number : 4 * number + 4]
        if isinstance(message, str):
            parts += _frame(_TEXT, message.encode(), mask)
        else:
            parts += _frame(_BINARY, message, mask)
    return b"".join(parts)


def encode_pong(payload: bytes, mask: bytes) -> bytes:
    """Encode a client's answer to a ping; ``mask`` is four random bytes."""
    return b"".join(_frame(_PONG, payload, mask))


def encode_close(code: int, mask: bytes) -> bytes:
    """Encode a client's close frame with a code; ``mask`` is four random bytes."""
    return b"".join(_frame(_CLOSE, code.to_bytes(2), mask))


def _frame(opcode: int, payload: bytes, mask: bytes) -> tuple[bytes, bytes, bytes]:
    return _head(opcode, len(payload), _MASKED), mask, apply_mask(payload, mask)


def _head(opcode: int, length: int, masked: int) -> bytes:
    if length < 126:
        return bytes((_FIN | opcode, masked | length))
    if length < 65_536:
        return bytes((_FIN | opcode, masked | 126)) + length.to_bytes(2)
    return bytes((_FIN | opcode, masked | 127)) + length.to_bytes(8)


_TEXT_HEADS = tuple(_head(_TEXT, length, 0) for length in range(126))


# ---------------------------------------------------------------------------------------------- decoding


@dataclass(frozen=True, slots=True)
class Closing:
    """The reason why no more messages arrive.

    Attributes:
        code: The code to close with: the peer's code, or the code for the peer's mistake.
        problem: The peer's mistake, in words; ``None`` if the peer closed the connection.
    """

    code: int
    problem: str | None = None


class MessageReader:
    """Decodes the frames that the other end sends.

    Args:
        max_message_bytes: The largest message that is accepted, in bytes.
        is_masked: Whether the other end is a client; all its frames must be masked.

    Attributes:
        closing: The reason why no more messages arrive; ``None`` while the connection is open.
        pings: The content of pings without an answer; the code that answers them removes them.
    """

    __slots__ = ("_count", "_fragments", "_mask_bit", "_max_bytes", "_needed", "_opcode", "_rest", "closing", "pings")

    def __init__(self, max_message_bytes: int, *, is_masked: bool = False) -> None:
        self.closing: Closing | None = None
        self.pings: list[bytes] = []
        self._max_bytes = max_message_bytes
        self._mask_bit = _MASKED if is_masked else 0
        # Made for the first incomplete frame: most connections never need it, and a server has many connections.
        self._rest: bytearray | None = None
        self._needed = 0
        self._opcode = 0
        self._fragments: bytearray | None = None
        self._count = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes from the network; after `closing` is set they are ignored.

        Args:
            data: Any number of bytes.

        Returns:
            The messages that these bytes complete, up to the close if `closing` is set now.
        """
        if self._rest is not None:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data = bytes(self._rest)
            self._rest = None
        messages: list[Frame] = []
        position, end, mask_bit = 0, len(data), self._mask_bit
        while position < end and self.closing is None:
            # With a wrong mask bit the result is 128 or more, and `_long` reports the mistake.
            start, length = position + 2, data[position + 1] ^ mask_bit if end - position >= 2 else 0
            if length >= 126:
                start, length = self._long(data, position)
            if length > self._max_bytes:
                self._fail_at_size(length)
                break
            if mask_bit:
                start += 4
            stop = start + length
            if stop > end:
                if end - position >= 2 and (fault := self._fault_of(data[position], length)) is not None:
                    # What is wrong with its beginning is told at once, as other implementations do.
                    self._fail(_PROTOCOL_ERROR, fault)
                    break
                # The length first, if that is not whole yet: it may be too large.
                head = start - position - (4 if mask_bit else 0)
                self._needed = head if head > end - position else stop - position
                self._rest = bytearray(data[position:])
                break
            payload = data[start:stop]
            if mask_bit:
                payload = apply_mask(payload, data[start - 4 : start])
            self._take(data[position], payload, messages)
            position = stop
        return messages

    def _long(self, data: bytes, position: int) -> tuple[int, int]:
        """Decode a length that does not fit into the second byte; returns the place after it, and the length."""
        second = data[position + 1]
        if (second ^ self._mask_bit) & _MASKED:
            self._fail(_PROTOCOL_ERROR, "a frame without a mask" if self._mask_bit else "a masked frame")
            return position, 0
        start = position + (4 if second & 0x7F == 126 else 10)
        return start, int.from_bytes(data[position + 2 : start]) if start <= len(data) else 0

    def _take(self, first: int, payload: bytes, messages: list[Frame]) -> None:
        if self.closing is not None:
            return
        if first == _WHOLE_TEXT and not self._opcode:
            self._finish(_TEXT, payload, messages)
            return
        opcode = first & 0x0F
        fault = self._fault_of(first, len(payload))
        if fault is not None:
            self._fail(_PROTOCOL_ERROR, fault)
        elif opcode == _PING:
            self.pings.append(payload)
        elif opcode == _CLOSE:
            self._take_close(payload)
        elif opcode == _PONG:
            return
        elif first & _FIN and not self._opcode:
            self._finish(opcode, payload, messages)
        else:
            self._take_fragment(opcode, payload, messages, is_last=bool(first & _FIN))

    def _fault_of(self, first: int, length: int) -> str | None:
        """Return the fault of a frame's beginning; ``None`` without one."""
        opcode = first & 0x0F
        if first & 0x70 or opcode not in _OPCODES:
            return f"a frame that begins with 0x{first:02x}"
        if opcode >= _CLOSE:
            is_right = first & _FIN and length <= _MAX_CONTROL_BYTES
            return None if is_right else "a control frame that is not short and whole"
        if (opcode == _CONTINUATION) is not bool(self._opcode):
            return "a fragment that does not belong to the message before it"
        return None

    def _take_close(self, payload: bytes) -> None:
        code = int.from_bytes(payload[:2]) if len(payload) >= 2 else _NO_CODE
        if payload and code not in _CODES and code not in _APPLICATION_CODES:
            self._fail(_PROTOCOL_ERROR, "a close frame without a code that may be sent")
            return
        try:
            payload[2:].decode()
        except UnicodeDecodeError:
            self._fail(_INVALID_DATA, "a close frame whose reason is not UTF-8")
        else:
            self.closing = Closing(code)

    def _take_fragment(self, opcode: int, payload: bytes, messages: list[Frame], *, is_last: bool) -> None:
        if self._fragments is None:
            self._opcode, self._fragments, self._count = opcode, bytearray(), 0
        self._fragments += payload
        self._count += 1
        if len(self._fragments) > self._max_bytes:
            self._fail_at_size(len(self._fragments))
        elif self._count > _MAX_FRAGMENTS:
            self._fail(_TOO_BIG, f"a message in more than {_MAX_FRAGMENTS} fragments")
        elif is_last:
            opcode, message = self._opcode, bytes(self._fragments)
            self._opcode, self._fragments = 0, None
            self._finish(opcode, message, messages)

    def _finish(self, opcode: int, payload: bytes, messages: list[Frame]) -> None:
        if opcode == _BINARY:
            messages.append(payload)
            return
        try:
            messages.append(payload.decode())
        except UnicodeDecodeError:
            self._fail(_INVALID_DATA, "a text message that is not UTF-8")

    def _fail_at_size(self, size: int) -> None:
        self._fail(_TOO_BIG, str(LimitExceeded("message bytes", self._max_bytes, size, "max_payload_bytes")))

    def _fail(self, code: int, problem: str) -> None:
        self.closing = Closing(code, problem)
