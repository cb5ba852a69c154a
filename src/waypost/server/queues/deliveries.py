"""Queues to sockets and workers: which consumers are being served, and by whom."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from waypost.errors import ConfigurationError, NotConnected
from waypost.server.emitting.members import Member
from waypost.server.queues.configured import Configured
from waypost.server.queues.delivery import Attachment
from waypost.server.queues.due import DueTimer
from waypost.server.queues.losses import Losses
from waypost.server.queues.message_ids import MessageIds
from waypost.server.queues.options import Order, QueueOptions
from waypost.server.queues.runner import Runner
from waypost.server.queues.socket_carrier import SocketCarrier
from waypost.server.queues.worker import WorkerCarrier, WorkerPlan
from waypost.server.services import Services
from waypost.server.watching.queue_events import MessageDied
from waypost.storage.queue_records import Attempt, Due, Enqueued, MessageRow, NewMessageRow, Place

__all__ = ["Consumption", "Deliveries"]

logger = logging.getLogger("waypost.queue")


@dataclass(frozen=True, slots=True)
class Consumption:
    """What a socket wants of a queue.

    Attributes:
        queue: The queue's name.
        consumer: The consumer's name.
        start: Where a new consumer starts.
        prefetch: How many messages the socket may have in hand; ``None`` for the queue's option.
        order: In which order messages go out; ``None`` for the queue's option.
    """

    queue: str
    consumer: str
    start: Place
    prefetch: int | None
    order: Order | None


class Deliveries:
    """All consumers that have sockets or workers attached.

    Args:
        services: What the server's parts share.
        options: Those of queues that have none of their own.

    Attributes:
        configured: The queues' options.
        due: The timer of messages with a delay.
        message_ids: Makes the ids of messages that came without one.
    """

    def __init__(self, services: Services, options: QueueOptions) -> None:
        environment, keep_task = services.environment, services.keep_task
        self.configured = Configured(options)
        self.due = DueTimer(lambda: services.store, environment.wall_time, keep_task, self._released)
        self.message_ids = MessageIds(environment.new_id)
        self._services = services
        self._losses = Losses(keep_task, services.hooks)
        self._runners: dict[str, dict[str, Runner]] = {}
        self._serving: dict[Member, dict[Runner, Attachment]] = {}
        self._plans: list[WorkerPlan] = []
        self._is_started = False
        self._is_stopping = False

    # -- its life -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin with an open store: read what was configured, let what is due come, start the workers.

        Raises:
            StorageError: The store did not answer.
        """
        store = self._services.store
        self.configured.load(await store.configurations())
        store.watch(self.due.look)
        self.due.look()
        self._is_started = True
        for plan in self._plans:
            await self._start_worker(plan)

    def stop(self) -> None:
        """Hand out nothing any more; what is in hand may still be answered."""
        self._is_stopping = True
        self.due.stop()
        for runner in self._all_runners():
            runner.stop()

    # -- who takes messages ---------------------------------------------------------------------------------

    async def attach(self, member: Member, wanted: Consumption) -> None:
        """Deliver a consumer's messages to a socket.

        Raises:
            NotConnected: The socket has left.
            ConfigurationError: The consumer is being served in another order.
            StorageError: The store did not answer.
        """
        runner = await self._runner(wanted.queue, wanted.consumer, wanted.start, wanted.order)
        if member.left_because is not None:
            runner.wake()
            raise NotConnected(member.sid, member.namespace, f"consume {wanted.queue!r}")
        serving = self._serving.setdefault(member, {})
        old = serving.pop(runner, None)
        if old is not None:
            runner.detach(old, to_blame=False)
        carrier = SocketCarrier(member, runner, self._services)
        attachment = carrier.attachment = Attachment(
            carrier,
            prefetch=runner.options.prefetch if wanted.prefetch is None else wanted.prefetch,
            prefetch_bytes=runner.options.prefetch_bytes,
        )
        serving[runner] = attachment
        runner.attach(attachment)
        self._losses.tell(runner)

    def retire(self, member: Member, queue: str, consumer: str) -> None:
        """Give a socket nothing more of a consumer; what it has in hand it may still acknowledge."""
        runner = self._runners.get(queue, {}).get(consumer)
        attachment = self._serving.get(member, {}).get(runner) if runner is not None else None
        if runner is not None and attachment is not None:
            runner.retire(attachment)

    def extend(self, member: Member, queue: str, consumer: str, seconds: float) -> int:
        """Let a socket keep what it has in hand for longer; returns how many messages that are."""
        runner = self._runners.get(queue, {}).get(consumer)
        attachment = self._serving.get(member, {}).get(runner) if runner is not None else None
        if attachment is None:
            return 0
        until = asyncio.get_running_loop().time() + seconds
        for delivery in attachment.in_hand.values():
            delivery.extended_until = max(delivery.extended_until, until)
        return len(attachment.in_hand)

    def detach(self, member: Member) -> None:
        """Take a socket that has ended away from all its consumers; what it had in hand is delivered again."""
        for runner, attachment in self._serving.pop(member, {}).items():
            runner.detach(attachment, to_blame=not self._is_stopping)

    def went_live(self, member: Member) -> None:
        """Note that messages can go out to a socket from now on."""
        for runner, attachment in self._serving.get(member, {}).items():
            runner.enliven(attachment)
            self._losses.tell(runner)

    def heartbeat_sent(self, member: Member) -> None:
        """Note that a socket was asked for a sign of life."""
        for attachment in self._serving.get(member, {}).values():
            if isinstance(attachment.carrier, SocketCarrier):
                attachment.carrier.owes_heartbeat = True

    def heartbeat_answered(self, member: Member) -> None:
        """Renew the leases of what a socket has in hand."""
        for runner, attachment in self._serving.get(member, {}).items():
            if isinstance(attachment.carrier, SocketCarrier):
                attachment.carrier.give_sign()
            if attachment.is_silent:
                runner.enliven(attachment)

    def add_worker(self, plan: WorkerPlan) -> None:
        """Let a function of this process take messages, as soon as the store is open."""
        self._plans.append(plan)
        if self._is_started:
            self._services.keep_task(asyncio.get_running_loop().create_task(self._start_worker(plan)))

    async def _start_worker(self, plan: WorkerPlan) -> None:
        order: Order | None = plan.order or ("none" if plan.concurrency > 1 else None)
        runner = await self._runner(plan.queue, plan.consumer, plan.start, order)
        label = f"worker {self._plans.index(plan) + 1}"
        carrier = WorkerCarrier(plan, runner, self._services, label)
        runner.attach(
            Attachment(carrier, prefetch=plan.concurrency, prefetch_bytes=runner.options.max_bytes),
        )
        self._losses.tell(runner)

    # -- what is told of queues -----------------------------------------------------------------------------

    def arrived(self, queue: str, messages: Sequence[NewMessageRow], enqueued: Enqueued) -> None:
        """Take what was just stored to the consumers that are being served."""
        if enqueued.next_due_at is not None:
            self.due.arm(enqueued.next_due_at)
        runners = self._runners.get(queue)
        if not runners:
            return
        now = self._services.environment.wall_time()
        for message, accepted in zip(messages, enqueued.accepted, strict=True):
            if accepted.duplicate or not accepted.position:
                continue
            expires_at = None if message.ttl_s is None else now + message.ttl_s
            stored = MessageRow(accepted.position, message.id, message.record, now, message.key, expires_at)
            for runner in runners.values():
                runner.arrive(stored)
        for loser in enqueued.losers:
            if loser in runners:
                runners[loser].look()

    def changed(self, queue: str, consumer: str | None = None) -> None:
        """Look anew at the consumers of a queue, or at one: they were moved, paused, or got messages."""
        for name, runner in self._runners.get(queue, {}).items():
            if consumer in (None, name):
                runner.look()

    def begin_anew(self, queue: str) -> None:
        """Let the consumers of a queue begin anew where they stand: what they had in hand is no more."""
        for runner in self._runners.get(queue, {}).values():
            runner.begin_anew()

    def removed(self, queue: str, consumer: str | None = None) -> None:
        """Take everybody away from the consumers of a queue that are no more."""
        for name, runner in list(self._runners.get(queue, {}).items()):
            if consumer in (None, name):
                runner.abandon()
                for serving in self._serving.values():
                    serving.pop(runner, None)

    def runner(self, queue: str, consumer: str) -> Runner | None:
        """Return what serves a consumer, if anything does."""
        return self._runners.get(queue, {}).get(consumer)

    def serving(self, queue: str) -> list[Runner]:
        """Return what serves a queue's consumers."""
        return list(self._runners.get(queue, {}).values())

    @property
    def attached(self) -> list[tuple[str, str]]:
        """Queue and name of all consumers that are being served."""
        return [(runner.queue_name, runner.row.name) for runner in self._all_runners()]

    def reconfigured(self, queue: str) -> None:
        """Let a queue's new options hold for what is being served."""
        for runner in self._runners.get(queue, {}).values():
            runner.options = self.configured.of(queue)
            runner.wake()

    # -- inside ---------------------------------------------------------------------------------------------

    async def _runner(self, queue: str, consumer: str, start: Place, order: Order | None) -> Runner:
        """Return what serves a consumer, made if need be; in the end it is served if somebody is attached to it."""
        stored = self._services.store.queue(queue)
        row = await stored.add_consumer(consumer, start=start)
        options = self.configured.of(queue)
        runners = self._runners.setdefault(queue, {})
        runner = runners.get(consumer)
        if runner is None:
            runner = Runner(stored, row, order or options.order, options, self._services, self)
            runners[consumer] = runner
            if self._is_stopping:
                runner.stop()
        elif order is not None and order != runner.order:
            raise ConfigurationError(
                "order", order, f'"{runner.order}", in which consumer {consumer!r} of queue {queue!r} is served now'
            )
        return runner

    def _all_runners(self) -> Iterator[Runner]:
        for runners in self._runners.values():
            yield from runners.values()

    async def _released(self, due: Due) -> None:
        for queue in sorted(due.changed):
            self.configured.take(await self._services.store.queue(queue).configuration())
            self.reconfigured(queue)
        for queue in sorted(due.queues):
            self.changed(queue)

    # -- what runners tell: see `Watcher` -------------------------------------------------------------------

    def message_died(self, runner: Runner, message: MessageRow, attempt: Attempt) -> None:
        """Tell the application of a message that was given up."""
        self._services.counters.dead_letters += 1
        logger.warning(
            "queue %r, consumer %r: message %s is a dead letter after %d failures and %d lost connections: %s",
            runner.queue_name, runner.row.name, message.id, attempt.failures, attempt.losses, attempt.reason,
        )  # fmt: skip
        hook = self._services.hooks.message_died
        if hook.observers:
            hook.tell(MessageDied(runner.queue_name, runner.row.name, message.id, message.position, attempt.reason))

    def loss_changed(self, runner: Runner) -> None:
        """Tell what a consumer has lost to its queue's limits."""
        self._losses.tell(runner)

    def became_idle(self, runner: Runner) -> None:
        """Let go of a runner that has nothing to do."""
        self._losses.forget(runner)
        runners = self._runners.get(runner.queue_name, {})
        if runners.get(runner.row.name) is runner:
            del runners[runner.row.name]
            if not runners:
                del self._runners[runner.queue_name]
