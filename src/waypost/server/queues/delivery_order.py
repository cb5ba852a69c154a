"""In which order one consumer's messages may be handed out: strictly, by key, or freely. Pure.

A delivery order says what to read from the store (`wants`), takes what was read (`take`), and gives out what may go
(`next`). It hears what becomes of each message: `done`, `put_back`, `park`. It holds a few messages, never a backlog:
what is behind a message that blocks stays in the store until its turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import inf
from typing import Protocol

from waypost.server.queues.options import Order
from waypost.storage.queue_records import MessageRow

__all__ = ["DeliveryOrder", "KeyedOrder", "Read", "ReadKey", "ReadOn", "ReadRetries", "StrictOrder", "make_order"]

_MOST_READY = 256
# With fewer than that left it is time to read on.
_LOW = 64
_MOST_READY_BYTES = 1 << 20
_LOW_BYTES = 1 << 18
_MOST_BLOCKED_KEYS = 10_000
# Of all keys together.
_MOST_BEHIND = 1024


@dataclass(frozen=True, slots=True)
class ReadOn:
    """Wanted: the next messages after a position."""

    after: int


@dataclass(frozen=True, slots=True)
class ReadRetries:
    """Wanted: messages up to a position whose pause is over at a time, without those that are known already."""

    upto: int
    excluding: frozenset[int]
    now: float


@dataclass(frozen=True, slots=True)
class ReadKey:
    """Wanted: the next messages with a key, between two positions."""

    key: str
    after: int
    upto: int


Read = ReadOn | ReadRetries | ReadKey


class DeliveryOrder(Protocol):
    """The order of one consumer's messages."""

    @property
    def due_at(self) -> float:
        """When the next paused message may go, as wall time; infinity if none is paused."""
        ...

    def wants(self, now: float) -> Read | None:
        """Return what has to be read before more can be given out; `take` must follow before it is asked again."""
        ...

    def take(
        self, read: Read, messages: Sequence[MessageRow], now: float, *, complete: bool, due_at: float = inf
    ) -> None:
        """Take what was read.

        Args:
            read: What was wanted; of retries it excludes also those whose failure is not stored yet.
            messages: What was found, by position.
            now: Wall time.
            complete: Whether there was no more to find.
            due_at: For retries: when the next one that was not yet due will be.
        """
        ...

    def arrive(self, message: MessageRow, now: float) -> None:
        """Take a message that has just been stored."""
        ...

    def look_again(self) -> None:
        """Note that there may be more in the store than was found at the end."""
        ...

    def next(self, now: float) -> MessageRow | None:
        """Give out the next message that may go."""
        ...

    def done(self, message: MessageRow) -> None:
        """Note that a message that was given out is acknowledged or given up."""
        ...

    def put_back(self, message: MessageRow) -> None:
        """Take a message back that was given out; it may go again at once."""
        ...

    def park(self, message: MessageRow) -> None:
        """Take a message back that was given out; it may go again when its ``retry_at`` has come."""
        ...

    def withdraw(self, message: MessageRow) -> None:
        """Note that a message that was put back or parked is done after all."""
        ...

    def look_for_retries(self, now: float) -> None:
        """Note that messages may be found now that were parked, and were not stored yet when their time came."""
        ...


def make_order(order: Order, after: int) -> DeliveryOrder:
    """Make the delivery order of a consumer that has everything up to a position behind it."""
    return StrictOrder(after) if order == "strict" else KeyedOrder(after, by_key=order == "key")


class StrictOrder:
    """One message at a time, each when the one before is done."""

    __slots__ = ("_ahead", "_ahead_bytes", "_at_end", "_frontier", "_in_hand", "_news")

    def __init__(self, after: int) -> None:
        self._frontier = after
        self._ahead: deque[MessageRow] = deque()
        self._ahead_bytes = 0
        self._in_hand = False
        self._at_end = False
        self._news = False

    @property
    def due_at(self) -> float:
        """When the head may go."""
        return self._ahead[0].retry_at if self._ahead and not self._in_hand and self._ahead[0].retry_at else inf

    def wants(self, now: float) -> Read | None:
        """Read on when little is left in memory."""
        if self._at_end or len(self._ahead) >= _LOW or self._ahead_bytes >= _LOW_BYTES:
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
    ) -> None:
        """Keep what was read, in order."""
        for message in messages:
            self._append(message)
        self._at_end = complete and not self._news

    def arrive(self, message: MessageRow, now: float) -> None:
        """Keep a new message if it is the very next one, and there is room; else read it later."""
        if message.position <= self._frontier:
            return
        follows = self._at_end and message.position == self._frontier + 1
        if follows and len(self._ahead) < _MOST_READY and self._ahead_bytes < _MOST_READY_BYTES:
            self._append(message)
        else:
            self.look_again()

    def look_again(self) -> None:
        """Read on at the end once more."""
        self._at_end = False
        self._news = True

    def next(self, now: float) -> MessageRow | None:
        """Give out the head, unless one is out or it has to wait."""
        if self._in_hand or not self._ahead or self._ahead[0].retry_at > now:
            return None
        self._in_hand = True
        message = self._ahead.popleft()
        self._ahead_bytes -= len(message.record)
        return message

    def done(self, message: MessageRow) -> None:
        """Let the one behind it go."""
        self._in_hand = False

    def put_back(self, message: MessageRow) -> None:
        """Make it the head again."""
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


class KeyedOrder:
    """Many messages at a time, but only one of each key; a message without a key waits for nobody.

    Args:
        after: The position up to which everything is behind the consumer.
        by_key: Whether keys count; else all are as if they had none.
    """

    def __init__(self, after: int, *, by_key: bool) -> None:
        self._by_key = by_key
        # All up to here is in hand, ready, paused, done, or behind a message of its key.
        self._frontier = after
        self._at_end = False
        self._news = False
        self._due_at = inf
        self._ready: list[tuple[int, MessageRow]] = []
        self._ready_bytes = 0
        self._in_hand: set[int] = set()
        # Each key's first message that is not done; the keys that have more behind it; those whose first is done.
        self._heads: dict[str, int] = {}
        self._followed: set[str] = set()
        self._freed: deque[tuple[str, int]] = deque()
        # The first of those behind a key's first, without a gap, which were read already.
        self._behind: dict[str, deque[MessageRow]] = {}
        # The key whose messages are being read: what comes meanwhile stands behind them.
        self._read_key: str | None = None
        self._behind_count = self._behind_bytes = 0
        # Paused messages that are not the first of their key: they wait for their turn, not for their pause.
        self._paused_behind: set[int] = set()
        # When each key's first message may go that is paused. A limit of the queue may end it there.
        self._paused_heads: dict[int, tuple[float, str]] = {}
        # What was withdrawn while the store was being read.
        self._gone: set[int] = set()

    @property
    def due_at(self) -> float:
        """When the next paused message may go."""
        return self._due_at

    def wants(self, now: float) -> Read | None:
        """Read who follows a key's first message, then whose pause is over, then on."""
        self._gone.clear()
        if self._freed:
            key, after = self._freed.popleft()
            self._followed.discard(key)
            self._read_key = key
            return ReadKey(key, after, self._frontier)
        if self._is_full:
            return None
        if self._due_at <= now:
            self._due_at = inf
            known = {position for position, _ in self._ready} | self._in_hand | self._paused_behind
            return ReadRetries(self._frontier, frozenset(known), now)
        is_low = len(self._ready) < _LOW and self._ready_bytes < _LOW_BYTES
        if not is_low or self._at_end or len(self._heads) >= _MOST_BLOCKED_KEYS:
            return None
        self._news = False
        return ReadOn(self._frontier)

    def take(
        self, read: Read, messages: Sequence[MessageRow], now: float, *, complete: bool, due_at: float = inf
    ) -> None:
        """Sort what was read into what may go and what has to wait."""
        if isinstance(read, ReadOn):
            for message in messages:
                self._reach(message, now)
            self._at_end = complete and not self._news
        elif isinstance(read, ReadRetries):
            self._due_at = min(self._due_at, due_at, inf if complete else now)
            for message in messages:
                if message.position not in self._gone:
                    self._paused_heads.pop(message.position, None)
                    self._push(message)
            if complete:
                self._free_ended(read)
            # The store does not tell of those that it has no more.
            paused = (retry_at for retry_at, _ in self._paused_heads.values() if retry_at > read.now)
            self._due_at = min(self._due_at, min(paused, default=inf))
        else:
            self._read_key = None
            self._take_followers(read, messages, now)

    def arrive(self, message: MessageRow, now: float) -> None:
        """Take a new message if it is the very next one, and there is room; else read it later."""
        if message.position <= self._frontier:
            return
        if self._at_end and message.position == self._frontier + 1 and not self._is_full:
            self._reach(message, now)
        else:
            self.look_again()

    def look_again(self) -> None:
        """Read on at the end once more."""
        self._at_end = False
        self._news = True

    def next(self, now: float) -> MessageRow | None:
        """Give out the oldest that may go."""
        if not self._ready:
            return None
        position, message = heappop(self._ready)
        self._ready_bytes -= len(message.record)
        self._in_hand.add(position)
        return message

    def done(self, message: MessageRow) -> None:
        """Let the next one of its key go."""
        self._in_hand.discard(message.position)
        self._paused_heads.pop(message.position, None)
        key = self._key(message)
        if key is not None:
            self._free(key, message.position)

    def put_back(self, message: MessageRow) -> None:
        """Let it go again at once."""
        self._in_hand.discard(message.position)
        self._push(message)

    def park(self, message: MessageRow) -> None:
        """Let it go again after its pause; the store remembers it meanwhile."""
        self._in_hand.discard(message.position)
        self._pause(message)

    def withdraw(self, message: MessageRow) -> None:
        """Drop it, also from what is being read right now."""
        self._gone.add(message.position)
        kept = [entry for entry in self._ready if entry[0] != message.position]
        if len(kept) < len(self._ready):
            heapify(kept)
            self._ready = kept
            self._ready_bytes -= len(message.record)
        self.done(message)

    def look_for_retries(self, now: float) -> None:
        """Read them now."""
        self._due_at = min(self._due_at, now)

    @property
    def _is_full(self) -> bool:
        return len(self._ready) >= _MOST_READY or self._ready_bytes >= _MOST_READY_BYTES

    def _key(self, message: MessageRow) -> str | None:
        return message.key if self._by_key else None

    def _push(self, message: MessageRow) -> None:
        heappush(self._ready, (message.position, message))
        self._ready_bytes += len(message.record)

    def _reach(self, message: MessageRow, now: float) -> None:
        self._frontier = message.position
        key = self._key(message)
        if key is not None and key in self._heads:
            if key in self._followed or key == self._read_key or not self._keep_behind(key, message):
                self._followed.add(key)
                if message.retry_at:
                    self._paused_behind.add(message.position)
            return
        if key is not None:
            self._heads[key] = message.position
        self._ready_or_paused(message, now)

    def _ready_or_paused(self, message: MessageRow, now: float) -> None:
        if message.retry_at > now:
            self._pause(message)
        else:
            self._push(message)

    def _pause(self, message: MessageRow) -> None:
        self._due_at = min(self._due_at, message.retry_at)
        key = self._key(message)
        if key is not None and self._heads.get(key) == message.position:
            self._paused_heads[message.position] = (message.retry_at, key)

    def _free(self, key: str, position: int) -> None:
        """Let the next one of a key go, if this was its first."""
        if self._heads.get(key) != position:
            return
        if key in self._behind:
            self._follow_up(key)
        elif key in self._followed:
            self._freed.append((key, position))
        else:
            del self._heads[key]

    def _free_ended(self, read: ReadRetries) -> None:
        """Let those go that wait for messages which the store has no more: they were dropped, or outlived."""
        for position, (retry_at, key) in list(self._paused_heads.items()):
            if retry_at <= read.now and position not in read.excluding:
                del self._paused_heads[position]
                self._free(key, position)

    def _take_followers(self, read: ReadKey, messages: Sequence[MessageRow], now: float) -> None:
        if messages:
            first, *others = messages
            self._heads[read.key] = first.position
            # There may be more behind them; only asking will tell.
            self._followed.add(read.key)
            self._paused_behind.discard(first.position)
            self._ready_or_paused(first, now)
            for message in others:
                if not self._keep_behind(read.key, message):
                    break
        elif read.key in self._followed:
            self._freed.append((read.key, read.upto))
        else:
            del self._heads[read.key]

    def _keep_behind(self, key: str, message: MessageRow) -> bool:
        """Keep a message for when its turn comes, if there is room, so that it need not be read again."""
        # One that failed has a pause, of which the store knows better.
        if message.retry_at or self._behind_count >= _MOST_BEHIND or self._behind_bytes >= _LOW_BYTES:
            return False
        self._behind.setdefault(key, deque()).append(message)
        self._behind_count += 1
        self._behind_bytes += len(message.record)
        return True

    def _follow_up(self, key: str) -> None:
        """Let the next one of a key go, which was read already."""
        behind = self._behind[key]
        message = behind.popleft()
        if not behind:
            del self._behind[key]
        self._behind_count -= 1
        self._behind_bytes -= len(message.record)
        self._heads[key] = message.position
        self._push(message)
