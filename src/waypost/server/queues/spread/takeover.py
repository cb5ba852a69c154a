"""The beginning of a consumer's runner where something is in hand already, on this node or on others."""

from __future__ import annotations

from collections.abc import Mapping

from waypost.server.emitting.members import Member
from waypost.server.queues.delivery import Attachment, Delivery
from waypost.server.queues.runner import Runner
from waypost.server.queues.socket_carrier import SocketCarrier
from waypost.server.queues.spread.branch import Branch
from waypost.server.queues.spread.guests import Guests
from waypost.server.queues.spread.letters import Hands, LateAck, TakerState
from waypost.server.queues.spread.taker import LocalCarrier
from waypost.server.services import Services
from waypost.storage.queue_base import StoredQueue

__all__ = ["Takeover"]


class Takeover:
    """Gives a new runner all that is attached to its consumer, and what they hold.

    Args:
        runner: The runner, which nothing else knows yet.
        guests: Its takers of other nodes.
        queue: The stored queue.
        services: What the server's parts share.
    """

    __slots__ = ("_branch", "_guests", "_hands", "_head", "_queue", "_returned", "_runner", "_seated", "_services")

    def __init__(self, runner: Runner, guests: Guests, queue: StoredQueue, services: Services) -> None:
        self._runner = runner
        self._guests = guests
        self._queue = queue
        self._services = services
        self._returned: list[tuple[str, TakerState]] = []
        self._hands: Mapping[str, Hands] = {}
        self._branch: Branch | None = None
        self._head: int | None = None
        self._seated: list[tuple[str, int]] = []

    async def look(self, hands: Mapping[str, Hands], branch: Branch | None) -> None:
        """Store what the owner before has perhaps not stored, and find the consumer's place.

        Args:
            hands: What other nodes have said.
            branch: What is attached on this node; ``None`` for nothing.

        Raises:
            StorageError: The store did not answer.
        """
        self._hands, self._branch = hands, branch
        row, queue = self._runner.row, self._queue
        acks = [ack for one in hands.values() for ack in one.acknowledged]
        if branch is not None:
            acks += branch.answers.unstored
        positions = {ack.position for ack in acks if _is_now(ack, self._runner)}
        if positions:
            await queue.settle(row.name, row.epoch, sorted(positions))
        if self._runner.order == "strict":
            head = await queue.fetch(row.name, after=row.cursor, max_messages=1, max_bytes=1)
            self._head = head[0].position if head else None

    def begin(self) -> None:
        """Let the runner begin."""
        found = [*self._here(), *self._elsewhere()]
        found.sort(key=lambda one: one[0].attached_at)
        held: dict[Attachment, list[Delivery]] = {}
        late: list[Delivery] = []
        out: set[int] = set()
        for attachment, deliveries in found:
            kept = held[attachment] = []
            for delivery in deliveries:
                position = delivery.message.position
                if position <= self._runner.row.cursor:
                    attachment.release(delivery)
                    attachment.carrier.forget(delivery)
                elif position in out or (self._runner.order == "strict" and position != self._head):
                    attachment.release(delivery)
                    late.append(delivery)
                else:
                    out.add(position)
                    kept.append(delivery)
        self._runner.resume(held)
        for delivery in late:
            self._runner.expect_late_ack(delivery)
        for attachment in held:
            if (attachment.is_leaving or attachment.is_away) and not attachment.in_hand:
                self._runner.detach(attachment, to_blame=False)

    def welcome(self) -> list[Member]:
        """Tell the other nodes that their takers are attached, and pass on what was answered here meanwhile.

        Returns:
            The sockets of this node whose session was cut off on another one: they get what it holds there.
        """
        for node, number in self._seated:
            self._guests.welcome(node, number)
        for node, state in self._returned:
            self._guests.join_later(node, state)
        if self._branch is None:
            return []
        returned = self._bring_home_here()
        for delivery, rejection in self._branch.answers.take():
            if rejection is None:
                self._runner.acknowledge(delivery)
            else:
                self._runner.reject(delivery, rejection)
        return returned

    def _bring_home_here(self) -> list[Member]:
        returned = []
        for attachment in list(self._runner.takers):
            carrier = attachment.carrier
            if not isinstance(carrier, SocketCarrier) or carrier.session is None or carrier.member is None:
                continue
            away = self._runner.find_away(carrier.session)
            if away is not None and not isinstance(away.carrier, SocketCarrier):
                self._guests.bring_home(away, SocketCarrier(carrier.member, self._runner, self._services))
                returned.append(carrier.member)
        return returned

    def _here(self) -> list[tuple[Attachment, list[Delivery]]]:
        if self._branch is None:
            return []
        self._branch.give_way()
        found = []
        is_now = (self._branch.row.generation, self._branch.row.epoch) == _epoch(self._runner)
        for taker in self._branch.seats:
            carrier, attachment = taker.attachment.carrier, taker.attachment
            assert isinstance(carrier, LocalCarrier)
            carrier.source = self._runner
            attachment.when_extended = None
            taker.is_attached.set()
            deliveries = list(attachment.in_hand.values())
            if not is_now:
                for delivery in deliveries:
                    attachment.release(delivery)
                    carrier.forget(delivery)
                deliveries = []
            found.append((attachment, deliveries))
        return found

    def _elsewhere(self) -> list[tuple[Attachment, list[Delivery]]]:
        found = []
        for node, hands in self._hands.items():
            is_now = (hands.generation, hands.epoch) == _epoch(self._runner)
            for state in hands.takers:
                if self._is_away_elsewhere(node, state):
                    self._returned.append((node, state))
                    continue
                attachment, deliveries = self._guests.seat(node, state)
                self._seated.append((node, state.number))
                if not is_now:
                    for delivery in deliveries:
                        attachment.release(delivery)
                        attachment.carrier.forget(delivery)
                    deliveries = []
                found.append((attachment, deliveries))
        return found

    def _is_away_elsewhere(self, node: str, state: TakerState) -> bool:
        """Return whether a socket has come while its session holds something on another node."""
        if state.session is None or state.is_away or state.held:
            return False
        here = () if self._branch is None else self._branch.takers
        return any(one.is_away and one.carrier.session == state.session for one in here) or any(
            other.is_away and other.session == state.session
            for name, hands in self._hands.items()
            if name != node
            for other in hands.takers
        )


def _epoch(runner: Runner) -> tuple[str, int]:
    return runner.row.generation, runner.row.epoch


def _is_now(ack: LateAck, runner: Runner) -> bool:
    return (ack.generation, ack.epoch) == _epoch(runner)
