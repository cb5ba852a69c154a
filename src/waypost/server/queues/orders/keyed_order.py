"""The order by key, and the free one: many messages at a time, of each key only one. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from heapq import heapify, heappop, heappush
from math import inf

from waypost.server.queues.orders.delivery_order import (
    LOW,
    LOW_BYTES,
    MOST_READY,
    MOST_READY_BYTES,
    Read,
    ReadKey,
    ReadOn,
    ReadRetries,
)
from waypost.storage.queue_records import MessageRow

__all__ = ["KeyedOrder"]

_MOST_BLOCKED_KEYS = 10_000
# Of all keys together.
_MOST_BEHIND = 1024


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
        is_low = len(self._ready) < LOW and self._ready_bytes < LOW_BYTES
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
        return len(self._ready) >= MOST_READY or self._ready_bytes >= MOST_READY_BYTES

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
        if message.retry_at or self._behind_count >= _MOST_BEHIND or self._behind_bytes >= LOW_BYTES:
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
