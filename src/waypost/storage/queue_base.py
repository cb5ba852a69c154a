"""The storage contract, its part about queues; `storage.base` has the guarantees that hold for it too.

A queue is a log of messages. A message stays until every consumer has settled it, or a limit ends it; one that no
consumer exists for stays until then, too. What a consumer has done is kept as a cursor and exceptions to it: a
million settled messages cost nothing.

Guarantees of every backend, beside those of `storage.base`
------------------------------------------------------------
1. **The store does not know who has what in hand.** Reading marks nothing. Whoever delivers remembers what is in
   flight, and after a crash begins with everything that is not settled.
2. **Everything else is on disk**: attempts with their times, dead letters, cursors, pauses, delays, notices of
   losses. Queues wait for the disk also where journals do not.
3. **Order.** Messages get their positions in the order in which they were enqueued; those of one call together. One
   with a delay gets its position when `Store.release_due` finds it due; until then it is not in the log, and blocks
   nothing. Reading gives messages by position.
4. **Repetition is harmless.** All writes but `enqueue` and `redrive` may be asked for again after an error. So may
   `enqueue`, with a deduplication window.
5. **Cost.** A write or a page of a read costs the same whatever the queue keeps, and whatever consumers have settled,
   failed at, or have to wait for. A queue or consumer that nobody uses costs disk and no memory.
6. **Epochs.** Settling and attempts name the epoch of the consumer that the message was read in. `seek`, and
   `purge` of something it had not settled, begin another one; what comes with an old one is ignored. Without that, an
   ack counts however late it is.
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

__all__ = ["AT_ONCE", "DEAD_LETTER_S", "MAX_HISTORY", "StoredQueue"]

AT_ONCE = 1.0
"""What is kept as the time of a retry that has no pause: long past, also for a clock that is set back."""

MAX_HISTORY = 32
"""How many of a message's attempts are remembered; the last ones are."""

DEAD_LETTER_S = 14 * 24 * 3600.0
"""For how long a dead letter is kept, in seconds."""


class StoredQueue(Protocol):
    """A durable log of messages and its consumers. Made by `Store.queue`; holds no state.

    A queue begins with its first message, consumer or configuration. What is asked for an unknown consumer raises
    `StorageError`.
    """

    @property
    def name(self) -> str:
        """The name it was asked for by."""
        ...

    # -- messages --------------------------------------------------------------------------------------------

    def enqueue(
        self, messages: Sequence[NewMessageRow], *, deduplicate_s: float, on_commit: Callable[[Enqueued], None]
    ) -> Awaitable[Enqueued]:
        """Add messages in one commit, all or none.

        Args:
            messages: The messages, in order; not none.
            deduplicate_s: A message whose id was accepted within so many seconds is not added again. With 0 no id is
                looked up or remembered, which is cheaper: for ids that can't come twice.
            on_commit: Called with what is returned.

        Returns:
            What became of each.

        Raises:
            QueueFull: They do not fit into the queue's limits, and it refuses.
        """
        ...

    def publish(self, connection: Any, message: NewMessageRow, *, deduplicate_s: float) -> None:
        """Put a message into the queue with a transaction of the application, in the same database.

        The owner moves it into the queue soon after the commit; `Store.watch` and `Store.release_due` tell. Runs in
        the thread that calls.

        Args:
            connection: The application's own connection, of the kind that the database has in Python. Committing and
                rolling back is the caller's affair.
            message: The message. A delay counts from now.
            deduplicate_s: As for `enqueue`; nobody is told of a duplicate.

        Raises:
            QueueFull: It does not fit into the queue's limits, and it refuses.
            ConfigurationError: It is no such connection.
            StorageError: It is one to another database, or the store has none, or it can't be written to.
        """
        ...

    async def peek(self, *, after: int, max_messages: int, max_bytes: int) -> list[MessageRow]:
        """Read messages after a position as the queue keeps them, settled or not; within limits as in `fetch`."""
        ...

    async def purge(self, *, upto: int | None = None) -> int:
        """Remove messages, whether settled or not, and their attempts; no consumer is told of a loss.

        Args:
            upto: The last position to remove; ``None`` removes all, those that are not due yet too.

        Returns:
            How many messages went.
        """
        ...

    async def configure(self, limits: QueueLimits | None, settings: bytes) -> None:
        """Keep limits that hold from the next message on, and whatever else the caller wants to keep with the queue.

        Args:
            limits: The limits; ``None`` for the store's.
            settings: Bytes that the store does not look into.
        """
        ...

    async def configuration(self) -> Configuration:
        """Return what was configured; without limits and settings if nothing was."""
        ...

    async def delete(self) -> None:
        """Remove the queue with all it has: messages, consumers, dead letters, configuration; all at once."""
        ...

    async def info(self) -> QueueRow:
        """Return the queue's state; its counters are kept, so asking costs nothing that grows."""
        ...

    # -- consumers -------------------------------------------------------------------------------------------

    async def add_consumer(self, consumer: str, *, start: Place = "oldest") -> ConsumerRow:
        """Return a consumer, made if need be; either way it is in use now, so that it does not expire.

        Args:
            consumer: Its name.
            start: Where a new one starts; of no meaning to one that exists.
        """
        ...

    async def consumer(self, consumer: str) -> ConsumerRow:
        """Return a consumer's state; cheap."""
        ...

    async def consumers(self, *, after: str = "", max_consumers: int = 1000) -> list[ConsumerRow]:
        """Return the states of consumers whose names come after one, by name (in the order of their UTF-8)."""
        ...

    async def seek(self, consumer: str, place: Place) -> ConsumerRow:
        """Move a consumer to a place: what the queue keeps behind it is unsettled, what stands before it settled.

        It begins a new epoch, and forgets attempts and losses.
        """
        ...

    async def pause(self, consumer: str | None, *, until: float) -> None:
        """Note that a consumer, or with ``None`` the queue, is paused; it is for who delivers to heed it.

        Args:
            consumer: The consumer.
            until: Wall time in seconds; infinity for until it is resumed; a time that is over resumes.
        """
        ...

    async def remove_consumer(self, consumer: str) -> None:
        """Forget a consumer and its dead letters; an unknown one is no error.

        What only it had not settled goes, unless it is the last one.
        """
        ...

    async def forget_loss(self, consumer: str, upto: int) -> ConsumerRow:
        """Forget what a consumer lost, as it was told; unless it has lost more since, beyond a position."""
        ...

    # -- reading ---------------------------------------------------------------------------------------------

    async def fetch(self, consumer: str, *, after: int, max_messages: int, max_bytes: int) -> list[MessageRow]:
        """Read a consumer's unsettled messages after a position by position, those that wait for a retry too.

        Not those that have outlived their time to live.

        Args:
            consumer: An existing consumer.
            after: The position before the first one wanted.
            max_messages: The most to return, from 1.
            max_bytes: Stop before their records exceed this; the first one is always returned.

        Returns:
            The messages; empty only if there is none.
        """
        ...

    async def fetch_key(
        self, consumer: str, key: str, *, after: int, upto: int, max_messages: int, max_bytes: int
    ) -> list[MessageRow]:
        """Read as `fetch` does, only messages with a key, and none behind the position ``upto``."""
        ...

    async def fetch_retries(
        self, consumer: str, *, upto: int, held: Collection[int], max_messages: int, max_bytes: int
    ) -> Retries:
        """Read the messages that failed or were lost before and are due again.

        Args:
            consumer: An existing consumer.
            upto: The last position wanted.
            held: Positions that are not wanted, as they are in hand; costs something for each.
            max_messages: As for `fetch`.
            max_bytes: As for `fetch`.
        """
        ...

    # -- what became of them ---------------------------------------------------------------------------------

    async def settle(self, consumer: str, epoch: int, positions: Collection[int]) -> ConsumerRow:
        """Mark messages as done for a consumer; those that were settled already are ignored.

        Messages that every consumer has settled are removed.

        Args:
            consumer: The consumer.
            epoch: The epoch they were read in; with any but the current one nothing happens.
            positions: The messages' positions.

        Returns:
            The consumer's state, with its current epoch.
        """
        ...

    async def retry(self, consumer: str, epoch: int, attempts: Sequence[Attempt]) -> ConsumerRow:
        """Keep how attempts ended, and when the messages are due again. Those that are settled are ignored.

        Epoch and result are as for `settle`.
        """
        ...

    async def bury(self, consumer: str, epoch: int, attempts: Sequence[Attempt]) -> ConsumerRow:
        """Settle messages and keep them as dead letters, in one commit. Those that are settled are ignored.

        Epoch and result are as for `settle`.
        """
        ...

    def hold(self, consumer: str, holder: str, position: int | None) -> None:
        """Note the oldest message that a holder (a connection, a worker) has in hand; ``None``: it has none.

        Kept lazily, within 50 ms, so one that is settled faster costs nothing. If the store is not closed but killed,
        the next opening counts a lost delivery against each one that is noted and not settled: so a message that
        kills the process is found in the end. Returns at once.
        """
        ...

    # -- dead letters ----------------------------------------------------------------------------------------

    async def dead_letters(
        self, matching: DeadLetterFilter, *, after: int, max_letters: int, max_bytes: int
    ) -> list[DeadLetterRow]:
        """Read dead letters whose number is after one, by number; within limits as in `fetch`."""
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
        """Make dead letters messages again, each for its consumer alone, behind all others, without attempts.

        They keep their ids, records, keys and histories, have no time to live, and are no dead letters any more. One
        step, in one commit; repeat it after the last number until it finds none.

        Args:
            matching: Which.
            after: The number before the first one wanted.
            upto: The last number wanted: `Redriven.newest` of the first step, so that what dies again meanwhile is
                not met again; ``None`` for all there are.
            max_letters: The most for this step, from 1.
            spacing_s: How many seconds after the one before each is due; 0 for all at once.
            first_at: When the first one is due, as wall time in seconds; those whose time has come get their
                positions at once, the others as messages with a delay do.
        """
        ...

    async def discard_dead(self, matching: DeadLetterFilter, *, max_letters: int) -> int:
        """Forget dead letters, at most so many in one step; returns how many, 0 if no more are there."""
        ...
