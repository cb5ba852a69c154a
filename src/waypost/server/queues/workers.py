"""The workers of a server: registered before the start, attached with it, and waited for at the stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from waypost.errors import StorageError, StoreClosed
from waypost.logs import fields, get_logger
from waypost.retrying import STORE_RETRIES, Backoff
from waypost.server.basics.deadline import Deadline
from waypost.server.queues.delivery import Attachment
from waypost.server.queues.options import Order
from waypost.server.queues.serving import Serving
from waypost.server.queues.worker import WorkerCarrier, WorkerPlan
from waypost.server.services import Services
from waypost.storage.queue_records import Place

__all__ = ["Workers"]

logger = get_logger("waypost.queue")

_UNFINISHED = "not finished when the server stopped"

RunnerOf = Callable[[str, str, Place, Order | None], Awaitable[Serving]]
Attach = Callable[[Serving, Attachment, Order | None], Awaitable[None]]


class Workers:
    """All workers of a server.

    Args:
        services: What the server's parts share.
        runner_of: Returns the runner of a consumer, and makes one if it has none.
        attach: Attaches a worker to its consumer.
    """

    def __init__(self, services: Services, runner_of: RunnerOf, attach: Attach) -> None:
        self._services = services
        self._runner_of = runner_of
        self._attach = attach
        self._plans: list[WorkerPlan] = []
        self._workers: list[tuple[WorkerCarrier, Attachment]] = []
        self._is_started = False
        self._is_stopping = False

    def renew(self) -> None:
        """Attach the functions again at the next start."""
        self._workers = []
        self._is_started = self._is_stopping = False

    def add(self, plan: WorkerPlan) -> None:
        """Attach a function to a consumer as soon as the store is open."""
        self._plans.append(plan)
        if self._is_started:
            self._services.keep_task(asyncio.get_running_loop().create_task(self._start_late(plan)))

    async def start(self) -> None:
        """Attach all functions: the store is open.

        Raises:
            StorageError: The store did not answer.
        """
        self._is_started = True
        for plan in self._plans:
            await self._start(plan)

    def retire(self) -> None:
        """Hand no more messages to functions. Those that run may finish."""
        self._is_stopping = True
        for carrier, attachment in self._workers:
            carrier.source.retire(attachment)

    @property
    def running(self) -> list[asyncio.Task[None]]:
        """The tasks of the functions that run."""
        return [task for carrier, _ in self._workers for task in carrier.tasks]

    async def finish(self, deadline: Deadline) -> None:
        """Wait for the functions that run. After the deadline, cancel the others, and count their deliveries."""
        await deadline.wait_for(lambda: self.running)
        for carrier, attachment in self._workers:
            source = carrier.source
            unfinished = len(attachment.in_hand)
            if unfinished:
                logger.warning(
                    "queue %r: the functions of %d messages did not finish before the stop; they are delivered again",
                    source.queue_name, unfinished, extra=fields(queue=source.queue_name, count=unfinished),
                )  # fmt: skip
            source.give_up(attachment, _UNFINISHED)
            for task in carrier.tasks:
                task.cancel()

    async def _start(self, plan: WorkerPlan) -> None:
        order: Order | None = plan.order or ("none" if plan.concurrency > 1 else None)
        runner = await self._runner_of(plan.queue, plan.consumer, plan.start, order)
        label = f"worker {self._plans.index(plan) + 1}"
        nodes = self._services.store.nodes
        if nodes is not None:
            label = f"{nodes.name} {label}"
        carrier = WorkerCarrier(plan, runner, self._services, label)
        attachment = Attachment(carrier, prefetch=plan.concurrency, prefetch_bytes=runner.options.max_bytes)
        self._workers.append((carrier, attachment))
        await self._attach(runner, attachment, order)
        if self._is_stopping:
            carrier.source.retire(attachment)

    async def _start_late(self, plan: WorkerPlan) -> None:
        """Start a worker of a running server; nobody else would, if the store fails just now."""
        backoff = Backoff(STORE_RETRIES)
        while True:
            try:
                await self._start(plan)
                return
            except StoreClosed:
                return
            except StorageError as problem:
                pause_s = backoff.next_s()
                logger.error(
                    "queue %r: a worker begins %.1f s later: %s",
                    plan.queue,
                    pause_s,
                    problem,
                    extra=fields(queue=plan.queue, seconds=pause_s),
                )
                await asyncio.sleep(pause_s)
