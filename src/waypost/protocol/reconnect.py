"""The client's state across connections: the recovery position, and the events to send."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from waypost.protocol.offsets import SeenOffsets, is_before, is_foreign_offset

__all__ = ["Continuity", "SendBuffer"]

T = TypeVar("T")


class Continuity:
    """The client's recovery position in a namespace, from which the server can send the missed events.

    A server with recovery puts a private id into its answer to CONNECT, and an offset behind the arguments of
    events that request no acknowledgement. The client sends both back at the next CONNECT.

    Attributes:
        pid: The private id of the current session; ``None`` without recovery.
        offset: The offset of the last event; ``None`` before the first event.
    """

    __slots__ = ("_always_offset", "_is_certain", "_seen", "offset", "pid")

    def __init__(self) -> None:
        self.pid: str | None = None
        self.offset: str | None = None
        self._always_offset = False
        self._is_certain = False
        self._seen = SeenOffsets()

    def request(self, auth: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Return the payload of the next CONNECT.

        Args:
            auth: The application's credentials; its keys win, as in the JavaScript client.

        Returns:
            The credentials with ``pid`` and ``offset`` added, as far as they are known; ``None`` if there is no
            payload.
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
            pid: The id; ``None`` if the server sent none.
            always_offset: Whether every event without an ack id carries an offset, as Waypost's do. With other
                servers, the form of a text decides.

        Returns:
            Whether the server recovered the session. If not, the old offset is forgotten.
        """
        self._always_offset = always_offset
        recovered = pid is not None and pid == self.pid
        if not recovered:
            self.forget()
            self.pid = pid
        return recovered

    def take(self, data: list[Any], now_s: float) -> list[Any] | None:
        """Remove the offset from an event without an ack id, and remember it.

        Call it for every such event, in the order of arrival, after `accept`. A volatile event of Waypost has no
        position and carries the offset of the event before it.

        Args:
            data: The event's name and arguments.
            now_s: The wall time, in seconds since 1970.

        Returns:
            The name and the application's arguments; ``None`` if the event arrived before.
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
            # The text may be an unknown adapter's offset. Like the JavaScript client, keep it and pass it on too.
            if not self._is_certain:
                self.offset = offset
            return data
        self.offset = offset
        return data[:-1]

    def forget(self) -> None:
        """Start a new session at the next CONNECT."""
        self.pid = None
        self.offset = None
        self._is_certain = False
        self._seen.clear()


class SendBuffer(Generic[T]):
    """A first-in, first-out buffer of items to send, with limits.

    Args:
        max_items: The most items that may wait.
        max_bytes: The most bytes that may wait; an item that is alone may be larger.
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
        """Append an item if the limits allow it.

        Args:
            item: The item.
            size: The item's size, in bytes.

        Returns:
            Whether the item was appended.
        """
        if self._items and (len(self._items) >= self._max_items or self._bytes + size > self._max_bytes):
            return False
        self.push_over_limit(item, size)
        return True

    def push_over_limit(self, item: T, size: int) -> None:
        """Append an item regardless of the limits.

        Args:
            item: The item.
            size: The item's size, in bytes.
        """
        self._items.append((item, size))
        self._bytes += size

    def put_back(self, item: T, size: int) -> None:
        """Return an item that could not be sent to the front.

        Args:
            item: The item from `pop`.
            size: The item's size, in bytes.
        """
        self._items.appendleft((item, size))
        self._bytes += size

    def peek(self) -> T | None:
        """Return the item at the front, or ``None`` if the buffer is empty."""
        return self._items[0][0] if self._items else None

    def pop(self) -> T | None:
        """Remove and return the item at the front, or ``None`` if the buffer is empty."""
        if not self._items:
            return None
        item, size = self._items.popleft()
        self._bytes -= size
        return item

    def remove(self, item: T, size: int) -> bool:
        """Remove an item from any place.

        Args:
            item: The item.
            size: The size with which it was pushed, in bytes.

        Returns:
            Whether the item was in the buffer.
        """
        if (item, size) not in self._items:
            return False
        self._items.remove((item, size))
        self._bytes -= size
        return True

    def drop(self, is_unwanted: Callable[[T], bool]) -> None:
        """Remove all items that match.

        Args:
            is_unwanted: Returns whether to remove an item.
        """
        self._items = deque((item, size) for item, size in self._items if not is_unwanted(item))
        self._bytes = sum(size for _, size in self._items)
