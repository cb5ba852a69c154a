"""The client's brain across connections: when to try again, what it has seen, what it still has to send."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from waypost.protocol.offsets import SeenOffsets, is_before, is_foreign_offset

__all__ = ["Backoff", "Continuity", "SendBuffer"]

T = TypeVar("T")


class Backoff:
    """How long to wait before each attempt to reconnect: doubling, with jitter, up to a limit.

    The defaults are the JavaScript client's. Unlike its, the jitter does not vanish at the limit, where a
    whole fleet of clients would come back in step: the longest wait is spread too, below the limit.

    Args:
        delay_s: Seconds before the first attempt, before jitter.
        delay_max_s: The most seconds before any attempt.
        jitter: How far a wait may be off, as a share of it, from 0 to 1.
    """

    __slots__ = ("_delay_s", "_jitter", "_longest_s", "attempts")

    def __init__(self, *, delay_s: float = 1.0, delay_max_s: float = 5.0, jitter: float = 0.5) -> None:
        self._delay_s = delay_s
        self._longest_s = delay_max_s / (1 + jitter)
        self._jitter = jitter
        self.attempts = 0

    def next_s(self, chance: float) -> float:
        """Give the wait before the next attempt.

        Args:
            chance: A random number from 0 to 1.

        Returns:
            Seconds to wait.
        """
        doublings = min(self.attempts, 64)  # far beyond any limit, and 2.0**1024 overflows
        self.attempts += 1
        wait_s = min(self._delay_s * 2.0**doublings, self._longest_s)
        return wait_s * (1 + self._jitter * (2 * chance - 1))


class Continuity:
    """What a client remembers of a namespace so that the server can send what it missed.

    A server with recovery gives a private id in its answer to CONNECT, and an offset as the last argument of
    events that ask for no acknowledgement. Sent back at the next CONNECT, they say where to go on.

    Attributes:
        pid: The private id of the current session; ``None`` while the server has no recovery.
        offset: The offset of the last event; ``None`` before the first one.
    """

    __slots__ = ("_always_offset", "_is_certain", "_seen", "offset", "pid")

    def __init__(self) -> None:
        self.pid: str | None = None
        self.offset: str | None = None
        self._always_offset = False
        self._is_certain = False
        self._seen = SeenOffsets()

    def request(self, auth: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Give the payload of the next CONNECT.

        Args:
            auth: The application's own credentials; its keys win, as with the JavaScript client.

        Returns:
            The credentials with ``pid`` and ``offset``, where there are any; ``None`` if there is nothing to send.
        """
        payload: dict[str, Any] = {}
        if self.pid is not None:
            payload["pid"] = self.pid
            if self.offset is not None:
                payload["offset"] = self.offset
        if auth is not None:
            payload.update(auth)
        return payload if payload or auth is not None else None

    def accept(self, pid: str | None, *, always_offset: bool) -> bool:
        """Take the private id from the answer to CONNECT.

        Args:
            pid: The id, or ``None`` if the server gave none.
            always_offset: Whether every event without an ack id will carry an offset: so it is with Waypost. With
                other servers a text is taken for one by its form.

        Returns:
            Whether the session goes on where it was; if not, the old offset is forgotten.
        """
        self._always_offset = always_offset
        recovered = pid is not None and pid == self.pid
        if not recovered:
            self.forget()
            self.pid = pid
        return recovered

    def take(self, data: list[Any], now_s: float) -> list[Any] | None:
        """Take the offset off an event without an ack id, and remember it.

        Call it once for every such event, in the order of arrival, and after `accept`. With Waypost, an event at the
        offset of the one before is a volatile one, which has no position of its own.

        Args:
            data: The event's name and arguments.
            now_s: The time of day, in seconds since 1970.

        Returns:
            The name and the arguments that are meant for the application; ``None`` if the event was seen already.
        """
        if self.pid is None or len(data) == 1 or not isinstance(data[-1], str):
            return data
        offset = data[-1]
        if self._always_offset:
            if self.offset is not None and is_before(offset, self.offset):
                return None
        elif is_foreign_offset(offset, now_s):
            self._is_certain = True
            if not self._seen.add(offset):
                return None
        else:
            # Perhaps an unknown adapter's. The JavaScript client would keep it; its application sees it, too.
            if not self._is_certain:
                self.offset = offset
            return data
        self.offset = offset
        return data[:-1]

    def forget(self) -> None:
        """Begin anew at the next CONNECT."""
        self.pid = None
        self.offset = None
        self._is_certain = False
        self._seen.clear()


class SendBuffer(Generic[T]):
    """What waits to be sent, in order and within limits.

    Args:
        max_items: The most items that may wait.
        max_bytes: The most bytes that may wait; a single item may be larger.
    """

    __slots__ = ("_bytes", "_items", "_max_bytes", "_max_items")

    def __init__(self, *, max_items: int, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def push(self, item: T, size: int) -> bool:
        """Put an item at the end.

        Args:
            item: What to send.
            size: How many bytes it is.

        Returns:
            Whether there was room; if not, nothing changed.
        """
        if self._items and (len(self._items) >= self._max_items or self._bytes + size > self._max_bytes):
            return False
        self.push_over_limit(item, size)
        return True

    def push_over_limit(self, item: T, size: int) -> None:
        """Put an item at the end whether there is room or not.

        Args:
            item: What to send.
            size: How many bytes it is.
        """
        self._items.append((item, size))
        self._bytes += size

    def put_back(self, item: T, size: int) -> None:
        """Put an item that could not be sent back to the front.

        Args:
            item: What `pop` gave.
            size: How many bytes it is.
        """
        self._items.appendleft((item, size))
        self._bytes += size

    def peek(self) -> T | None:
        """Return the item at the front; ``None`` if nothing waits."""
        return self._items[0][0] if self._items else None

    def pop(self) -> T | None:
        """Take the item at the front; ``None`` if nothing waits."""
        if not self._items:
            return None
        item, size = self._items.popleft()
        self._bytes -= size
        return item

    def remove(self, item: T, size: int) -> bool:
        """Take an item out, wherever it is.

        Args:
            item: What was pushed.
            size: How many bytes it is, as it was pushed.

        Returns:
            Whether it was still there.
        """
        if (item, size) not in self._items:
            return False
        self._items.remove((item, size))
        self._bytes -= size
        return True

    def drop(self, is_unwanted: Callable[[T], bool]) -> None:
        """Take out whatever is not wanted any more.

        Args:
            is_unwanted: Tells of each item whether it is to go.
        """
        self._items = deque((item, size) for item, size in self._items if not is_unwanted(item))
        self._bytes = sum(size for _, size in self._items)
