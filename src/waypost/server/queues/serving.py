"""The interface of a consumer on one node: the runner, or what stands for it where another node owns the consumer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from waypost.server.queues.delivery import Attachment, Delivery, DeliverySource, Session
from waypost.server.queues.losses import LosingConsumer
from waypost.server.queues.options import Order, QueueOptions
from waypost.storage.queue_records import Attempt, MessageRow

__all__ = ["BranchWatcher", "Serving", "Watcher"]


class Serving(DeliverySource, Protocol):
    """Serves one consumer for the sockets and workers of this process. A `Runner`, or a `Branch` of one."""

    options: QueueOptions
    """The queue's options; may be replaced at any time."""

    @property
    def order(self) -> Order:
        """The kind of delivery order."""
        ...

    @property
    def takers(self) -> Iterable[Attachment]:
        """The sockets and workers that are attached, in the order of arrival."""
        ...

    def retire(self, attachment: Attachment) -> None:
        """Send a socket or worker no more messages. It may still acknowledge those it has."""
        ...

    def detach(self, attachment: Attachment, *, to_blame: bool, answers: bool = True) -> None:
        """Detach a socket or worker. Its messages go to others.

        Args:
            attachment: The socket or worker.
            to_blame: True if its connection was lost; then its oldest message counts a lost delivery.
            answers: Whether it may still acknowledge what it has.
        """
        ...

    def give_up(self, attachment: Attachment, reason: str) -> None:
        """Detach a worker that is not waited for any longer. Each message in its hand counts a lost delivery."""
        ...

    def park(self, attachment: Attachment, session: Session, *, to_blame: bool) -> None:
        """Leave its messages in the hand of a socket that was cut off, until their leases end.

        Args:
            attachment: The socket.
            session: Its namespace and id, by which it may come back.
            to_blame: True if its connection broke. What did not arrive over it counts a lost delivery.
        """
        ...

    def take_home(self, session: Session) -> Attachment | None:
        """Return what a socket of this session had in hand when it was cut off; ``None`` if it had nothing.

        It counts as the newest attachment from now on.
        """
        ...

    def take_back(self, attachment: Attachment, deliveries: list[Delivery]) -> None:
        """Take messages back from a socket that did not arrive before its connection was lost."""
        ...

    def heartbeat_sent(self, attachment: Attachment) -> None:
        """Note that a socket was sent a heartbeat."""
        ...

    def heartbeat_answered(self, attachment: Attachment) -> None:
        """Note a socket's sign of life."""
        ...

    def acknowledge_late(self, message: MessageRow, epoch: int) -> bool:
        """Take an ack of a delivery that has ended; returns whether it counts.

        Args:
            message: The message. It waits, or is in other hands by now; then it is taken from there.
            epoch: The epoch in which it was delivered.
        """
        ...

    def wake(self) -> None:
        """Deliver what may go now."""
        ...

    def arrive(self, message: MessageRow) -> None:
        """Take a message that was just stored."""
        ...

    def look(self) -> None:
        """Read the consumer from the store: it may have been moved, paused or resumed, or have new messages."""
        ...

    def begin_anew(self) -> None:
        """Take back all messages, and begin anew at the consumer's place in the store."""
        ...

    def abandon(self) -> None:
        """End: the consumer was deleted. All its sockets and workers are detached."""
        ...

    def stop(self) -> None:
        """Stop deliveries. Messages in hand may still be answered."""
        ...


class Watcher(Protocol):
    """Learns what happens to a server's runners."""

    def message_died(self, runner: DeliverySource, message: MessageRow, attempt: Attempt) -> None:
        """Report a message that became a dead letter, with its last attempt."""
        ...

    def loss_changed(self, runner: LosingConsumer) -> None:
        """Report that a consumer's losses to its queue's limits have changed."""
        ...

    def message_overdue(self, runner: DeliverySource, delivery: Delivery) -> None:
        """Report a message that a client has not acknowledged within one lease; called again and again."""
        ...

    def became_idle(self, runner: LosingConsumer) -> None:
        """Drop a runner that nothing is attached to and that has stored everything."""
        ...

    def late_ack(self, runner: DeliverySource, message: MessageRow, epoch: int) -> bool | None:
        """Pass an ack on to what serves the consumer of an idle runner now.

        Returns:
            Whether it counts; ``None`` if nothing serves the consumer.
        """
        ...


class BranchWatcher(Protocol):
    """Learns what happens to a node's branches."""

    def branch_ended(self, branch: Serving) -> None:
        """Drop a branch that nothing is attached to."""
        ...

    def owner_refused(self, branch: Serving) -> None:
        """Find out who owns the consumer: the node that was asked does not."""
        ...
