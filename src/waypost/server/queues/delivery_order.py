"""The order in which one consumer's messages may be delivered: strictly, by key, or freely. Pure.

A delivery order says what to read from the store (`wants`), takes what was read (`take`), and gives out what may go
(`next`). It hears what becomes of each message: `done`, `put_back`, `park`. It holds a few messages, never a backlog:
what is behind a message that blocks stays in the store until its turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
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
    """A request for the next messages after a position."""

    after: int


@dataclass(frozen=True, slots=True)
class ReadRetries:
    """A request for messages up to a position whose pause is over at a time, without those that are known already."""

    upto: int
    excluding: frozenset[int]
    now: float


@dataclass(frozen=True, slots=True)
class ReadKey:
    """A request for the next messages with a key, between two positions."""

    key: str
    after: int
    upto: int


Read = ReadOn | ReadRetries | ReadKey


class DeliveryOrder(Protocol):
    """Says which of one consumer's messages may go next."""

    @property
    def due_at(self) -> float:
        """The store's time at which the next paused message may go; infinity if none is paused."""
        ...

    @property
    def has_more(self) -> bool:
        """Whether messages wait that are not in hand, as far as is known without asking the store."""
        ...

    def wants(self, now: float) -> Read | None:
        """Return what to read from the store next; ``None`` for nothing. Then call `take` or `not_read`."""
        ...

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
        """Take the messages that were read.

        Args:
            read: The request; for retries it also excludes those whose failure is not stored yet.
            messages: The messages found, sorted by position.
            now: The store's time.
            complete: True if the store had no more.
            due_at: For retries, the store's time at which the next one falls due.
            done: Positions of messages that were acknowledged, which the store may not have known at the read; for
                retries also of those that have failed or were given up.
        """
        ...

    def not_read(self, read: Read) -> None:
        """Note that the store did not answer a read, so that `wants` asks for it again."""
        ...

    def arrive(self, message: MessageRow, now: float) -> None:
        """Take a message that was just stored."""
        ...

    def look_again(self) -> None:
        """Note that the store may have messages behind the end that was read."""
        ...

    def next(self, now: float, *, probing: bool = False) -> MessageRow | None:
        """Give out the next message that may go; ``None`` if none may.

        Args:
            now: The store's time.
            probing: Whether to give out the message that has been due for longest, instead of the oldest one. So
                messages that fail again and again do not stand before those that were not tried yet.
        """
        ...

    def done(self, message: MessageRow) -> None:
        """Note that a message that was out is acknowledged or given up."""
        ...

    def put_back(self, message: MessageRow) -> None:
        """Take back a message that was out; it may go again at once."""
        ...

    def park(self, message: MessageRow) -> None:
        """Take back a message that was out; it may go again at its ``retry_at``."""
        ...

    def withdraw(self, message: MessageRow) -> None:
        """Note that a message that was put back or parked was acknowledged late."""
        ...

    def look_for_retries(self, now: float) -> None:
        """Note that the store now has the failures of parked messages, some of which may have fallen due before."""
        ...


def make_order(order: Order, after: int, out: Iterable[MessageRow] = ()) -> DeliveryOrder:
    """Make the delivery order of a consumer.

    Args:
        order: Its kind.
        after: The position up to which the consumer has settled everything.
        out: Messages behind it that are out already; in strict order at most the first one.
    """
    return StrictOrder(after, out) if order == "strict" else KeyedOrder(after, out, by_key=order == "key")


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
        if follows and len(self._ahead) < _MOST_READY and self._ahead_bytes < _MOST_READY_BYTES:
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


class KeyedOrder:
    """Gives out many messages at a time, but only one of each key. A message without a key does not wait.

    Args:
        after: The position up to which the consumer has settled everything.
        out: Messages that are out already.
        by_key: True if keys count; else all messages are treated as having none.
    """

    def __init__(self, after: int, out: Iterable[MessageRow] = (), *, by_key: bool) -> None:
        self._by_key = by_key
        # Messages that were out before they were read here, as they are by now; ``None`` for one that is done.
        self._early: dict[int, MessageRow | None] = {message.position: message for message in out}
        # Each message up to here is in hand, ready, paused, done, or behind a message with its key.
        self._frontier = after
        self._at_end = False
        self._news = False
        self._due_at = inf
        self._ready: list[tuple[int, MessageRow]] = []
        self._ready_bytes = 0
        self._in_hand: set[int] = set(self._early)
        # The first message of each key that is not done; the keys with more behind it; the keys whose first is done.
        self._heads: dict[str, int] = {}
        self._followed: set[str] = set()
        self._freed: deque[tuple[str, int]] = deque()
        # The messages behind a key's first one that were read already, without a gap.
        self._behind: dict[str, deque[MessageRow]] = {}
        # The key whose messages are being read; messages that arrive during the read stand behind them.
        self._read_key: str | None = None
        self._behind_count = self._behind_bytes = 0
        # Paused messages that are not the first of their key: they wait for that one, not for their pause.
        self._paused_behind: set[int] = set()
        # The times of paused messages that are the first of their key. A limit of the queue may remove them.
        self._paused_heads: dict[int, tuple[float, str]] = {}
        # The messages that were withdrawn during a read.

    @property
    def due_at(self) -> float:
        """The store's time at which the next paused message may go."""
        return self._due_at

    @property
    def has_more(self) -> bool:
        """Whether messages wait."""
        waits = self._ready or self._behind or self._followed or self._freed or self._due_at < inf
        return bool(waits) or not self._at_end

    def wants(self, now: float) -> Read | None:
        """Read the followers of a key's first message, then messages whose pause is over, then on."""
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
            known.update(message.position for behind in self._behind.values() for message in behind)
            return ReadRetries(self._frontier, frozenset(known), now)
        is_low = len(self._ready) < _LOW and self._ready_bytes < _LOW_BYTES
        if not is_low or self._at_end or len(self._heads) >= _MOST_BLOCKED_KEYS:
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
        """Sort the messages into those that may go and those that have to wait."""
        if isinstance(read, ReadOn):
            for message in messages:
                if message.position in done:
                    self._frontier = message.position
                else:
                    self._reach(message, now)
            self._at_end = complete and not self._news
        elif isinstance(read, ReadRetries):
            self._due_at = min(self._due_at, due_at, inf if complete else now)
            for message in messages:
                if message.position not in done:
                    self._paused_heads.pop(message.position, None)
                    self._push(message)
            if complete:
                self._free_ended(read)
            # The store reports nothing of messages that it has removed.
            paused = (retry_at for retry_at, _ in self._paused_heads.values() if retry_at > read.now)
            self._due_at = min(self._due_at, min(paused, default=inf))
        else:
            self._read_key = None
            left = [message for message in messages if message.position not in done]
            if left or not messages:
                self._take_followers(read, left, now)
            else:
                self._freed.append((read.key, messages[-1].position))

    def not_read(self, read: Read) -> None:
        """Want the followers of a key, or the retries, once more."""
        if isinstance(read, ReadKey):
            self._read_key = None
            # Also what arrived during the read stands behind what is read next.
            self._followed.add(read.key)
            self._freed.append((read.key, read.after))
        elif isinstance(read, ReadRetries):
            self._due_at = min(self._due_at, read.now)

    def arrive(self, message: MessageRow, now: float) -> None:
        """Take a new message if it is the next one and there is room; else read it later."""
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

    def next(self, now: float, *, probing: bool = False) -> MessageRow | None:
        """Give out the oldest message that may go, or to a probe the one that has been due for longest."""
        if not self._ready:
            return None
        if probing:
            position, message = min(self._ready, key=_due_first)
            self._ready.remove((position, message))
            heapify(self._ready)
        else:
            position, message = heappop(self._ready)
        self._ready_bytes -= len(message.record)
        self._in_hand.add(position)
        return message

    def done(self, message: MessageRow) -> None:
        """Let the next message of its key go."""
        self._in_hand.discard(message.position)
        if message.position in self._early:
            self._early[message.position] = None
        self._paused_heads.pop(message.position, None)
        key = self._key(message)
        if key is not None:
            self._free(key, message.position)

    def put_back(self, message: MessageRow) -> None:
        """Let the message go again at once."""
        self._in_hand.discard(message.position)
        if message.position in self._early:
            self._early[message.position] = message
        else:
            self._push(message)

    def park(self, message: MessageRow) -> None:
        """Let the message go again after its pause; until then only the store has it."""
        self._in_hand.discard(message.position)
        if message.position in self._early:
            self._early[message.position] = message
        else:
            self._pause(message)

    def withdraw(self, message: MessageRow) -> None:
        """Drop the message."""
        ready = next((entry for entry in self._ready if entry[0] == message.position), None)
        if ready is not None:
            self._ready.remove(ready)
            heapify(self._ready)
            self._ready_bytes -= len(ready[1].record)
        self.done(message)

    def look_for_retries(self, now: float) -> None:
        """Read the retries now."""
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
        if message.position in self._early:
            early = self._early.pop(message.position)
            if early is None:
                return
            if message.position in self._in_hand:
                if key is not None:
                    self._heads.setdefault(key, message.position)
                return
            # What became of it here may not be stored yet.
            message = early
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
        """Let the next message of a key go, if this was the first."""
        if self._heads.get(key) != position:
            return
        if key in self._behind:
            self._follow_up(key)
        elif key in self._followed:
            self._freed.append((key, position))
        else:
            del self._heads[key]

    def _free_ended(self, read: ReadRetries) -> None:
        """Free the keys that wait for messages which the store has removed: by a limit, or by their time to live."""
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


def _due_first(ready: tuple[int, MessageRow]) -> tuple[float, int]:
    position, message = ready
    return message.retry_at, position
