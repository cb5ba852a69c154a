"""The messages of this node to one other: numbered, kept until that one has handled them, bounded."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from waypost.storage.postgres.mesh.messages import Message
from waypost.storage.postgres.mesh.progress import Progress
from waypost.storage.wire.frames import encode

__all__ = ["Limits", "Outgoing", "Way"]

_ITEM_BYTES = 100


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a node keeps for another one that is slow or can't be reached.

    Attributes:
        window_bytes: The most bytes that are sent and not handled.
        held_bytes: What waits behind them before messages that may be dropped are.
        waiting_bytes: The most that waits altogether; a node that falls behind further loses the stream.
        waiting_messages: The same in messages.
    """

    window_bytes: int = 2 << 20
    held_bytes: int = 4 << 20
    waiting_bytes: int = 64 << 20
    waiting_messages: int = 200_000


class Way(Protocol):
    """A connection on which the other node has said which messages it has."""

    def send(self, message: bytes) -> None:
        """Send an encoded message soon."""
        ...


class Outgoing:
    """The stream of messages to another node; it goes on over several connections.

    Args:
        limits: How much is kept.
        progress: What this node has applied.
        broken: Called when what waited is lost: the other node has fallen behind too far, or took this one for dead.

    Attributes:
        stream: The name of the stream. Another one says that messages of the one before are lost.
    """

    __slots__ = (
        "_broken",
        "_drained",
        "_is_broken",
        "_limits",
        "_moves",
        "_number",
        "_progress",
        "_sent",
        "_sent_bytes",
        "_waiting",
        "_waiting_bytes",
        "_way",
        "stream",
    )

    def __init__(self, limits: Limits, progress: Progress, broken: Callable[[], None]) -> None:
        self.stream = secrets.token_hex(8)
        self._limits = limits
        self._progress = progress
        self._broken = broken
        self._way: Way | None = None
        self._drained = asyncio.Event()
        self._is_broken = False
        self._number = 0
        self._moves = 0
        self._sent: deque[tuple[int, bytes]] = deque()
        self._sent_bytes = 0
        self._waiting: deque[tuple[str, bytes, bool]] = deque()
        self._waiting_bytes = 0

    @property
    def is_far_behind(self) -> bool:
        """Whether so much waits that messages that may be dropped are."""
        return self._waiting_bytes >= self._limits.held_bytes

    async def drained(self) -> None:
        """Wait until the other node has handled all messages. May be cancelled."""
        while self._sent or self._waiting:
            self._drained.clear()
            await self._drained.wait()

    def add(self, topic: str, content: bytes, *, may_drop: bool = False) -> None:
        """Send a message after all earlier ones, or drop it."""
        if may_drop and (self._is_broken or self.is_far_behind):
            return
        if self._way is not None and not self._waiting and self._sent_bytes <= self._limits.window_bytes:
            self._send(self._way, topic, content)
            return
        self._waiting.append((topic, content, may_drop))
        self._waiting_bytes += len(content) + _ITEM_BYTES
        if self._is_too_much():
            self._drop()
            if self._is_too_much():
                self.give_up()

    def connected(self, way: Way, received: int) -> None:
        """Send what the other node has not received over a new connection, and then what comes."""
        self._way, self._is_broken = way, False
        for number, message in self._sent:
            if number > received:
                way.send(message)
        self._pump()

    def disconnected(self) -> None:
        """Keep what comes until there is a connection again."""
        self._way = None

    def unreachable(self) -> None:
        """Drop what may be dropped: the other node has not been reached for some time."""
        self._is_broken = True
        self._drop()

    def handled(self, number: int) -> None:
        """Note that the other node has handled all messages up to a number."""
        sent = self._sent
        while sent and sent[0][0] <= number:
            self._sent_bytes -= len(sent.popleft()[1]) + _ITEM_BYTES
        self._pump()
        if not sent:
            self._drained.set()

    def give_up(self) -> None:
        """Begin anew, and say so: the other node will miss messages."""
        self.begin_anew()
        self._broken()

    def begin_anew(self) -> None:
        """Give up all messages, and begin another stream on the next connection."""
        self.stream = secrets.token_hex(8)
        self._way = None
        self._number = self._moves = self._sent_bytes = self._waiting_bytes = 0
        self._sent.clear()
        self._waiting.clear()
        self._drained.set()

    def _pump(self) -> None:
        while self._way is not None and self._waiting and self._sent_bytes <= self._limits.window_bytes:
            topic, content, _ = self._waiting.popleft()
            self._waiting_bytes -= len(content) + _ITEM_BYTES
            self._send(self._way, topic, content)

    def _send(self, way: Way, topic: str, content: bytes) -> None:
        # Only now: what was dropped before has named no ticks that the other node would miss.
        self._moves, ticks = self._progress.moved_since(self._moves)
        self._number += 1
        message = encode(Message(self._number, topic, content, ticks))
        self._sent.append((self._number, message))
        self._sent_bytes += len(message) + _ITEM_BYTES
        way.send(message)

    def _is_too_much(self) -> bool:
        limits = self._limits
        return self._waiting_bytes > limits.waiting_bytes or len(self._waiting) > limits.waiting_messages

    def _drop(self) -> None:
        kept = [one for one in self._waiting if not one[2]]
        self._waiting = deque(kept)
        self._waiting_bytes = sum(len(one[1]) + _ITEM_BYTES for one in kept)
