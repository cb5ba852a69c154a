"""The queues of a store, served to several nodes: owners of consumers, arrivals, and what a dead node held."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from waypost.errors import StorageError
from waypost.logs import fields, get_logger
from waypost.storage.base import Store
from waypost.storage.host.node import HostedNode
from waypost.storage.queue_records import Attempt, Enqueued, MessageRow, NewMessageRow, Redriven
from waypost.storage.wire import reports, requests
from waypost.storage.wire.calls import QUEUE
from waypost.storage.wire.durations import attempts_at
from waypost.storage.wire.frames import encode

__all__ = ["HostedQueues"]

_logger = get_logger(__name__)

_ATTEMPTS: Final = frozenset({"retry", "bury"})
_OUTCOMES: Final = _ATTEMPTS | {"settle"}
_NO_EPOCH = -1
_REASON = "the process that had it in hand ended"


class HostedQueues:
    """The queues of a store, and which node owns which consumer.

    Args:
        store: The store.
        nodes: The living nodes, by name.
        due: Called with a time of the store's at which a message falls due.
    """

    __slots__ = ("_due", "_nodes", "_owners", "_store")

    def __init__(self, store: Store, nodes: Mapping[str, HostedNode], due: Callable[[float], None]) -> None:
        self._store = store
        self._nodes = nodes
        self._due = due
        self._owners: dict[tuple[str, str], HostedNode] = {}

    @property
    def owned(self) -> frozenset[tuple[str, str]]:
        """Queue and name of each consumer that has an owner."""
        return frozenset(self._owners)

    # -- messages --------------------------------------------------------------------------------------------

    def enqueue(self, node: HostedNode, request: requests.Enqueue) -> None:
        """Add messages; other nodes that own a consumer of the queue learn of them."""

        def committed(enqueued: Enqueued) -> None:
            node.answer(request.call, enqueued)
            if enqueued.next_due_at is not None:
                self._due(enqueued.next_due_at)
            self._announce(node, request, enqueued)

        queue = self._store.queue(request.queue)
        work = queue.enqueue(request.messages, deduplicate_s=request.deduplicate_s, on_commit=committed)
        node.run(request.call, work, _nothing)

    async def receive(self, queue: str, message: NewMessageRow, deduplicate_s: float) -> None:
        """Add a message of a program that is no node; all nodes that own a consumer of the queue learn of it."""
        request = requests.Enqueue(0, queue, [message], deduplicate_s)

        def committed(enqueued: Enqueued) -> None:
            if enqueued.next_due_at is not None:
                self._due(enqueued.next_due_at)
            self._announce(None, request, enqueued)

        stored = self._store.queue(queue)
        await stored.enqueue(request.messages, deduplicate_s=deduplicate_s, on_commit=committed)

    def _announce(self, node: HostedNode | None, request: requests.Enqueue, enqueued: Enqueued) -> None:
        others = {
            owner.name: owner
            for (queue, _), owner in self._owners.items()
            if queue == request.queue and owner is not node
        }
        if others:
            message = encode(reports.Arrived(request.queue, request.messages, enqueued))
            for owner in others.values():
                owner.outgoing.add_encoded(message)

    def plain(self, node: HostedNode, request: requests.Plain) -> None:
        """Call a method of a queue; outcomes only count from the consumer's owner."""
        name, method = str(request.target), QUEUE[request.method]
        queue, arguments = self._store.queue(name), method.decode_arguments(request.arguments)
        if request.method in _OUTCOMES and not self._may_write(node, name, arguments[0]):
            # As with an old epoch: nothing happens, and the answer is the consumer's state.
            node.run(request.call, queue.settle(arguments[0], _NO_EPOCH, ()))
        elif request.method in _ATTEMPTS:
            consumer, epoch, attempts = arguments
            arguments = consumer, epoch, attempts_at(attempts, self._store.clock.now())
            node.run(request.call, method.call_with(queue, arguments))
        elif request.method == "redrive":
            *rest, first_in_s = arguments
            work = method.call_with(queue, (*rest, self._store.clock.now() + first_in_s))
            node.run(request.call, self._redrive(node, request.call, work), _nothing)
        else:
            node.run(request.call, method.call_with(queue, arguments))

    async def _redrive(self, node: HostedNode, call: int, work: Awaitable[Redriven]) -> None:
        redriven = await work
        if redriven.next_due_at is not None:
            self._due(redriven.next_due_at)
        node.answer(call, redriven)

    def hold(self, node: HostedNode, request: requests.Hold) -> None:
        """Note the oldest message of one of a node's functions; the consumer's owner may be another node."""
        key = request.queue, request.consumer, request.holder
        if request.position is None:
            node.holds.pop(key, None)
        else:
            node.holds[key] = request.position
        self._note_hold(node, key, request.position)

    def _note_hold(self, node: HostedNode, key: tuple[str, str, str], position: int | None) -> None:
        queue, consumer, holder = key
        self._store.queue(queue).hold(consumer, f"{node.name}/{holder}", position)

    # -- owners ----------------------------------------------------------------------------------------------

    def claim(self, node: HostedNode, request: requests.ClaimConsumer) -> None:
        """Make a node the owner of a consumer without one; answers who owns it."""
        owner = self._owners.setdefault((request.queue, request.consumer), node)
        node.answer(request.call, owner.name)

    def release(self, node: HostedNode, request: requests.ReleaseConsumer) -> None:
        """Take a consumer from its owner, when its earlier writes have ended."""

        def release() -> None:
            node.answer(request.call, None)
            self._free(node, request.queue, request.consumer)

        node.after_all(release)

    def free_all(self, node: HostedNode) -> None:
        """Let other nodes own what a node owns; it is told of that, too, and may claim it again."""
        for (queue, consumer), owner in [*self._owners.items()]:
            if owner is node:
                self._free(node, queue, consumer)

    def _free(self, node: HostedNode, queue: str, consumer: str) -> None:
        if self._owners.get((queue, consumer)) is node:
            del self._owners[queue, consumer]
            for other in [*self._nodes.values()]:
                other.tell(reports.Freed(queue, consumer))

    def _may_write(self, node: HostedNode, queue: str, consumer: str) -> bool:
        return self._owners.get((queue, consumer), node) is node

    # -- a node is gone --------------------------------------------------------------------------------------

    async def leave(self, node: HostedNode) -> None:
        """Count what a dead node held as lost, then free its consumers."""
        holds, node.holds = node.holds, {}
        for key, position in holds.items():
            try:
                if not node.is_stopped:
                    await self._blame(key, position)
                self._note_hold(node, key, None)
            except StorageError as error:
                # The next opening of a store in a file counts it, as it does when the host itself is killed.
                _logger.warning(
                    "what a dead process had in hand could not be counted as lost: %s",
                    error,
                    extra=fields(queue=key[0], consumer=key[1], position=position),
                )
        self.free_all(node)

    async def _blame(self, key: tuple[str, str, str], position: int) -> None:
        queue, consumer = self._store.queue(key[0]), key[1]
        state = await queue.consumer(consumer)
        found = await queue.fetch(consumer, after=position - 1, max_messages=1, max_bytes=0)
        for message in found if found and found[0].position == position else ():
            await queue.retry(consumer, state.epoch, [_death_of(message, self._store.clock.now())])


def _death_of(message: MessageRow, now: float) -> Attempt:
    lost = Attempt(message.position, message.failures, message.losses + 1, "lost", _REASON, now)
    return replace(lost, breaks=message.breaks, breaks_since=message.breaks_since, deaths=message.deaths + 1)


def _nothing(_: Any) -> None:
    """Answer nothing: the answer was sent in the order of writes."""
