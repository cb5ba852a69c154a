"""Engine.IO 3, for clients of Socket.IO 2: translates its frames and payloads to those of revision 4 and back.

Inside Waypost a packet is always a `Frame` of revision 4. Revision 3 differs in this: a binary WebSocket frame starts
with a type byte; packets of a payload have their length in front, counted in UTF-16 units as JavaScript counts; a
payload with a binary packet counts in bytes (the format of XMLHttpRequest 2); clients without binary support get
base64.

Source: Engine.IO protocol, revision 3 ("Encoding").
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Sequence

from waypost.errors import LimitExceeded, MalformedPacket
from waypost.protocol.engineio import Frame, decode_base64, packet_type

__all__ = [
    "decode_frame",
    "decode_payload",
    "encode_binary_payload",
    "encode_frame",
    "encode_text_payload",
    "read_payload",
]

_MESSAGE_BYTE = b"\x04"
_IS_TEXT = 0
_IS_BINARY = 1
_END_OF_LENGTH = 0xFF
_MOST_DIGITS = 15
_LENGTH = re.compile(r"([0-9]{1,15}):")
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")


def encode_frame(frame: Frame, *, text_only: bool) -> Frame:
    """Encode a packet as one WebSocket frame.

    Args:
        frame: The packet.
        text_only: Whether the client accepts no binary frames (``b64=1``).

    Returns:
        The frame in revision 3.
    """
    if isinstance(frame, str):
        return frame
    if text_only:
        return "b4" + binascii.b2a_base64(frame, newline=False).decode()
    return _MESSAGE_BYTE + frame


def decode_frame(frame: Frame) -> Frame:
    """Decode a WebSocket frame.

    Args:
        frame: The frame in revision 3.

    Returns:
        The packet.

    Raises:
        MalformedPacket: The frame is empty, of an unknown type, a binary packet but no message, or invalid base64.
    """
    if isinstance(frame, bytes):
        if not frame.startswith(_MESSAGE_BYTE):
            raise MalformedPacket("a binary message, which begins with the byte 4", frame)
        return frame[1:]
    if not frame.startswith("b"):
        packet_type(frame)
        return frame
    try:
        if not frame.startswith("b4"):
            raise ValueError
        return decode_base64(frame[2:])
    except ValueError as error:
        raise MalformedPacket("a binary message in base64 behind b4", frame) from error


def encode_text_payload(frames: Sequence[Frame]) -> bytes:
    """Join packets into a text payload; binary packets are base64.

    Args:
        frames: The packets, at least one.

    Returns:
        The body, in UTF-8.
    """
    packets = [str(encode_frame(frame, text_only=True)) for frame in frames]
    return "".join([f"{_units(packet)}:{packet}" for packet in packets]).encode()


def encode_binary_payload(frames: Sequence[Frame]) -> bytes:
    """Join packets into a binary payload.

    Args:
        frames: The packets, at least one.

    Returns:
        The body, of type ``application/octet-stream``.
    """
    parts: list[bytes] = []
    for frame in frames:
        kind, data = (_IS_TEXT, frame.encode()) if isinstance(frame, str) else (_IS_BINARY, _MESSAGE_BYTE + frame)
        digits = [int(digit) for digit in str(len(data))]
        parts += (bytes((kind, *digits, _END_OF_LENGTH)), data)
    return b"".join(parts)


def decode_payload(body: bytes, *, max_packets: int) -> list[Frame]:
    """Split the body of a polling request into its packets; see `read_payload`, which yields them."""
    return list(read_payload(body, max_packets=max_packets))


def read_payload(body: bytes, *, max_packets: int) -> Iterator[Frame]:
    """Split the body of a polling request, in either of the two formats, into its packets, one at a time.

    Args:
        body: The whole body.
        max_packets: The most packets of one body.

    Yields:
        The packets in order, at least one.

    Raises:
        MalformedPacket: A length is missing or wrong, or a packet is unreadable. The packets before it are yielded.
        LimitExceeded: The body has more packets than ``max_packets``, which are yielded.
    """
    if not body:
        raise MalformedPacket("a payload with at least one packet", body)
    # A text payload starts with an ASCII digit, a binary payload with the type byte of its first packet: 0 or 1.
    packets = _split_bytes(body) if body[0] in (_IS_TEXT, _IS_BINARY) else _split_text(body)
    for number, packet in enumerate(packets, 1):
        if number > max_packets:
            raise LimitExceeded("packets in a payload", max_packets, number)
        yield decode_frame(packet)


def _split_text(body: bytes) -> Iterator[Frame]:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise MalformedPacket("a payload in UTF-8", body) from error
    has_astral = _ASTRAL.search(text) is not None
    if has_astral:
        text = _ASTRAL.sub(_to_surrogates, text)
    position = 0
    while position < len(text):
        length = _LENGTH.match(text, position)
        if length is None:
            raise MalformedPacket("the length of a packet and a colon", text[position : position + _MOST_DIGITS])
        start, position = length.end(), length.end() + int(length[1])
        if position > len(text):
            raise MalformedPacket(f"a packet of {length[1]} characters", text[start:])
        packet = text[start:position]
        yield _from_surrogates(packet) if has_astral else packet


def _split_bytes(body: bytes) -> Iterator[Frame]:
    position = 0
    while position < len(body):
        end = body.find(_END_OF_LENGTH, position, position + _MOST_DIGITS + 2)
        digits = body[position + 1 : end]
        if body[position] not in (_IS_TEXT, _IS_BINARY) or end < 0 or not digits or max(digits) > 9:
            raise MalformedPacket("the kind and the length of a packet", body[position : position + _MOST_DIGITS])
        length = int("".join(map(str, digits)))
        data = body[end + 1 : end + 1 + length]
        if len(data) < length:
            raise MalformedPacket(f"a packet of {length} bytes", data)
        yield data if body[position] == _IS_BINARY else _text(data)
        position = end + 1 + length


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise MalformedPacket("a packet in UTF-8", data) from error


# JavaScript counts UTF-16 units: a character beyond U+FFFF counts as two.


def _units(text: str) -> int:
    return len(text) if text.isascii() else len(text) + len(_ASTRAL.findall(text))


def _to_surrogates(character: re.Match[str]) -> str:
    code = ord(character[0]) - 0x10000
    return chr(0xD800 + (code >> 10)) + chr(0xDC00 + (code & 0x3FF))


def _from_surrogates(packet: str) -> str:
    try:
        return packet.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise MalformedPacket("a packet that ends between characters", packet) from error
