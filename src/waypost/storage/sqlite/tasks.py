"""The periodic tasks for all queues of a file, in steps between other jobs."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from waypost.storage.queue_records import Due, ExpiredConsumer
from waypost.storage.sqlite.jobs import Transaction
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


async def release_due(file: QueueFile) -> Due:
    """Assign positions to messages that are due or published.

    Returns:
        The queues with new messages, those that other programs have changed, and the time of the next due message.
    """
    arrived: set[str] = set()
    changed: set[str] = set()
    while True:
        found, others, is_more, next_at = await file.writer.submit(partial(_release, file=file))
        arrived |= found
        changed |= others
        if not is_more:
            return Due(frozenset(arrived | changed), next_at, frozenset(changed))


def _release(tx: Transaction, file: QueueFile) -> tuple[set[str], set[str], bool, float | None]:
    published, taken = take_outbox(tx, file.store, file.limits)
    due, next_at = release(tx)
    changed = {name for (name,) in tx.connection.execute("SELECT queue FROM changed").fetchall()}
    if changed:
        tx.connection.execute("DELETE FROM changed")
    is_more = taken > 0 or (next_at is not None and next_at <= tx.now)
    return published | due, changed, is_more, next_at


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
