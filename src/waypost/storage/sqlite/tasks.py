"""The periodic tasks for a file's queues and its outbox, in steps between other jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

from waypost.storage.queue_records import Due, ExpiredConsumer
from waypost.storage.sqlite.arrivals import ArrivedWrite, Left, do_writes, tell_of
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.journals.journal import SqliteJournal
from waypost.storage.sqlite.queues import queues
from waypost.storage.sqlite.queues.enqueue import release, take_outbox
from waypost.storage.sqlite.queues.kept import end_kept
from waypost.storage.sqlite.queues.moves import expire
from waypost.storage.sqlite.queues.queue import QueueFile
from waypost.storage.sqlite.steps import repeat

__all__ = ["expire_consumers", "release_due", "trim_queues"]


async def trim_queues(file: QueueFile) -> None:
    """Remove messages that are too old or have outlived their time to live."""
    max_age_s = file.limits.max_age_s
    now = file.clock.now()
    for queue in await file.reader.run(lambda connection: queues.queues_to_age(connection, now, max_age_s)):
        await repeat(file.writer, partial(queues.end_aged, queue=queue, max_age_s=max_age_s))
    file.sweep()
    for step in (end_kept, queues.end_outlived, queues.forget_dead, queues.forget_ids, queues.remove_rest):
        await repeat(file.writer, step)


async def release_due(file: QueueFile, journals: Mapping[str, SqliteJournal], *, deferred: bool) -> Due:
    """Assign positions to messages that are due or published, and do what other programs want done to journals.

    Args:
        file: The queues.
        journals: The journals that are open, by name.
        deferred: Whether writes to journals are reported before they are on disk.

    Returns:
        The queues with new messages, those that other programs have changed, and the time of the next due message.
    """
    arrived: set[str] = set()
    changed: set[str] = set()
    while True:
        step = partial(_release, file=file, deferred=deferred)
        released = await file.writer.submit(step, lambda done: tell_of(journals, done.writes))
        for one in released.writes:
            journal = journals.get(one.write.journal)
            if journal is not None and not one.is_done:
                await journal.do_write(one.write)
        arrived |= released.queues
        changed |= released.changed
        if not released.is_more:
            return Due(frozenset(arrived | changed), released.next_at, frozenset(changed))


@dataclass(frozen=True, slots=True)
class _Released:
    queues: set[str]
    changed: set[str]
    is_more: bool
    next_at: float | None
    writes: list[ArrivedWrite]


def _release(tx: Transaction, file: QueueFile, *, deferred: bool) -> _Released:
    published, taken, left = take_outbox(tx, file.store, file.limits)
    writes = do_writes(tx, [Left(*one) for one in left], deferred=deferred)
    due, next_at = release(tx)
    changed = {name for (name,) in tx.connection.execute("SELECT queue FROM changed").fetchall()}
    if changed:
        tx.connection.execute("DELETE FROM changed")
    is_more = taken > 0 or (next_at is not None and next_at <= tx.now)
    return _Released(published | due, changed, is_more, next_at, writes)


async def expire_consumers(
    file: QueueFile, idle_s: float, attached: Collection[tuple[str, str]]
) -> list[ExpiredConsumer]:
    """Remove consumers that were not used for a time."""
    in_use, limit = frozenset(attached), file.clock.now() - idle_s
    expired: list[ExpiredConsumer] = []
    after = -1
    while after:
        step = partial(expire, limit=limit, attached=in_use, after=max(0, after))
        some, after = await file.writer.submit(step)
        expired += some
        file.sweep()
    return expired
