"""The consumers of a server that have sockets or workers attached, and which ones these are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from waypost.errors import ConfigurationError, NotConnected
from waypost.logs import get_logger
from waypost.server.emitting.members import Member
from waypost.server.queues.caveats import Caveats
from waypost.server.queues.configured import Configured
from waypost.server.queues.delivery import Attachment, Delivery
from waypost.server.queues.due import DueTimer
from waypost.server.queues.losses import Losses
from waypost.server.queues.message_ids import MessageIds
from waypost.server.queues.options import Order, QueueOptions
from waypost.server.queues.overdue import OverdueLog
from waypost.server.queues.runner import Runner, Session
from waypost.server.queues.socket_carrier import SocketCarrier
from waypost.server.queues.workers import Workers
from waypost.server.services import Services
from waypost.server.watching.queue_events import MessageDied
from waypost.storage.queue_records import Attempt, Due, Enqueued, MessageRow, NewMessageRow, Place
from waypost.storage.wall_times import place_from_wall

__all__ = ["Consumption", "Deliveries"]

logger = get_logger("waypost.queue")


@dataclass(frozen=True, slots=True)
class Consumption:
    """The arguments of `Socket.consume`.

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
    """All consumers of a server that have sockets or workers attached, each with its `Runner`.

    Args:
        services: What the server's parts share.
        options: Those of queues that have none of their own.

    Attributes:
        caveats: Warns of clients whose acknowledgements mean little.
        configured: The queues' options.
        due: The timer of messages with a delay.
        workers: The functions of this process that handle messages.
        most_in_hand: The largest number of messages that any consumer lets a socket have in hand.
        message_ids: Makes the ids of messages that came without one.
    """

    def __init__(self, services: Services, options: QueueOptions) -> None:
        self.caveats = Caveats()
        self.most_in_hand = options.prefetch
        self.message_ids = MessageIds(services.environment.new_id)
        self._services = services
        self._options = options
        self._losses = Losses(services.keep_task, services.hooks)
        self.workers = Workers(services, self._runner, self._losses.tell)
        self._runners: dict[str, dict[str, Runner]] = {}
        self._serving: dict[Member, dict[Runner, Attachment]] = {}
        self.renew()

    # -- its life -------------------------------------------------------------------------------------------

    def renew(self) -> None:
        """Be as before the first start. The functions that the application registered stay."""
        services = self._services
        self.configured = Configured(self._options)
        self.due = DueTimer(lambda: services.store, services.keep_task, self._released)
        self._overdue = OverdueLog(services.keep_task)
        self._losses.forget_all()
        self.workers.renew()
        self._runners.clear()
        self._serving.clear()
        self._is_stopping = False

    async def start(self) -> None:
        """Begin with an open store: read the queues' options, release due messages, start the workers.

        Raises:
            StorageError: The store did not answer.
        """
        store = self._services.store
        self.configured.load(await store.configurations())
        store.watch(self.due.look)
        self.due.look()
        await self.workers.start()

    def stop(self) -> None:
        """Stop all deliveries. Messages in hand may still be answered."""
        self._is_stopping = True
        self.due.stop()
        for runner in self._all_runners():
            runner.stop()

    # -- who takes messages ---------------------------------------------------------------------------------

    async def attach(self, member: Member, wanted: Consumption) -> None:
        """Attach a socket to a consumer, so that it gets the consumer's messages.

        Raises:
            NotConnected: The socket has left.
            ConfigurationError: The consumer is being served in another order.
            StorageError: The store did not answer.
        """
        runner = await self._runner(wanted.queue, wanted.consumer, wanted.start, wanted.order)
        self.most_in_hand = max(self.most_in_hand, runner.options.prefetch, wanted.prefetch or 0)
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
            # An application that names a number knows how many its clients handle at a time.
            adapts=wanted.prefetch is None,
        )
        serving[runner] = attachment
        runner.attach(attachment)
        if carrier.is_live:
            self._bring_home(member, runner)
        self._losses.tell(runner)

    def retire(self, member: Member, queue: str, consumer: str) -> None:
        """Send a socket no more messages of a consumer. It may still acknowledge those it has."""
        runner = self._runners.get(queue, {}).get(consumer)
        attachment = self._serving.get(member, {}).get(runner) if runner is not None else None
        if runner is not None and attachment is not None:
            runner.retire(attachment)

    def extend(self, member: Member, queue: str, consumer: str, seconds: float) -> int:
        """Extend the leases of the messages that a socket has in hand; returns their number."""
        runner = self._runners.get(queue, {}).get(consumer)
        attachment = self._serving.get(member, {}).get(runner) if runner is not None else None
        if attachment is None:
            return 0
        until = self._services.store.clock.now() + seconds
        for delivery in attachment.in_hand.values():
            delivery.extended_until = max(delivery.extended_until, until)
        return len(attachment.in_hand)

    def detach(self, member: Member, *, recoverable: bool) -> None:
        """Detach a socket that has ended from all its consumers.

        Args:
            member: The socket.
            recoverable: Whether its client may come back to its session. If so, its messages stay in its hand until
                their leases end. If not, they are delivered again.
        """
        for runner, attachment in self._serving.pop(member, {}).items():
            if recoverable and not self._is_stopping and isinstance(attachment.carrier, SocketCarrier):
                attachment.carrier.go_away()
                runner.park(attachment, _session_of(member), to_blame=member.was_cut)
            else:
                runner.detach(attachment, to_blame=member.was_cut and not self._is_stopping, answers=False)

    def went_live(self, member: Member) -> None:
        """Note that a socket can get messages from now on."""
        for runner in list(self._serving.get(member, {})):
            self._bring_home(member, runner)
            self._losses.tell(runner)

    def _bring_home(self, member: Member, runner: Runner) -> None:
        """Let a socket take messages, and put back into its hand what its session had there at the cut."""
        serving = self._serving[member]
        attachment, home = serving[runner], runner.take_home(_session_of(member))
        if home is not None and isinstance(home.carrier, SocketCarrier):
            home.take_limits(attachment)
            runner.detach(attachment, to_blame=False)
            home.carrier.come_back(member)
            attachment = serving[runner] = home
        runner.enliven(attachment)

    def heartbeat_sent(self, member: Member) -> None:
        """Note that a heartbeat was sent to a socket."""
        for attachment in self._serving.get(member, {}).values():
            if isinstance(attachment.carrier, SocketCarrier):
                attachment.carrier.owes_heartbeat = True

    def heartbeat_answered(self, member: Member) -> None:
        """Renew the leases of the messages that a socket has in hand: it has answered a heartbeat."""
        for runner, attachment in self._serving.get(member, {}).items():
            if isinstance(attachment.carrier, SocketCarrier):
                attachment.carrier.give_sign()
                doubtful = attachment.carrier.take_doubtful()
                if doubtful:
                    runner.take_back(attachment, doubtful)
            if attachment.is_silent:
                runner.enliven(attachment)

    # -- what is told of queues -----------------------------------------------------------------------------

    def arrived(self, queue: str, messages: Sequence[NewMessageRow], enqueued: Enqueued) -> None:
        """Hand new messages of a queue to its runners, after the store has committed them."""
        if enqueued.next_due_at is not None:
            self.due.arm(enqueued.next_due_at)
        runners = self._runners.get(queue)
        if not runners:
            return
        now = self._services.store.clock.now()
        for message, accepted in zip(messages, enqueued.accepted, strict=True):
            if accepted.duplicate or not accepted.position:
                continue
            expires_at = None if message.ttl_s is None else now + message.ttl_s
            stored = MessageRow(
                accepted.position, message.id, message.record, now, message.key, expires_at, headers=message.headers
            )
            for runner in runners.values():
                runner.arrive(stored)
        for loser in enqueued.losers:
            if loser in runners:
                runners[loser].look()

    def changed(self, queue: str, consumer: str | None = None) -> None:
        """Let the runners of a queue, or of one consumer, read the store: something was moved, paused or added."""
        for name, runner in self._runners.get(queue, {}).items():
            if consumer in (None, name):
                runner.look()

    def begin_anew(self, queue: str) -> None:
        """Let the runners of a queue begin anew from the store: the messages in hand were removed."""
        for runner in self._runners.get(queue, {}).values():
            runner.begin_anew()

    def removed(self, queue: str, consumer: str | None = None) -> None:
        """Detach all sockets and workers from a queue's consumers, or from one, after these were deleted."""
        for name, runner in list(self._runners.get(queue, {}).items()):
            if consumer in (None, name):
                runner.abandon()
                for serving in self._serving.values():
                    serving.pop(runner, None)

    def runner(self, queue: str, consumer: str) -> Runner | None:
        """Return the runner of a consumer; ``None`` if nothing is attached to it."""
        return self._runners.get(queue, {}).get(consumer)

    def serving(self, queue: str) -> list[Runner]:
        """Return the runners of a queue's consumers."""
        return list(self._runners.get(queue, {}).values())

    @property
    def attached(self) -> list[tuple[str, str]]:
        """The queue and name of each consumer that has a runner."""
        return [(runner.queue_name, runner.row.name) for runner in self._all_runners()]

    def reconfigured(self, queue: str) -> None:
        """Hand a queue's new options to its runners."""
        for runner in self._runners.get(queue, {}).values():
            runner.options = self.configured.of(queue)
            runner.wake()

    # -- inside ---------------------------------------------------------------------------------------------

    async def _runner(self, queue: str, consumer: str, start: Place, order: Order | None) -> Runner:
        """Return the runner of a consumer, and make one if it has none. Attach something, or wake it to end it."""
        stored = self._services.store.queue(queue)
        place = place_from_wall(self._services.store.clock, start)
        row = await stored.add_consumer(consumer, start=place)
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

    # -- the `Watcher` of the runners -----------------------------------------------------------------------

    def message_died(self, runner: Runner, message: MessageRow, attempt: Attempt) -> None:
        """Tell the application of a message that was given up."""
        self._services.counters.dead_letters += 1
        logger.warning(
            "queue %r, consumer %r: message %s is a dead letter (failures: %d, lost connections: %d): %s",
            runner.queue_name, runner.row.name, message.id, attempt.failures, attempt.losses, attempt.reason,
        )  # fmt: skip
        hook = self._services.hooks.message_died
        if hook.observers:
            hook.tell(MessageDied(runner.queue_name, runner.row.name, message.id, message.position, attempt.reason))

    def loss_changed(self, runner: Runner) -> None:
        """Tell a consumer and the application what the consumer lost to its queue's limits."""
        self._losses.tell(runner)

    def message_overdue(self, runner: Runner, delivery: Delivery) -> None:
        """Log that a client has not acknowledged a message in time, once an hour for a consumer."""
        store, lease_s = self._services.store, runner.options.lease_s
        queue = store.queue(runner.queue_name)
        self._overdue.tell(queue, runner.row.name, delivery, lease_s=lease_s, now=store.clock.now())

    def successor(self, runner: Runner) -> Runner | None:
        """Return the runner that serves the consumer of an idle one now; ``None`` without one."""
        return self.runner(runner.queue_name, runner.row.name)

    def became_idle(self, runner: Runner) -> None:
        """Remove a runner that nothing is attached to."""
        self._losses.forget(runner)
        runners = self._runners.get(runner.queue_name, {})
        if runners.get(runner.row.name) is runner:
            del runners[runner.row.name]
            if not runners:
                del self._runners[runner.queue_name]


def _session_of(member: Member) -> Session:
    return member.namespace, member.sid
