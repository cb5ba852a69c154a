"""Workers: functions of this process that handle a queue's messages."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from waypost.errors import ArgumentMismatch, MalformedPacket, Reject
from waypost.protocol.rejections import Rejection
from waypost.server.calling.faults import fault
from waypost.server.queues.delivery import Delivery, Session
from waypost.server.queues.message import Message
from waypost.server.queues.options import Order, QueueOptions
from waypost.server.queues.serving import Serving
from waypost.server.queues.verdict import is_spent
from waypost.server.services import Services
from waypost.server.watching.hooks import report_failure
from waypost.server.watching.queue_events import MessagesLost
from waypost.storage.queue_records import MessageRow, Place
from waypost.typed.handlers import Handler

__all__ = ["WorkerCarrier", "WorkerPlan"]

_MESSAGE_ALONE = 1


@dataclass(frozen=True, slots=True, eq=False)
class WorkerPlan:
    """The arguments of ``@io.consumer(…)``.

    Attributes:
        queue: The queue's name.
        consumer: The consumer's name.
        handler: The function.
        concurrency: The largest number of messages that it handles at the same time.
        start: The place where a new consumer starts.
        order: The delivery order; ``None`` for the queue's option.
        max_losses: The number of times that the process may end while the function has a message; ``None`` for the
            queue's option.
    """

    queue: str
    consumer: str
    handler: Handler
    concurrency: int
    start: Place
    order: Order | None
    max_losses: int | None = None


class WorkerCarrier:
    """A function at one consumer. See `Carrier`.

    Args:
        plan: The arguments of ``@io.consumer(…)``.
        source: The consumer.
        services: What the server's parts share.
        label: The worker's name in logs and in the store.

    Attributes:
        answers_late: Always False: a function is cancelled when its message goes out again.
        owes_heartbeat: Always False: the worker is in this process.
        is_live: Always True.
        is_in_process: Always True.
        is_noted: Always True.
        label: The worker's name in logs and in the store.
        session: Always ``None``.
        source: The consumer.
    """

    __slots__ = (
        "_loop",
        "_plan",
        "_services",
        "_tasks",
        "answers_late",
        "is_in_process",
        "is_live",
        "is_noted",
        "label",
        "owes_heartbeat",
        "session",
        "source",
    )

    def __init__(self, plan: WorkerPlan, source: Serving, services: Services, label: str) -> None:
        self.label = label
        self.is_live = True
        self.is_in_process = self.is_noted = True
        self.answers_late = False
        self.owes_heartbeat = False
        self._plan = plan
        self.source = source
        self.session: Session | None = None
        self._services = services
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[Delivery, asyncio.Task[None]] = {}

    @property
    def max_losses(self) -> int | None:
        """The function's own limit of losses; ``None`` for the queue's."""
        return self._plan.max_losses

    @property
    def heard_at(self) -> float:
        """The present time: a running function is alive."""
        return self._services.store.clock.now()

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks in which the function runs."""
        return list(self._tasks.values())

    def can_take(self, size: int) -> bool:
        """Return True: only the attachment's credit limits how many messages run at a time."""
        return True

    def is_too_much(self, message: MessageRow, options: QueueOptions) -> bool:
        """Return whether the process has ended too often while the function had the message."""
        return is_spent(message, options, in_process=True, max_losses=self._plan.max_losses)

    def send(self, delivery: Delivery) -> None:
        """Run the function with a message, in a task."""
        task = self._loop.create_task(self._run(delivery))
        self._tasks[delivery] = task
        self._services.keep_task(task)

    def forget(self, delivery: Delivery) -> None:
        """Cancel a function whose message went to another taker; in a thread it runs on without effect."""
        task = self._tasks.pop(delivery, None)
        if task is not None:
            task.cancel()

    def taken_back(self, delivery: Delivery) -> None:
        """Do nothing: the function runs on until its message goes out again."""

    async def tell_loss(self, notice: MessagesLost) -> bool:
        """Return True: in this process, the hook ``messages_lost`` tells observers."""
        return True

    async def _run(self, delivery: Delivery) -> None:
        try:
            rejection = await self._handle(delivery)
        finally:
            self._tasks.pop(delivery, None)
        if rejection is None:
            self.source.acknowledge(delivery)
        else:
            self.source.reject(delivery, rejection)

    async def _handle(self, delivery: Delivery) -> Rejection | None:
        handler = self._plan.handler
        noted: list[Rejection] = []
        try:
            clock, lease_s = self._services.store.clock, self.source.options.lease_s
            message = Message(self._plan.queue, delivery, lease_s, clock, noted.append)
        except MalformedPacket as problem:
            return Rejection(str(problem), is_final=True)
        arguments = message.args if handler.most > _MESSAGE_ALONE else ()
        if not handler.takes(len(arguments)):
            expected = f"{message.event} takes {handler.expectation} argument(s), {len(arguments)} came"
            return Rejection(expected, is_final=True)
        try:
            await handler.run((message, *handler.convert(arguments)), self._services.threads)
        except ArgumentMismatch as mismatch:
            # It fits no better in an hour: only other code helps.
            return Rejection(str(mismatch), is_final=True)
        except Reject as rejected:
            return Rejection(rejected.reason, is_final=rejected.final, retry_in_s=rejected.retry_in_s)
        except BaseException as error:  # noqa: BLE001  # reported; the application's own fault must not end the worker
            report_failure(self._services.hooks, f"consumer {self._plan.queue}", "", "", fault(error))
            return Rejection(f"{type(error).__name__}: {error}", exception=_name_of(type(error)))
        return noted[-1] if noted else None


def _name_of(kind: type[BaseException]) -> str:
    """Return the name of an exception's type, with its module unless it is a builtin."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
