"""WebSocket frames as the load generator needs them: found and counted, with as little work as can be. Pure."""

from __future__ import annotations

from waypost.protocol.websocket import encode_messages, encode_pong

__all__ = ["MASK", "FrameCounter", "client_frame", "heartbeat_answer", "payload_bounds", "split_masked"]

MASK = b"\x37\xfa\x21\x3d"
"""One for all: what is random about it protects proxies, not the measurement. Not zero, which ws would skip."""

_BINARY = 2
_WHOLE_PING = 0x89
_MAX_CONTROL_BYTES = 125


def client_frame(message: str | bytes) -> bytes:
    """Give a message as one masked frame."""
    return encode_messages([message], MASK)


_PONG = client_frame("3")


def payload_bounds(data: bytes, at: int) -> tuple[int, int]:
    """Find the payload of the frame that begins at an index, masked or not.

    Returns:
        Where it begins and ends; ``(0, 0)`` if its header is not all there yet. The end may be past the data's.
    """
    there = len(data) - at
    if there < 2:
        return 0, 0
    second = data[at + 1]
    size, start = second & 127, at + 2
    if size > 125:
        width = 2 if size == 126 else 8
        if there < 2 + width:
            return 0, 0
        size = int.from_bytes(data[start : start + width], "big")
        start += width
    if second & 128:
        start += 4
    return start, start + size


def heartbeat_answer(first: int, payload: bytes) -> bytes | None:
    """Give what answers a frame that asks for a sign of life, Engine.IO's or WebSocket's; ``None`` for any other.

    Args:
        first: The frame's first byte.
        payload: What is in it.
    """
    if first == _WHOLE_PING:
        return encode_pong(payload, MASK)
    return _PONG if payload == b"2" else None


def split_masked(data: bytes) -> tuple[list[bytes], bytes]:
    """Cut whole frames off, as they are; returns them and the rest."""
    frames: list[bytes] = []
    at = 0
    while True:
        start, stop = payload_bounds(data, at)
        if not start or stop > len(data):
            return frames, data[at:]
        frames.append(data[at:stop])
        at = stop


class FrameCounter:
    """Counts a server's frames of at least a size without looking at what is in them.

    Args:
        least_bytes: How large a payload must be to count.
        is_binary: Whether binary frames count; else text frames do.
    """

    __slots__ = ("_counts", "_head", "_kind", "_least", "_left", "heartbeats")

    def __init__(self, least_bytes: int, is_binary: bool) -> None:
        self.expect(least_bytes, is_binary)
        self._left = 0
        self._counts = False
        self._head = b""
        self.heartbeats: list[bytes] = []
        """The answers to frames that asked for a sign of life, until somebody takes them."""

    def expect(self, least_bytes: int, is_binary: bool) -> None:
        """Count others from now on."""
        self._least = least_bytes
        self._kind = 0x80 | (_BINARY if is_binary else 1)

    def feed(self, data: bytes) -> int:
        """Take what was received; returns how many frames that count ended in it."""
        found = 0
        if self._head:
            data, self._head = self._head + data, b""
        at, end = self._left, len(data)
        if at > end:
            self._left -= end
            return 0
        if at:
            found += self._counts
            self._left = 0
        while at < end:
            start, stop = payload_bounds(data, at)
            if not start:
                self._head = data[at:]
                break
            size = stop - start
            counts = size >= self._least and data[at] == self._kind
            if stop > end:
                self._left, self._counts = stop - end, counts
                break
            if counts:
                found += 1
            elif size <= _MAX_CONTROL_BYTES and (answer := heartbeat_answer(data[at], data[start:stop])):
                self.heartbeats.append(answer)
            at = stop
        return found
