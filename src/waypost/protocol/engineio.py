"""Engine.IO 4: packets as WebSocket frames carry them, and the payloads of HTTP long-polling.

A packet here is a `Frame`, the content of one WebSocket frame: text is a type digit and data, bytes are a binary
message. The codec never reads a message's content; that is the job of the layer above.

Source: Engine.IO protocol, revision 4 ("Packet encoding").
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import orjson

from waypost.errors import LimitExceeded, MalformedPacket

__all__ = [
    "SEPARATOR",
    "Frame",
    "OpenParameters",
    "PacketType",
    "decode_base64",
    "decode_payload",
    "encode_payload",
    "open_frame",
    "packet_type",
    "parse_open",
    "polled_size",
    "read_payload",
]

Frame: TypeAlias = str | bytes
"""A packet as the content of a WebSocket frame: text (type digit and data) or a binary message (no type byte)."""

SEPARATOR = "\x1e"
"""Separates the packets of a payload. No message contains it, because JSON escapes control characters."""


class PacketType(StrEnum):
    """The types of Engine.IO packets; each is the digit at the start of a text frame."""

    OPEN = "0"
    CLOSE = "1"
    PING = "2"
    PONG = "3"
    MESSAGE = "4"
    UPGRADE = "5"
    NOOP = "6"


_TYPES = {packet.value: packet for packet in PacketType}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenParameters:
    """The parameters that a server's open packet carries.

    Attributes:
        sid: The session's secret id.
        upgrades: The names of the transports to which the session may upgrade.
        ping_interval_s: Seconds between the server's pings.
        ping_timeout_s: Seconds that the server waits for a pong.
        max_payload_bytes: The largest message or POST body that the server accepts; ``None`` if the packet lacks it
            (servers before 2022).
    """

    sid: str
    upgrades: tuple[str, ...]
    ping_interval_s: float
    ping_timeout_s: float
    max_payload_bytes: int | None


def packet_type(frame: Frame) -> PacketType:
    """Return a packet's type.

    Args:
        frame: A packet; bytes are always a message.

    Raises:
        MalformedPacket: The frame is empty text, or starts with an unknown character.
    """
    if isinstance(frame, bytes):
        return PacketType.MESSAGE
    known = _TYPES.get(frame[:1])
    if known is None:
        raise MalformedPacket("an Engine.IO packet type from 0 to 6", frame)
    return known


def decode_payload(body: bytes, *, max_packets: int) -> list[Frame]:
    """Split the body of a polling request or response into its packets; see `read_payload`, which yields them."""
    return list(read_payload(body, max_packets=max_packets))


def read_payload(body: bytes, *, max_packets: int) -> Iterator[Frame]:
    """Split the body of a polling request or response into its packets, one at a time.

    Args:
        body: The whole body: UTF-8, packets separated by the record separator, binary packets in base64.
        max_packets: The most packets of one body.

    Yields:
        The packets in order, at least one.

    Raises:
        MalformedPacket: The body is not UTF-8, or a packet is empty, of an unknown type, or invalid base64. The
            packets before such a packet are yielded.
        LimitExceeded: The body has more packets than ``max_packets``.
    """
    count = body.count(b"\x1e") + 1
    if count > max_packets:
        raise LimitExceeded("packets in a payload", max_packets, count)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise MalformedPacket("a payload in UTF-8", body) from error
    start = 0
    while (end := text.find(SEPARATOR, start)) >= 0:
        yield _decode_packet(text[start:end])
        start = end + 1
    yield _decode_packet(text[start:])


def _decode_packet(packet: str) -> Frame:
    if packet.startswith("b"):
        try:
            return decode_base64(packet[1:])
        except ValueError as error:
            raise MalformedPacket("a binary packet in base64", packet) from error
    packet_type(packet)
    return packet


def decode_base64(text: str) -> bytes:
    """Decode base64 as clients encode it: the official client for Java breaks it into lines.

    Raises:
        ValueError: The text contains other characters.
    """
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return binascii.a2b_base64(text.replace("\n", "").replace("\r", ""), strict_mode=True)


def encode_payload(frames: Sequence[Frame]) -> bytes:
    """Join packets into the body of a polling response or request.

    Args:
        frames: The packets, at least one.

    Returns:
        The body: UTF-8, binary packets in base64.
    """
    return b"\x1e".join(
        [
            frame.encode() if isinstance(frame, str) else b"b" + binascii.b2a_base64(frame, newline=False)
            for frame in frames
        ]
    )


def polled_size(frame: Frame) -> int:
    """Return the number of bytes that a packet adds to a payload, separator and base64 included."""
    if isinstance(frame, bytes):
        return 2 + (len(frame) + 2) // 3 * 4
    return 1 + (len(frame) if frame.isascii() else len(frame.encode("utf-8", "surrogatepass")))


def open_frame(
    sid: str,
    upgrades: Sequence[str],
    ping_interval_s: float,
    ping_timeout_s: float,
    max_payload_bytes: int,
) -> str:
    """Return the packet that opens a session.

    Args:
        sid: The session's secret id.
        upgrades: The names of the transports to which the session may upgrade.
        ping_interval_s: Seconds between pings; sent as whole milliseconds.
        ping_timeout_s: Seconds that the server waits for a pong; sent as whole milliseconds.
        max_payload_bytes: The largest message or POST body that the server accepts.
    """
    parameters = {
        "sid": sid,
        "upgrades": list(upgrades),
        "pingInterval": round(ping_interval_s * 1000),
        "pingTimeout": round(ping_timeout_s * 1000),
        "maxPayload": max_payload_bytes,
    }
    return PacketType.OPEN + orjson.dumps(parameters).decode()


def parse_open(frame: str) -> OpenParameters:
    """Decode the packet that opens a session, on the client.

    Args:
        frame: The first packet from the server.

    Returns:
        The parameters.

    Raises:
        MalformedPacket: The packet is no open packet, or one of its values is missing or invalid.
    """
    expected = "an open packet with sid, upgrades, pingInterval and pingTimeout"
    if not frame.startswith(PacketType.OPEN):
        raise MalformedPacket(expected, frame)
    try:
        values = orjson.loads(frame[1:])
    except orjson.JSONDecodeError as error:
        raise MalformedPacket(expected, frame) from error
    if not isinstance(values, dict):
        raise MalformedPacket(expected, frame)
    sid = values.get("sid")
    upgrades = values.get("upgrades")
    interval_ms: Any = values.get("pingInterval")
    timeout_ms: Any = values.get("pingTimeout")
    largest = values.get("maxPayload")
    if (
        not (isinstance(sid, str) and sid)
        or not (isinstance(upgrades, list) and all(isinstance(name, str) for name in upgrades))
        or not (_is_positive(interval_ms) or interval_ms == 0)  # python-engineio rounds a short interval to 0
        or not _is_positive(timeout_ms)
        or not (largest is None or (isinstance(largest, int) and _is_positive(largest)))
    ):
        raise MalformedPacket(expected, frame)
    return OpenParameters(
        sid=sid,
        upgrades=tuple(upgrades),
        ping_interval_s=interval_ms / 1000,
        ping_timeout_s=timeout_ms / 1000,
        max_payload_bytes=largest,
    )


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
