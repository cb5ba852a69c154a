"""The stream of a host to one node: in order, bounded under way, and bounded in what waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from waypost.storage.host.driving import Then, begin
from waypost.storage.journal_records import Entry
from waypost.storage.wire.frames import FrameWriter, encode
from waypost.storage.wire.link import Link
from waypost.storage.wire.reports import Appended

__all__ = ["Limits", "Outgoing"]

_FRAME_BYTES = 256 << 10
# What a page of entries read again may hold.
_PAGE_ENTRIES = 1000
_PAGE_BYTES = 256 << 10
_ITEM_BYTES = 100


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a host keeps for a node that is slow.

    Attributes:
        window_bytes: The most bytes that are under way to the node.
        held_bytes: What waits behind them with its records; entries beyond are read again from the store.
        waiting_bytes: The most that waits altogether; a node that falls behind further is cut off.
    """

    window_bytes: int = 2 << 20
    held_bytes: int = 4 << 20
    waiting_bytes: int = 64 << 20


@dataclass(slots=True)
class _Span:
    """Entries that are read from the store when their turn comes."""

    journal: int
    first: int
    last: int


class Outgoing:
    """Sends messages to a node.

    Args:
        link: The link.
        limits: How much is kept for it.
        read: Reads entries: the journal's number, the position before the first, and the last.
        overrun: Called when the node has fallen behind too far.
    """

    __slots__ = (
        "_frame",
        "_frame_bytes",
        "_is_closed",
        "_is_pumping",
        "_is_reading",
        "_is_scheduled",
        "_limits",
        "_link",
        "_overrun",
        "_read",
        "_under_way",
        "_waiting",
        "waiting_bytes",
    )

    def __init__(
        self,
        link: Link,
        limits: Limits,
        read: Callable[[int, int, int, int, int], Awaitable[list[Entry]]],
        overrun: Callable[[str], None],
    ) -> None:
        self._link = link
        self._limits = limits
        self._frame_bytes = min(_FRAME_BYTES, limits.window_bytes)
        self._read = read
        self._overrun = overrun
        self._frame = FrameWriter()
        self._under_way = 0
        self._waiting: deque[bytes | _Span] = deque()
        self._is_scheduled = False
        self._is_reading = False
        self._is_pumping = False
        self._is_closed = False
        self.waiting_bytes = 0

    @property
    def is_behind(self) -> bool:
        """Whether messages wait, because the node has not taken in what is under way."""
        return bool(self._waiting) or self._is_reading or self._under_way > self._limits.window_bytes

    @property
    def is_far_behind(self) -> bool:
        """Whether so much waits that entries are read again instead of kept."""
        return self.waiting_bytes >= self._limits.held_bytes

    def add(self, message: object) -> None:
        """Send a message after all earlier ones."""
        if self._is_closed:
            return
        if self.is_behind:
            self._wait(encode(message))
        else:
            self._frame.add(message)
            self._schedule()

    def add_encoded(self, message: bytes) -> None:
        """Send a message that is encoded already."""
        if self._is_closed:
            return
        if self.is_behind:
            self._wait(message)
        else:
            self._frame.add_encoded(message)
            self._schedule()

    def add_entry(self, journal: int, position: int, message: bytes) -> None:
        """Send an entry of a journal, encoded; if the node is far behind, it is read from the store later."""
        if not self._is_closed and self.is_behind and self.is_far_behind:
            last = self._waiting[-1] if self._waiting else None
            if isinstance(last, _Span) and last.journal == journal and last.last == position - 1:
                last.last = position
            else:
                self._waiting.append(_Span(journal, position, position))
                self._count(_ITEM_BYTES)
        else:
            self.add_encoded(message)

    def credit(self, size: int) -> None:
        """Note that the node has taken in so many bytes more."""
        self._under_way -= size
        self._pump()

    def close(self) -> None:
        """Send nothing any more, but for what is under way; forget what waits."""
        self.flush()
        self._is_closed = True
        self._waiting.clear()
        self.waiting_bytes = 0

    def flush(self) -> None:
        """Send what has gathered."""
        self._is_scheduled = False
        if self._frame.messages:
            data = self._frame.take()
            self._under_way += len(data)
            self._link.send(data)

    def _schedule(self) -> None:
        if self._frame.size_bytes > self._frame_bytes:
            self.flush()
        elif not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self.flush)

    def _wait(self, message: bytes) -> None:
        self._waiting.append(message)
        self._count(len(message) + _ITEM_BYTES)

    def _count(self, size: int) -> None:
        self.waiting_bytes += size
        if self.waiting_bytes > self._limits.waiting_bytes:
            self.close()
            self._overrun(f"it has not taken in more than {self._limits.waiting_bytes:,} bytes")

    def _pump(self) -> None:
        if self._is_pumping:
            # A store in memory has read at once.
            return
        self._is_pumping = True
        self.flush()
        while self._waiting and not self._is_reading and self._under_way <= self._limits.window_bytes:
            first = self._waiting.popleft()
            if isinstance(first, _Span):
                self.waiting_bytes -= _ITEM_BYTES
                self._read_again(first)
            else:
                self.waiting_bytes -= len(first) + _ITEM_BYTES
                self._frame.add_encoded(first)
            if self._frame.size_bytes > self._frame_bytes:
                self.flush()
        self.flush()
        self._is_pumping = False

    def _read_again(self, span: _Span) -> None:
        def found(entries: list[Entry]) -> None:
            self._is_reading = False
            if self._is_closed:
                return
            for entry in entries:
                self._frame.add(Appended(span.journal, entry.position, entry.record))
            if entries[-1].position < span.last:
                self._waiting.appendleft(_Span(span.journal, entries[-1].position + 1, span.last))
                self.waiting_bytes += _ITEM_BYTES
            self._pump()

        def failed(error: BaseException) -> None:
            self._is_reading = False
            if not self._is_closed:
                self._overrun(f"the entries it has not seen can't be read: {error}")

        self._is_reading = True
        begin(self._read(span.journal, span.first - 1, span.last, _PAGE_ENTRIES, _PAGE_BYTES), Then(found, failed))
