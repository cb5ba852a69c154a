"""Sends a queue's messages to a socket, as events that ask for an ack."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from functools import partial
from typing import Any

from waypost.errors import EncodingFailed, MalformedPacket
from waypost.protocol.codec import EncodedEvent
from waypost.protocol.extension import DeliveryMark
from waypost.protocol.headers import read_headers
from waypost.protocol.records import read_values
from waypost.protocol.rejections import Rejection, read_nack
from waypost.server.emitting.acks import AtCut
from waypost.server.emitting.members import Member
from waypost.server.queues.delivery import Attachment, Delivery, DeliverySource, Session
from waypost.server.queues.options import QueueOptions
from waypost.server.queues.verdict import is_spent
from waypost.server.services import Services
from waypost.server.watching.queue_events import MessagesLost
from waypost.storage.queue_records import MessageRow

__all__ = ["SocketCarrier"]


class SocketCarrier:
    """One socket at one consumer. See `Carrier`.

    Args:
        member: The socket.
        source: The consumer.
        services: What the server's parts share.

    Attributes:
        member: The socket; ``None`` while its session has none.
        label: The socket's id.
        is_in_process: Always False: a socket outlives this process.
        is_noted: Always False: the store is not told what a socket holds.
        answers_late: Always True: a client does not know that its message went out again.
        heard_at: The time of the client's last answer to a heartbeat or ack, on the store's clock.
        owes_heartbeat: True while a heartbeat is unanswered.
        attachment: The socket's attachment to the consumer.
        session: Its session.
        source: The consumer.
    """

    __slots__ = (
        "_ack_ids",
        "_acks",
        "_doubtful",
        "_doubtful_until",
        "_heartbeats_left",
        "_loop",
        "_now",
        "_services",
        "_waiting",
        "answers_late",
        "attachment",
        "heard_at",
        "label",
        "member",
        "owes_heartbeat",
        "session",
        "source",
    )

    # Read twice for each message: as properties they are felt.
    is_in_process = False
    is_noted = False

    def __init__(self, member: Member, source: DeliverySource, services: Services) -> None:
        self.member: Member | None = member
        self.label = member.sid
        self.attachment: Attachment
        self.answers_late = True
        self.owes_heartbeat = False
        self.source = source
        self.session: Session | None = (member.namespace, member.sid)
        self._services = services
        self._loop = asyncio.get_running_loop()
        self._now = services.store.clock.now
        self.heard_at = self._now()
        self._acks = member.out.acks
        self._ack_ids: dict[Delivery, int] = {}
        # The deliveries that may not have arrived before a connection was lost.
        self._doubtful: set[Delivery] = set()
        self._doubtful_until: int | None = None
        self._heartbeats_left = 0
        self._waiting: asyncio.Task[None] | None = None

    @property
    def is_live(self) -> bool:
        """True while the client is connected and has been sent everything it had missed."""
        return self.member is not None and self.member.out.is_live

    def is_too_much(self, message: MessageRow, options: QueueOptions) -> bool:
        """Return whether the queue's options forbid a further delivery."""
        return is_spent(message, options, in_process=False)

    def can_take(self, size: int) -> bool:
        """Return whether a message of ``size`` bytes fits into the connection's buffer; if not, wait for room."""
        assert self.member is not None  # only an attachment that is live gets messages
        if self.member.out.has_room(size):
            return True
        if self._waiting is None:
            self._waiting = self._loop.create_task(self._wait_for_room(self.member, size))
            self._services.keep_task(self._waiting)
        return False

    def send(self, delivery: Delivery) -> None:
        """Send a message as an event, and wait for its ack."""
        member = self.member
        assert member is not None  # only an attachment that is live gets messages
        try:
            event = self._encode(member, delivery)
        except (EncodingFailed, MalformedPacket) as problem:
            self._loop.call_soon(self.source.reject, delivery, Rejection(str(problem), is_final=True))
            return
        ack_id = self._acks.expect_for(partial(self._answered, delivery), event, AtCut.STAYS)
        self._ack_ids[delivery] = ack_id
        member.out.send_with_ack(event, ack_id, compress=True)
        member.out.watch_arrival()

    def forget(self, delivery: Delivery) -> None:
        """Stop waiting for the ack of a delivery; a later ack counts as unexpected."""
        ack_id = self._ack_ids.pop(delivery, None)
        if ack_id is not None:
            self._acks.forget(ack_id)

    def taken_back(self, delivery: Delivery) -> None:
        """Do nothing: the client does not know, and may still acknowledge."""

    def go_away(self) -> None:
        """Note that the connection is lost, and which messages have perhaps not arrived over it."""
        # The socket that has ended, with its handshake and its data, must not be kept in memory for this.
        self.member = None
        self._doubtful = {
            delivery
            for delivery in self.attachment.in_hand.values()
            if delivery in self._doubtful or not self._acks.has_arrived(self._ack_ids.get(delivery, 0))
        }
        self._doubtful_until = None

    def come_back(self, member: Member) -> None:
        """Go on with the next socket of the same session, which is live now."""
        self.member = member
        self._acks = member.out.acks
        self.give_sign()
        self.look_for_doubtful()

    def held(self, delivery: Delivery) -> tuple[int | None, bool]:
        """Return the ack id of a delivery, and whether it has perhaps not arrived."""
        return self._ack_ids.get(delivery), delivery in self._doubtful

    def adopt(self, delivery: Delivery, ack_id: int, *, is_doubtful: bool) -> None:
        """Expect the ack of a delivery that another carrier sent to the same client."""
        member = self.member
        assert member is not None  # a client that comes back
        event = self._encode(member, delivery)
        self._acks.expect_as(ack_id, partial(self._answered, delivery), event, AtCut.STAYS)
        self._ack_ids[delivery] = ack_id
        if is_doubtful:
            self._doubtful.add(delivery)

    def look_for_doubtful(self) -> None:
        """Find out what has arrived of the deliveries that were adopted: the client is live now."""
        if self._doubtful and self._doubtful_until is None and self.member is not None:
            # The client may acknowledge at its return what it has done. It answers the first heartbeat perhaps before
            # its callbacks run, and the second one after that.
            self._heartbeats_left = 2
            self._await_heartbeat(self.member)

    def _await_heartbeat(self, member: Member) -> None:
        self._doubtful_until = self._acks.mark()
        member.out.probe()

    def take_doubtful(self) -> list[Delivery]:
        """Return the messages that did not arrive before the cut, once the client has answered two heartbeats."""
        if self._doubtful_until is None or not self._acks.has_arrived(self._doubtful_until):
            return []
        self._heartbeats_left -= 1
        if self._heartbeats_left and self.member is not None:
            self._await_heartbeat(self.member)
            return []
        doubtful, self._doubtful, self._doubtful_until = self._doubtful, set(), None
        return [delivery for delivery in self.attachment.in_hand.values() if delivery in doubtful]

    def give_sign(self) -> None:
        """Note a sign of life of the client."""
        self.heard_at = self._now()
        self.owes_heartbeat = False

    async def tell_loss(self, notice: MessagesLost) -> bool:
        """Send the client the event ``messages_lost``; returns True if the client acknowledges it."""
        member = self.member
        if member is None:
            return False
        event = member.codec.encode_event(member.namespace, "messages_lost", [asdict(notice)])
        _, answer = member.out.send_expecting_ack(event, AtCut.ENDS)
        return await answer is not None

    def _encode(self, member: Member, delivery: Delivery) -> EncodedEvent:
        codec, message = member.codec, delivery.message
        namespace = member.namespace
        if not member.client_revision:
            return codec.restore_event(message.record, namespace)
        row = self.source.row
        mark = DeliveryMark(
            queue=self.source.queue_name,
            consumer=row.name,
            id=message.id,
            epoch=f"{row.generation}.{row.epoch}",
            position=message.position,
            cursor=row.cursor,
            attempt=delivery.attempt,
            enqueued_at=self._services.store.clock.to_wall(message.enqueued_at),
            headers=read_headers(message.headers) or None,
        )
        event, *arguments = read_values(message.record)
        return codec.encode_event(namespace, event, [*arguments, mark.argument()])

    def _answered(self, delivery: Delivery, arguments: list[Any] | None) -> None:
        if self._ack_ids.pop(delivery, None) is None:
            return
        if arguments is None:
            # Another carrier may have the delivery by now, as the session went on elsewhere.
            if delivery.attachment.carrier is self:
                self.source.lose(delivery)
            return
        self.give_sign()
        rejection = read_nack(arguments)
        counts = self.source.acknowledge(delivery) if rejection is None else self.source.reject(delivery, rejection)
        if not counts:
            self._services.counters.unexpected_acks += 1

    async def _wait_for_room(self, member: Member, size: int) -> None:
        try:
            is_open = await member.out.wait_for_room(size)
        finally:
            self._waiting = None
        if is_open:
            self.source.enliven(self.attachment)
