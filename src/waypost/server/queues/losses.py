"""Tells consumers which messages they lost to the limits of their queue, until they have acknowledged it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from waypost.errors import StorageError
from waypost.server.watching.hooks import Hooks
from waypost.server.watching.queue_events import MessagesLost

if TYPE_CHECKING:
    from waypost.server.queues.runner import Runner

__all__ = ["Losses"]

logger = logging.getLogger("waypost.queue")


class Losses:
    """What is still to be told.

    Args:
        keep_task: Holds on to a task until it is done.
        hooks: Who else is told.
    """

    def __init__(self, keep_task: Callable[[asyncio.Task[Any]], None], hooks: Hooks) -> None:
        self._keep_task = keep_task
        self._hooks = hooks
        self._telling: set[Runner] = set()
        self._told: dict[Runner, MessagesLost] = {}

    def tell(self, runner: Runner) -> None:
        """Tell of what a consumer lost, if it lost anything and somebody is there to be told."""
        lost = runner.info.lost
        if lost is None:
            self._told.pop(runner, None)
            return
        notice = MessagesLost(runner.queue_name, runner.info.name, lost.messages, lost.first, lost.last)
        if self._told.get(runner) != notice:
            self._told[runner] = notice
            self._report(notice)
        if runner not in self._telling and len(runner.takers):
            self._telling.add(runner)
            self._keep_task(asyncio.get_running_loop().create_task(self._tell(runner, notice)))

    def forget(self, runner: Runner) -> None:
        """Forget a consumer that is served no more; what it has not acknowledged it is told again."""
        self._told.pop(runner, None)

    def _report(self, notice: MessagesLost) -> None:
        logger.warning(
            "queue %r: consumer %r lost %d messages, from %d to %d, to the queue's limits",
            notice.queue, notice.consumer, notice.messages, notice.first_offset, notice.last_offset,
        )  # fmt: skip
        if self._hooks.messages_lost.observers:
            self._hooks.messages_lost.tell(notice)

    async def _tell(self, runner: Runner, notice: MessagesLost) -> None:
        has_more = False
        try:
            for attachment in reversed(list(runner.takers)):
                if attachment.carrier.is_live and await attachment.carrier.tell_loss(notice):
                    await runner.forget_loss(notice.last_offset)
                    has_more = runner.info.lost is not None
                    break
        except StorageError as problem:
            logger.error("queue %r: a notice of loss stays: %s", notice.queue, problem)
        finally:
            self._telling.discard(runner)
        if has_more:
            # It has lost some more since it was told.
            self.tell(runner)
