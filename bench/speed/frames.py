"""WebSocket frames as the load generator needs them: found and counted, with as little work as can be. Pure."""

from __future__ import annotations

from waypost.protocol.websocket import encode_messages

__all__ = ["MASK", "FrameCounter", "client_frame", "payload_bounds", "split_masked"]

MASK = b"\x37\xfa\x21\x3d"
"""One for all: what is random about it protects proxies, not the measurement. Not zero, which ws would skip."""

_BINARY = 2


def client_frame(message: str | bytes) -> bytes:
    """Give a message as one masked frame."""
    return encode_messages([message], MASK)


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

    __slots__ = ("_counts", "_head", "_kind", "_least", "_left", "small")

    def __init__(self, least_bytes: int, is_binary: bool) -> None:
        self.expect(least_bytes, is_binary)
        self._left = 0
        self._counts = False
        self._head = b""
        self.small = 0
        """How many one-byte text frames came since this was last set to zero: pings."""

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
            elif size == 1:
                self.small += 1
            at = stop
        return found
