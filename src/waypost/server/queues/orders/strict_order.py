"""The strict order: one message at a time. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from math import inf

from waypost.server.queues.orders.delivery_order import LOW, LOW_BYTES, MOST_READY, MOST_READY_BYTES, Read, ReadOn
from waypost.storage.queue_records import MessageRow

__all__ = ["StrictOrder"]


class StrictOrder:
    """Gives out one message at a time, each after the one before is done."""

    __slots__ = ("_ahead", "_ahead_bytes", "_at_end", "_frontier", "_in_hand", "_news")

    def __init__(self, after: int, out: Iterable[MessageRow] = ()) -> None:
        self._frontier = max((message.position for message in out), default=after)
        self._ahead: deque[MessageRow] = deque()
        self._ahead_bytes = 0
        self._in_hand = self._frontier > after
        self._at_end = False
        self._news = False

    @property
    def due_at(self) -> float:
        """The store's time at which the head may go."""
        return self._ahead[0].retry_at if self._ahead and not self._in_hand and self._ahead[0].retry_at else inf

    @property
    def has_more(self) -> bool:
        """Whether messages wait."""
        return bool(self._ahead) or not self._at_end

    def wants(self, now: float) -> Read | None:
        """Read on when little is left in memory."""
        if self._at_end or len(self._ahead) >= LOW or self._ahead_bytes >= LOW_BYTES:
            return None
        self._news = False
        return ReadOn(self._frontier)

    def take(
        self,
        read: Read,
        messages: Sequence[MessageRow],
        now: float,
        *,
        complete: bool,
        due_at: float = inf,
        done: Collection[int] = (),
    ) -> None:
        """Keep what was read, in order."""
        for message in messages:
            if message.position in done:
                self._frontier = message.position
            else:
                self._append(message)
        self._at_end = complete and not self._news

    def not_read(self, read: Read) -> None:
        """Do nothing: what was not taken is wanted still."""

    def arrive(self, message: MessageRow, now: float) -> None:
        """Keep a new message if it is the next one and there is room; else read it later."""
        if message.position <= self._frontier:
            return
        follows = self._at_end and message.position == self._frontier + 1
        if follows and len(self._ahead) < MOST_READY and self._ahead_bytes < MOST_READY_BYTES:
            self._append(message)
        else:
            self.look_again()

    def look_again(self) -> None:
        """Read on at the end once more."""
        self._at_end = False
        self._news = True

    def next(self, now: float, *, probing: bool = False) -> MessageRow | None:
        """Give out the head, unless a message is out or the head has to wait."""
        if self._in_hand or not self._ahead or self._ahead[0].retry_at > now:
            return None
        self._in_hand = True
        message = self._ahead.popleft()
        self._ahead_bytes -= len(message.record)
        return message

    def done(self, message: MessageRow) -> None:
        """Let the next message go."""
        self._in_hand = False

    def put_back(self, message: MessageRow) -> None:
        """Make the message the head again."""
        self._in_hand = False
        self._ahead.appendleft(message)
        self._ahead_bytes += len(message.record)

    park = put_back

    def withdraw(self, message: MessageRow) -> None:
        """Drop the head."""
        if self._ahead and self._ahead[0].position == message.position:
            self._ahead_bytes -= len(self._ahead.popleft().record)

    def look_for_retries(self, now: float) -> None:
        """Do nothing: the head waits in memory."""

    def _append(self, message: MessageRow) -> None:
        self._ahead.append(message)
        self._ahead_bytes += len(message.record)
        self._frontier = message.position
