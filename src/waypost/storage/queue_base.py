"""The storage contract for queues; the guarantees of `storage.base` apply too.

A queue is a log of messages. A message stays until every consumer has settled it, and then for
`QueueLimits.keep_settled_s`, or until a limit ends it; without consumers it stays until then too. What all have
settled is the first to go when a queue is full. The progress of a consumer is kept as a cursor and exceptions to it:
a million settled messages cost nothing.

Guarantees of every backend, beside those of `storage.base`
------------------------------------------------------------

1. **The store does not know which messages are being delivered.** Reading marks nothing. The server remembers the
   messages in flight, and after a crash starts with all messages that are not settled.
2. **Everything else is on disk**: attempts with their times, dead letters, cursors, pauses, delays, notices of
   losses. Queues wait for the disk also where journals do not.
3. **Order.** Messages get their positions in the order in which they were enqueued; those of one call together. A
   delayed message gets its position when `Store.release_due` finds it due; until then it is not in the log, and
   blocks
   nothing. Reading returns messages by position.
4. **Repetition is harmless.** All writes but `enqueue` and `redrive` may be asked for again after an error. So may
   `enqueue`, with a deduplication window.
5. **Short commits.** An operation on very many messages (a purge, a move or the end of a consumer, lower limits) is
   one short commit, seen all or not at all, and others write meanwhile. Acks of its queue may wait for it.
6. **Cost.** A write or a page of a read costs the same whatever the queue keeps, and whatever consumers have settled,
   failed at, or have to wait for. An unused queue or consumer costs disk and no memory.
7. **Epochs.** Settling and attempts name the epoch of the consumer that the message was read in. `seek`, and
   `purge` of something it had not settled, begin another one; calls with an old epoch are ignored. Otherwise an ack
   counts however late it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Protocol

from waypost.storage.queue_records import (
    Attempt,
    Configuration,
    ConsumerRow,
    DeadLetterFilter,
    DeadLetterRow,
    Enqueued,
    MessageRow,
    NewMessageRow,
    Place,
    QueueLimits,
    QueueRow,
    Redriven,
    Retries,
)

__all__ = ["AT_ONCE", "DEAD_LETTER_S", "HOW_TO_BEGIN", "MAX_HISTORY", "StoredQueue"]

AT_ONCE = 1.0
"""The stored time of a retry without a pause: long past, even after the clock was set back."""

MAX_HISTORY = 32
"""How many of a message's attempts are remembered; the last ones are."""

DEAD_LETTER_S = 14 * 24 * 3600.0
"""For how long a dead letter is kept, in seconds."""

HOW_TO_BEGIN = "one begins with the first socket or function that attaches, or with `create`"
"""What an error says of a consumer that does not exist."""


class StoredQueue(Protocol):
    """A durable log of messages and its consumers. Made by `Store.queue`; holds no state.

    A queue begins with its first message, consumer or configuration. A call for an unknown consumer raises
    `StorageError`.
    """

    @property
    def name(self) -> str:
        """The queue's name."""
        ...

    # -- messages --------------------------------------------------------------------------------------------

    def enqueue(
        self, messages: Sequence[NewMessageRow], *, deduplicate_s: float, on_commit: Callable[[Enqueued], None]
    ) -> Awaitable[Enqueued]:
        """Add messages in one commit, all or none.

        Args:
            messages: The messages in order; at least one.
            deduplicate_s: The deduplication window, in seconds: a message whose id was accepted within it is not
                added again. 0 neither looks up nor remembers ids, which is cheaper for ids that can't repeat.
            on_commit: Called with the result.

        Returns:
            The result for each message.

        Raises:
            QueueFull: The messages do not fit into the queue's limits, and the queue refuses what does not fit.
        """
        ...

    def publish(self, connection: Any, message: NewMessageRow, *, deduplicate_s: float) -> None:
        """Put a message into the queue in a transaction of the application's own, in the same database.

        The store's owner moves the message into the queue soon after the commit; `Store.watch` and
        `Store.release_due` report it. This runs in the calling thread.

        Args:
            connection: The application's connection, of the database's Python module. The caller commits or rolls
                back.
            message: The message. Its delay counts from now.
            deduplicate_s: As for `enqueue`; a duplicate is dropped without a notice.

        Raises:
            QueueFull: The message does not fit into the queue's limits, and the queue refuses what does not fit.
            ConfigurationError: ``connection`` is not a connection.
            StorageError: The connection belongs to another database, the store has no database, or writing failed.
        """
        ...

    async def peek(self, *, after: int, max_messages: int, max_bytes: int) -> list[MessageRow]:
        """Read messages after a position, settled or not; limited as in `fetch`."""
        ...

    async def purge(self, *, upto: int | None = None) -> int:
        """Remove messages, settled or not, and their attempts. This does not count as a loss.

        Args:
            upto: The last position to remove; ``None`` removes all messages, those that are not due yet included.

        Returns:
            How many messages went.
        """
        ...

    async def cancel(self, message_id: str) -> int:
        """Remove the messages with an id that are not due yet, but not those that are redriven; returns their number.

        The queue accepts the id again.
        """
        ...

    async def configure(self, limits: QueueLimits | None, settings: bytes) -> None:
        """Set the queue's limits and further settings.

        A queue that drops its oldest messages drops with the same commit what is beyond the limits now, unless it
        keeps settled messages; these go first as later messages need the room.

        Args:
            limits: The limits; ``None`` for the store's.
            settings: The settings; opaque to the store.
        """
        ...

    async def configuration(self) -> Configuration:
        """Return the queue's configuration; without limits and settings if nothing was configured."""
        ...

    async def delete(self) -> None:
        """Remove the queue with its messages, consumers, dead letters and configuration, in one commit."""
        ...

    async def info(self) -> QueueRow:
        """Return the queue's state. The store keeps the counters, so the cost does not grow with the queue."""
        ...

    # -- consumers -------------------------------------------------------------------------------------------

    async def add_consumer(self, consumer: str, *, start: Place = "oldest") -> ConsumerRow:
        """Return a consumer, and make it if it does not exist. Its time of last use is set to now.

        Args:
            consumer: The consumer's name.
            start: The place where a new consumer starts; ignored if the consumer exists.
        """
        ...

    async def consumer(self, consumer: str) -> ConsumerRow:
        """Return a consumer's state; cheap."""
        ...

    async def consumers(self, *, after: str = "", max_consumers: int = 1000) -> list[ConsumerRow]:
        """Return the states of consumers whose names come after ``after``, sorted by name as UTF-8."""
        ...

    async def seek(self, consumer: str, place: Place) -> ConsumerRow:
        """Move a consumer to a place: later messages are then unsettled, earlier ones settled.

        It begins a new epoch, and removes attempts and losses.
        """
        ...

    async def pause(self, consumer: str | None, *, until: float) -> None:
        """Set the pause of a consumer, or of the whole queue. The caller that delivers has to respect it.

        Args:
            consumer: The consumer; ``None`` for the queue.
            until: The wall time of the end, in seconds; infinity for until it is resumed. A time in the past resumes.
        """
        ...

    async def remove_consumer(self, consumer: str) -> None:
        """Forget a consumer and its dead letters; an unknown one is no error.

        What only it had not settled goes, unless it is the last one.
        """
        ...

    async def forget_loss(self, consumer: str, upto: int) -> ConsumerRow:
        """Forget a consumer's losses up to a position, of which it was told. Later losses stay."""
        ...

    # -- reading ---------------------------------------------------------------------------------------------

    async def fetch(self, consumer: str, *, after: int, max_messages: int, max_bytes: int) -> list[MessageRow]:
        """Read a consumer's unsettled messages after a position, sorted by position, waiting retries included.

        Not those that have outlived their time to live.

        Args:
            consumer: An existing consumer.
            after: The position before the first one to return.
            max_messages: The largest number to return, from 1.
            max_bytes: The largest size of their records together, in bytes; the first message is always returned.

        Returns:
            The messages; empty only if there is none.
        """
        ...

    async def fetch_key(
        self, consumer: str, key: str, *, after: int, upto: int, max_messages: int, max_bytes: int
    ) -> list[MessageRow]:
        """Read messages as `fetch` does, but only those with a key, up to the position ``upto``."""
        ...

    async def fetch_retries(
        self, consumer: str, *, upto: int, held: Collection[int], max_messages: int, max_bytes: int
    ) -> Retries:
        """Read the messages that failed or were lost before and are due again.

        Args:
            consumer: An existing consumer.
            upto: The last position to return.
            held: Positions to leave out, because they are in hand; each has a cost.
            max_messages: As for `fetch`.
            max_bytes: As for `fetch`.
        """
        ...

    # -- what became of them ---------------------------------------------------------------------------------

    async def settle(self, consumer: str, epoch: int, positions: Collection[int]) -> ConsumerRow:
        """Settle messages for a consumer; messages that are settled already are ignored.

        Messages that every consumer has settled are removed.

        Args:
            consumer: The consumer.
            epoch: The epoch in which the messages were read; with an older epoch, nothing happens.
            positions: The messages' positions.

        Returns:
            The consumer's state, with its current epoch.
        """
        ...

    async def retry(self, consumer: str, epoch: int, attempts: Sequence[Attempt]) -> ConsumerRow:
        """Store failed attempts, and when their messages are due again. Settled messages are ignored.

        Epoch and result are as for `settle`.
        """
        ...

    async def bury(self, consumer: str, epoch: int, attempts: Sequence[Attempt]) -> ConsumerRow:
        """Settle messages and keep them as dead letters, in one commit. Settled messages are ignored.

        Epoch and result are as for `settle`.
        """
        ...

    def hold(self, consumer: str, holder: str, position: int | None) -> None:
        """Note the oldest message of a holder, a function of this process; ``None`` for none. Returns at once.

        The note is written within 50 ms, so a message that is settled faster costs nothing. If the store is killed,
        the next opening counts a lost delivery and a death for each noted message that is not settled: so a message
        that kills the process becomes a dead letter in the end.
        """
        ...

    # -- dead letters ----------------------------------------------------------------------------------------

    async def dead_letters(
        self, matching: DeadLetterFilter, *, after: int, max_letters: int, max_bytes: int
    ) -> list[DeadLetterRow]:
        """Read dead letters after a number, sorted by number; limited as in `fetch`."""
        ...

    async def redrive(
        self,
        matching: DeadLetterFilter,
        *,
        after: int,
        upto: int | None = None,
        max_letters: int,
        spacing_s: float,
        first_at: float,
    ) -> Redriven:
        """Turn dead letters into messages without attempts at the end of the queue, each for its consumer alone.

        They keep their ids, records, keys and histories, have no time to live, and are no dead letters any more. One
        step, in one commit; repeat it after the last number until it finds none.

        Args:
            matching: Selects the dead letters.
            after: The number before the first one to take.
            upto: The last number wanted: `Redriven.newest` of the first step, so that what dies again meanwhile is
                not met again; ``None`` for all there are.
            max_letters: The most for this step, from 1.
            spacing_s: How many seconds after the one before each is due; 0 for all at once.
            first_at: When the first one is due, in seconds of the store's time; those whose time has come get their
                positions at once, the others as messages with a delay do.
        """
        ...

    async def discard_dead(self, matching: DeadLetterFilter, *, max_letters: int) -> int:
        """Delete at most ``max_letters`` dead letters; returns their number, 0 if none is left."""
        ...
