"""WebSocket messages, as a client reads and writes them; without extensions.

Each call takes all that is there: a batch of messages costs one read or write of the network, and one turn of
whoever waits, however many they are.
Source: RFC 6455, sections 5 to 7.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1

from waypost.protocol.engineio import Frame

__all__ = ["Closing", "MessageReader", "accept_key", "encode_close", "encode_messages", "encode_pong"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FIN = 0x80
_MASKED = 0x80
_WHOLE_TEXT = _FIN | _TEXT
_MAX_CONTROL_BYTES = 125

_NORMAL, _PROTOCOL_ERROR, _NO_CODE, _INVALID_DATA, _TOO_BIG = 1000, 1002, 1005, 1007, 1009
_CODES = frozenset((*range(1000, 1004), *range(1007, 1015)))
_APPLICATION_CODES = range(3000, 5000)


def accept_key(key: str) -> str:
    """Give what a server has to answer to the key of a handshake (section 4.2.2)."""
    return b64encode(sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


# ---------------------------------------------------------------------------------------------- encoding


def encode_messages(messages: Sequence[Frame], masks: bytes) -> bytes:
    """Encode messages, each as one frame.

    Args:
        messages: Text and binary messages.
        masks: Four random bytes for each of them.

    Returns:
        What to write.
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
    """Encode the answer to a ping; ``mask`` is four random bytes."""
    return b"".join(_frame(_PONG, payload, mask))


def encode_close(code: int, mask: bytes) -> bytes:
    """Encode that the connection closes, with a code; ``mask`` is four random bytes."""
    return b"".join(_frame(_CLOSE, code.to_bytes(2), mask))


def _frame(opcode: int, payload: bytes, mask: bytes) -> tuple[bytes, bytes, bytes]:
    length = len(payload)
    if length < 126:
        head = bytes((_FIN | opcode, _MASKED | length))
    elif length < 65_536:
        head = bytes((_FIN | opcode, _MASKED | 126)) + length.to_bytes(2)
    else:
        head = bytes((_FIN | opcode, _MASKED | 127)) + length.to_bytes(8)
    # As one large number: Python has no faster way to combine bytes.
    key = int.from_bytes((mask * (length // 4 + 1))[:length], "little")
    return head, mask, (int.from_bytes(payload, "little") ^ key).to_bytes(length, "little")


# ---------------------------------------------------------------------------------------------- decoding


@dataclass(frozen=True, slots=True)
class Closing:
    """Why no more messages come.

    Attributes:
        code: The code to close with: the peer's own, or the one that says what it did wrong.
        problem: How the peer broke the protocol; ``None`` if it closed the connection.
    """

    code: int
    problem: str | None = None


class MessageReader:
    """Reads what a server sends.

    Args:
        max_message_bytes: The largest message that is taken, in bytes.

    Attributes:
        closing: Why no more messages come; ``None`` while they do.
        pings: What the pings had with them that are not answered yet; whoever answers takes them out.
    """

    __slots__ = ("_fragments", "_max_bytes", "_needed", "_opcode", "_rest", "closing", "pings")

    def __init__(self, max_message_bytes: int) -> None:
        self.closing: Closing | None = None
        self.pings: list[bytes] = []
        self._max_bytes = max_message_bytes
        self._rest = bytearray()
        self._needed = 0
        self._opcode = 0
        self._fragments = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes as they come from the network; after the end they are ignored.

        Args:
            data: Any number of bytes.

        Returns:
            The messages that are complete with them, up to the end if `closing` is set now.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data = bytes(self._rest)
            self._rest.clear()
        messages: list[Frame] = []
        position, end = 0, len(data)
        while self.closing is None:
            start, length = position + 2, data[position + 1] if end - position >= 2 else 0
            if length >= 126:
                start, length = self._long(data, position)
            if length > self._max_bytes:
                self._fail(_TOO_BIG, f"a message of more than {self._max_bytes} bytes")
                break
            stop = start + length
            if stop > end:
                self._needed = stop - position
                self._rest += data[position:]
                break
            self._take(data[position], data[start:stop], messages)
            position = stop
        return messages

    def _long(self, data: bytes, position: int) -> tuple[int, int]:
        """Read a length that does not fit into the second byte; gives where the payload starts, and its length."""
        second = data[position + 1]
        if second & _MASKED:
            self._fail(_PROTOCOL_ERROR, "a masked frame")
            return position, 0
        start = position + (4 if second == 126 else 10)
        return start, int.from_bytes(data[position + 2 : start]) if start <= len(data) else 0

    def _take(self, first: int, payload: bytes, messages: list[Frame]) -> None:
        if self.closing is not None:
            return
        if first == _WHOLE_TEXT and not self._opcode:
            self._finish(_TEXT, payload, messages)
            return
        opcode = first & 0x0F
        if first & 0x70 or opcode not in (_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG):
            self._fail(_PROTOCOL_ERROR, f"a frame that begins with 0x{first:02x}")
        elif opcode >= _CLOSE:
            self._take_control(opcode, payload, is_whole=bool(first & _FIN))
        elif (opcode == _CONTINUATION) is not bool(self._opcode):
            self._fail(_PROTOCOL_ERROR, "a fragment that does not belong to the message before it")
        else:
            self._take_fragment(opcode, payload, messages, is_last=bool(first & _FIN))

    def _take_control(self, opcode: int, payload: bytes, *, is_whole: bool) -> None:
        if not is_whole or len(payload) > _MAX_CONTROL_BYTES:
            self._fail(_PROTOCOL_ERROR, "a control frame that is not short and whole")
        elif opcode == _PING:
            self.pings.append(payload)
        elif opcode == _CLOSE:
            self._take_close(payload)

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
        self._opcode = opcode or self._opcode
        self._fragments += payload
        if len(self._fragments) > self._max_bytes:
            self._fail(_TOO_BIG, f"a message of more than {self._max_bytes} bytes")
        elif is_last:
            opcode, message = self._opcode, bytes(self._fragments)
            self._opcode = 0
            self._fragments.clear()
            self._finish(opcode, message, messages)

    def _finish(self, opcode: int, payload: bytes, messages: list[Frame]) -> None:
        if opcode == _BINARY:
            messages.append(payload)
            return
        try:
            messages.append(payload.decode())
        except UnicodeDecodeError:
            self._fail(_INVALID_DATA, "a text message that is not UTF-8")

    def _fail(self, code: int, problem: str) -> None:
        self.closing = Closing(code, problem)
