"""Cuts what a client sends at the ends of its requests, so that a request can be handed over unread.

uvicorn's parser does not say where a request ends among bytes that hold several. It is fed in pieces instead that end
where a request may end. Whether one did end there is the parser's word alone: if this module read a length in another
way, a request could be smuggled past a proxy.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["RequestCuts"]

_END = b"\r\n\r\n"
_DIGITS = 18

Headers = Sequence[tuple[bytes, bytes]]


class RequestCuts:
    """The place in one connection's stream of requests.

    Attributes:
        head: What has come of the next request's line and headers; all of it, if `is_head` is true.
        is_head: Whether the piece that was cut last ends the head.
        is_lost: Whether the ends of requests are not known any more. Nothing more can be handed over.
    """

    __slots__ = ("_in_body", "_left", "head", "is_head", "is_lost")

    def __init__(self) -> None:
        self.head = b""
        self.is_head = False
        self.is_lost = False
        self._in_body = False
        self._left: int | None = None

    def cut(self, data: bytes) -> int:
        """Return how many bytes to pass to the parser next, at least one.

        Args:
            data: What has come, at least one byte, and has not been passed to the parser.
        """
        self.is_head = False
        if self.is_lost:
            return len(data)
        if not self._in_body:
            return self._cut_head(data)
        if self._left is not None:
            return min(self._left, len(data))
        # The end of a body in chunks is the end of a line.
        return data.find(b"\n") + 1 or len(data)

    def _cut_head(self, data: bytes) -> int:
        before = len(self.head)
        self.head += data
        end = self.head.find(_END, max(0, before - len(_END) + 1))
        if end < 0:
            return len(data)
        self.is_head = True
        self.head = self.head[: end + len(_END)]
        return len(self.head) - before

    def passed(self, size: int, *, in_head: bool, in_body: bool, headers: Headers) -> None:
        """Note what the parser has made of the piece that was cut last.

        Args:
            size: The number of its bytes.
            in_head: Whether the parser is within a head now.
            in_body: Whether it is within a body now.
            headers: The headers of the request that it has read last; names are in lower case.
        """
        if self._in_body:
            self._left = None if self._left is None else self._left - size
            self.is_lost = in_head or (in_body and self._left == 0)
            self._in_body = in_body
        elif self.is_head:
            self.head = b""
            self.is_lost = in_head
            self._in_body = in_body
            self._left = _length(headers) if in_body else None
        elif in_body:
            # A head that ends otherwise than all others do.
            self.is_lost = True


def _length(headers: Headers) -> int | None:
    """Return the length of a body; ``None`` if it comes in chunks, or its length can't be read."""
    for name, value in headers:
        if name == b"content-length":
            digits = value.strip()
            return int(digits) if digits.isdigit() and len(digits) <= _DIGITS and int(digits) else None
    return None
