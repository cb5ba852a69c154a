"""The consumers of a server that have sockets or workers attached, and which ones these are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from waypost.errors import ConfigurationError, NotConnected, StorageError
from waypost.logs import fields, get_logger
from waypost.server.emitting.members import Member
from waypost.server.queues.caveats import Caveats
from waypost.server.queues.configured import Configured
from waypost.server.queues.delivery import Attachment, Delivery, DeliverySource, Session
from waypost.server.queues.due import DueTimer
from waypost.server.queues.load import Load, load_of
from waypost.server.queues.losses import LosingConsumer, Losses
from waypost.server.queues.message_ids import MessageIds
from waypost.server.queues.options import Order, QueueOptions
from waypost.server.queues.overdue import OverdueLog
from waypost.server.queues.runner import Runner
from waypost.server.queues.serving import Serving
from waypost.server.queues.socket_carrier import SocketCarrier
from waypost.server.queues.spread.branch import Branch
from waypost.server.queues.spread.letters import Changed, LateAck
from waypost.server.queues.spread.owners import Owners
from waypost.server.queues.spread.post import Key
from waypost.server.queues.verdict import cause_of
from waypost.server.queues.workers import Workers
from waypost.server.services import Services
from waypost.server.watching.counters import count
from waypost.server.watching.queue_events import MessageDied
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Attempt, ConsumerRow, Due, Enqueued, MessageRow, NewMessageRow, Place
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
        is_stopping: True from the beginning of a stop.
    """

    def __init__(self, services: Services, options: QueueOptions) -> None:
        self.caveats = Caveats()
        self.most_in_hand = options.prefetch
        self.message_ids = MessageIds(services.environment.new_id)
        self._services = services
        self._options = options
        self._losses = Losses(services.keep_task, services.hooks)
        self.workers = Workers(services, self._serve, self._attach)
        self._runners: dict[str, dict[str, Serving]] = {}
        self._serving: dict[Member, dict[Serving, Attachment]] = {}
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
        services.queues.renew()
        # Who owns which consumer; ``None`` for a store of one process.
        self._owners: Owners | None = None
        self.is_stopping = False

    async def start(self) -> None:
        """Begin with an open store: read the queues' options, release due messages, start the workers.

        Raises:
            StorageError: The store did not answer.
        """
        store = self._services.store
        self.configured.load(await store.configurations())
        store.watch(self.due.look)
        if store.nodes is not None:
            self._owners = Owners(store.nodes, self._services, self)
            store.nodes.follow_queues(self)
        self.due.look()
        await self.workers.start()

    def stop(self) -> None:
        """Stop all deliveries. Messages in hand may still be answered."""
        self.is_stopping = True
        self.due.stop()
        for runner in list(self._all_runners()):
            runner.stop()
        if self._owners is not None:
            self._owners.hand_over_all()

    # -- who takes messages ---------------------------------------------------------------------------------

    async def attach(self, member: Member, wanted: Consumption) -> None:
        """Attach a socket to a consumer, so that it gets the consumer's messages.

        Raises:
            NotConnected: The socket has left.
            ConfigurationError: The consumer is being served in another order.
            StorageError: The store did not answer.
        """
        queue, consumer = wanted.queue, wanted.consumer
        runner = await self._serve(queue, consumer, wanted.start, wanted.order)
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
        await self._attach(runner, attachment, wanted.order)
        # Meanwhile the socket may have gone, and another node may own the consumer.
        current = self.find(queue, consumer)
        if carrier.is_live and current is not None and current in self._serving.get(member, {}):
            self._bring_home(member, current)

    async def _attach(self, runner: Serving, attachment: Attachment, order: Order | None) -> None:
        if self._owners is not None:
            await self._owners.attach(runner, attachment, order)
        elif isinstance(runner, Runner):
            runner.attach(attachment)
        if isinstance(runner, Runner):
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
            delivery.extend(until)
        return len(attachment.in_hand)

    def detach(self, member: Member, *, recoverable: bool) -> None:
        """Detach a socket that has ended from all its consumers.

        Args:
            member: The socket.
            recoverable: Whether its client may come back to its session. If so, its messages stay in its hand until
                their leases end. If not, they are delivered again.
        """
        for runner, attachment in self._serving.pop(member, {}).items():
            # Where there are other nodes, the client comes back to one of them.
            may_return = recoverable and (self._owners is not None or not self.is_stopping)
            if may_return and isinstance(attachment.carrier, SocketCarrier):
                attachment.carrier.go_away()
                runner.park(attachment, _session_of(member), to_blame=member.was_cut)
            else:
                runner.detach(attachment, to_blame=member.was_cut and not self.is_stopping, answers=False)

    def went_live(self, member: Member) -> None:
        """Note that a socket can get messages from now on."""
        for runner in list(self._serving.get(member, {})):
            self._bring_home(member, runner)
            if isinstance(runner, Runner):
                self._losses.tell(runner)

    def _bring_home(self, member: Member, runner: Serving) -> None:
        """Let a socket take messages, and put back into its hand what its session had there at the cut."""
        serving = self._serving[member]
        attachment, home = serving[runner], runner.take_home(_session_of(member))
        if home is not None and isinstance(home.carrier, SocketCarrier):
            home.take_limits(attachment)
            runner.detach(attachment, to_blame=False)
            home.carrier.come_back(member)
            attachment = serving[runner] = home
        runner.enliven(attachment)
        if isinstance(attachment.carrier, SocketCarrier):
            attachment.carrier.look_for_doubtful()

    def heartbeat_sent(self, member: Member) -> None:
        """Note that a heartbeat was sent to a socket."""
        for runner, attachment in self._serving.get(member, {}).items():
            if isinstance(attachment.carrier, SocketCarrier):
                attachment.carrier.owes_heartbeat = True
                runner.heartbeat_sent(attachment)

    def heartbeat_answered(self, member: Member) -> None:
        """Renew the leases of the messages that a socket has in hand: it has answered a heartbeat."""
        for runner, attachment in self._serving.get(member, {}).items():
            if isinstance(attachment.carrier, SocketCarrier):
                attachment.carrier.give_sign()
                doubtful = attachment.carrier.take_doubtful()
                if doubtful:
                    runner.take_back(attachment, doubtful)
            runner.heartbeat_answered(attachment)

    # -- what is told of queues -----------------------------------------------------------------------------

    def accepted(self, queue: str, messages: Sequence[NewMessageRow], enqueued: Enqueued) -> None:
        """Count messages that this server has put into a queue, and hand them to its runners."""
        self._services.queues.totals(queue).enqueued += sum(not one.duplicate for one in enqueued.accepted)
        self.arrived(queue, messages, enqueued)

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
        self._change(queue, Changed("changed", consumer))

    def look_for_losses(self) -> None:
        """Let the runners of consumers for which messages wait ask the store whether it has removed some."""
        for runner in list(self._all_runners()):
            if isinstance(runner, Runner):
                runner.look_for_losses()

    def begin_anew(self, queue: str) -> None:
        """Let the runners of a queue begin anew from the store: the messages in hand were removed."""
        self._change(queue, Changed("emptied"))

    def removed(self, queue: str, consumer: str | None = None) -> None:
        """Detach all sockets and workers from a queue's consumers, or from one, after these were deleted."""
        self._change(queue, Changed("removed", consumer))

    def reconfigured(self, queue: str) -> None:
        """Hand a queue's new options to its runners."""
        self._hand_options(queue)
        if self._owners is not None:
            self._owners.tell(queue, Changed("configured"))

    def _change(self, queue: str, change: Changed) -> None:
        self.apply(queue, change)
        if self._owners is not None:
            self._owners.tell(queue, change)

    def _hand_options(self, queue: str) -> None:
        for runner in list(self._runners.get(queue, {}).values()):
            runner.options = self.configured.of(queue)
            runner.wake()

    def runner(self, queue: str, consumer: str) -> Runner | None:
        """Return the runner of a consumer; ``None`` if this process has none."""
        serving = self.find(queue, consumer)
        return serving if isinstance(serving, Runner) else None

    def serving(self, queue: str) -> list[Runner]:
        """Return the runners that this process has of a queue's consumers."""
        return [one for one in self._runners.get(queue, {}).values() if isinstance(one, Runner)]

    async def loads_of(self, *queues: str) -> dict[Key, Load]:
        """Return what the consumers of some queues do now, on all nodes, if anything is attached to them."""
        loads = self.loads(queues)
        if self._owners is not None:
            loads += await self._owners.survey.ask(queues)
        return {(load.queue, load.consumer): load for load in loads}

    @property
    def attached(self) -> list[tuple[str, str]]:
        """The queue and name of each consumer that is served here."""
        return [(runner.queue_name, runner.row.name) for runner in self._all_runners()]

    # -- the `QueueFollower` --------------------------------------------------------------------------------

    def released(self, due: Due) -> None:
        """Note that the store has released due messages, or that another program has changed queues."""
        if due.next_at is not None:
            self.due.arm(due.next_at)
        self._services.keep_task(asyncio.get_running_loop().create_task(self._look_at(due)))

    def freed(self, queue: str, consumer: str) -> None:
        """Note that no node owns a consumer any more."""
        if self._owners is not None:
            self._owners.freed(queue, consumer)

    # -- the `Desk` of the owners ---------------------------------------------------------------------------

    def find(self, queue: str, consumer: str) -> Serving | None:
        """Return what serves a consumer in this process; ``None`` if nothing is attached here."""
        return self._runners.get(queue, {}).get(consumer)

    async def open_runner(self, key: Key, order: Order | None) -> Runner:
        """Make a runner; see `Desk`."""
        stored = self._services.store.queue(key[0])
        return self._new_runner(stored, await stored.add_consumer(key[1]), order)

    async def open_branch(self, key: Key, order: Order | None) -> Branch:
        """Make a branch; see `Desk`."""
        row = await self._services.store.queue(key[0]).add_consumer(key[1])
        return self._new_branch(key[0], row, order)

    def branch_of(self, runner: Runner) -> Branch:
        """Make a branch that stands in for a runner; see `Desk`."""
        return self._new_branch(runner.queue_name, runner.row, runner.order)

    def put(self, serving: Serving, former: Serving | None) -> None:
        """Let something serve a consumer; see `Desk`."""
        self._runners.setdefault(serving.queue_name, {})[serving.row.name] = serving
        for attachment in serving.takers if former is not None else ():
            member = attachment.carrier.member if isinstance(attachment.carrier, SocketCarrier) else None
            by_serving = None if member is None else self._serving.get(member)
            if former is not None and by_serving is not None and by_serving.get(former) is attachment:
                by_serving[serving] = by_serving.pop(former)
        if self.is_stopping:
            serving.stop()

    def began(self, runner: Runner) -> None:
        """Tell of losses; see `Desk`."""
        self._losses.tell(runner)

    def apply(self, queue: str, change: Changed) -> None:
        """Apply a change in this process, whichever node has made it."""
        if change.what == "configured":
            self._services.keep_task(asyncio.get_running_loop().create_task(self._configure(queue)))
            return
        for name, runner in list(self._runners.get(queue, {}).items()):
            if change.consumer not in (None, name):
                continue
            if change.what == "changed":
                runner.look()
            elif change.what == "emptied":
                runner.begin_anew()
            else:
                runner.abandon()
                for attachments in self._serving.values():
                    attachments.pop(runner, None)

    def loads(self, queues: Sequence[str]) -> list[Load]:
        """Return the numbers of the runners of some queues; see `Desk`."""
        return [load_of(runner) for queue in queues for runner in self.serving(queue)]

    def branch_ended(self, branch: Serving) -> None:
        """Drop a branch; see `BranchWatcher`."""
        self._drop(branch)

    def owner_refused(self, branch: Serving) -> None:
        """Find the owner of a branch's consumer; see `BranchWatcher`."""
        if self._owners is not None and isinstance(branch, Branch):
            self._owners.seek(branch)

    # -- inside ---------------------------------------------------------------------------------------------

    async def _serve(self, queue: str, consumer: str, start: Place, order: Order | None) -> Serving:
        """Return what serves a consumer, and make it if there is nothing. Attach something, or wake it to end it."""
        stored = self._services.store.queue(queue)
        place = place_from_wall(self._services.store.clock, start)
        row = await stored.add_consumer(consumer, start=place)
        if self._owners is not None:
            runner = await self._owners.serving((queue, consumer), order)
        else:
            runner = self.find(queue, consumer) or self._new_runner(stored, row, order)
            self.put(runner, None)
        served = runner.known_order if isinstance(runner, Branch) else runner.order
        if order is not None and served not in (None, order):
            raise ConfigurationError(
                "order", order, f'"{served}", in which consumer {consumer!r} of queue {queue!r} is served now'
            )
        return runner

    def _new_runner(self, stored: StoredQueue, row: ConsumerRow, order: Order | None) -> Runner:
        options = self.configured.of(stored.name)
        return Runner(stored, row, order or options.order, options, self._services, self)

    def _new_branch(self, queue: str, row: ConsumerRow, order: Order | None) -> Branch:
        assert self._owners is not None
        return Branch(queue, row, order, self.configured.of(queue), self._owners.post, self._services, self)

    def _all_runners(self) -> Iterator[Serving]:
        for runners in self._runners.values():
            yield from runners.values()

    def _drop(self, serving: LosingConsumer | Serving) -> None:
        runners = self._runners.get(serving.queue_name, {})
        if runners.get(serving.row.name) is serving:
            del runners[serving.row.name]
            if not runners:
                del self._runners[serving.queue_name]

    async def _look_at(self, due: Due) -> None:
        try:
            await self._released(due)
        except StorageError as problem:
            logger.error("changes of queues are seen later: %s", problem)

    async def _configure(self, queue: str) -> None:
        await self._look_at(Due(frozenset(), None, frozenset({queue})))

    async def _released(self, due: Due) -> None:
        for queue in sorted(due.changed):
            self.configured.take(await self._services.store.queue(queue).configuration())
            self._hand_options(queue)
        for queue in sorted(due.queues):
            self.apply(queue, Changed("changed"))

    # -- the `Watcher` of the runners -----------------------------------------------------------------------

    def message_died(self, runner: DeliverySource, message: MessageRow, attempt: Attempt) -> None:
        """Tell the application of a message that was given up."""
        dead_lettered = self._services.queues.totals(runner.queue_name).dead_lettered
        count(dead_lettered, cause_of(message, attempt))
        logger.warning(
            "queue %r, consumer %r: message %s is a dead letter (failures: %d, lost connections: %d): %s",
            runner.queue_name, runner.row.name, message.id, attempt.failures, attempt.losses, attempt.reason,
            extra=fields(queue=runner.queue_name, consumer=runner.row.name, message_id=message.id),
        )  # fmt: skip
        hook = self._services.hooks.message_died
        if hook.observers:
            hook.tell(MessageDied(runner.queue_name, runner.row.name, message.id, message.position, attempt.reason))

    def loss_changed(self, runner: LosingConsumer) -> None:
        """Tell a consumer and the application what the consumer lost to its queue's limits."""
        self._losses.tell(runner)

    def message_overdue(self, runner: DeliverySource, delivery: Delivery) -> None:
        """Log that a client has not acknowledged a message in time, once an hour for a consumer."""
        store, lease_s = self._services.store, runner.options.lease_s
        queue = store.queue(runner.queue_name)
        self._overdue.tell(queue, runner.row.name, delivery, lease_s=lease_s, now=store.clock.now())

    def late_ack(self, runner: DeliverySource, message: MessageRow, epoch: int) -> bool | None:
        """Pass an ack on to what serves the consumer of an idle runner now; see `Watcher`."""
        key = runner.queue_name, runner.row.name
        serving = self.find(*key)
        if serving is not None:
            return serving.acknowledge_late(message, epoch)
        if self._owners is None or self._owners.owns(key):
            return None
        self._owners.pass_on(key, LateAck(message.position, message.key, runner.row.generation, epoch))
        return True

    def became_idle(self, runner: LosingConsumer) -> None:
        """Remove a runner that nothing is attached to."""
        self._losses.forget(runner)
        self._drop(runner)
        if self._owners is not None:
            self._owners.became_idle((runner.queue_name, runner.row.name))


def _session_of(member: Member) -> Session:
    return member.namespace, member.sid
