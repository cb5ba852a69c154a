"""Stands on a node for the runner of a consumer that another node owns: sockets and functions attach to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import count

from waypost.errors import ConfigurationError
from waypost.protocol.rejections import Rejection
from waypost.server.queues.delivery import Attachment, Delivery, Session
from waypost.server.queues.options import Order, QueueOptions
from waypost.server.queues.serving import BranchWatcher
from waypost.server.queues.socket_carrier import SocketCarrier
from waypost.server.queues.spread.hold_notes import HoldNotes
from waypost.server.queues.spread.last_answers import LastAnswers
from waypost.server.queues.spread.letters import (
    Answer,
    Attach,
    Attached,
    Body,
    Deliver,
    Detach,
    Extend,
    Forget,
    FromOwner,
    GiveUp,
    Hands,
    LateAck,
    Live,
    LossTold,
    Moved,
    NotOwner,
    Park,
    Retire,
    Sign,
    TakeBack,
    Taken,
    TellLoss,
)
from waypost.server.queues.spread.post import Key, Post
from waypost.server.queues.spread.taker import LocalCarrier, Taker
from waypost.server.services import Services
from waypost.storage.queue_records import ConsumerRow, MessageRow

__all__ = ["Branch"]

_ANSWER_S = 5.0
"""For so long `Branch.attach` waits for an owner that does not answer; messages come as soon as it does."""
_SIGNS_IN_LEASE = 8


class Branch:
    """The sockets and functions of this node at a consumer that another node owns. See `Serving`.

    What it is told goes to the owner. While there is none, answers wait; the next owner asks what is in hand here.

    Args:
        row: The consumer, as it was just found in the store.
        order: The order that was asked for; ``None`` for any.
        options: The queue's options.
        queue: The queue's name.
        post: Sends messages to nodes.
        services: What the server's parts share.
        watcher: Learns what happens.

    Attributes:
        queue_name: The queue's name.
        row: The consumer, as it was last seen.
        options: The queue's options; may be replaced at any time.
        owner: The name of the node that owns the consumer; ``None`` while there is none.
        answers: The answers that the owner has perhaps not stored, or not got.
    """

    def __init__(
        self,
        queue: str,
        row: ConsumerRow,
        order: Order | None,
        options: QueueOptions,
        post: Post,
        services: Services,
        watcher: BranchWatcher,
    ) -> None:
        self.queue_name = queue
        self.row = row
        self.options = options
        self.owner: str | None = None
        self._wanted = order
        self._order: Order | None = None
        self._post = post
        self._keep_task = services.keep_task
        self._now = services.store.clock.now
        self._loop = asyncio.get_running_loop()
        self._watcher = watcher
        self._holds = HoldNotes(services.store.queue(queue), row.name)
        self._untaken = count(1)
        self._takers: dict[Attachment, Taker] = {}
        self._by_number: dict[int, Taker] = {}
        self._away: dict[Session, Attachment] = {}
        self.answers = LastAnswers(self._now)
        self._has_owner = asyncio.Event()
        # Acks of what was delivered before count for nothing.
        self._epoch_began_at = 0.0

    # -- what it is -----------------------------------------------------------------------------------------

    @property
    def key(self) -> Key:
        """The names of the queue and of the consumer."""
        return self.queue_name, self.row.name

    @property
    def order(self) -> Order:
        """The order in which the consumer is served; before the owner's answer, the one that was asked for."""
        return self._order or self._wanted or self.options.order

    @property
    def known_order(self) -> Order | None:
        """The order in which the consumer is or was served; before the first answer, the one that was asked for."""
        return self._order or self._wanted

    @property
    def has_owner(self) -> bool:
        """Whether it is known which node owns the consumer."""
        return self._has_owner.is_set()

    @property
    def holds(self) -> bool:
        """Whether something is in the hands of its takers."""
        return any(attachment.in_hand for attachment in self._takers)

    @property
    def takers(self) -> list[Attachment]:
        """The sockets and functions that are attached, in the order of arrival."""
        return list(self._takers)

    @property
    def seats(self) -> list[Taker]:
        """The same with what the owner knows of them, in the order in which they have attached."""
        return list(self._takers.values())

    # -- the owner ------------------------------------------------------------------------------------------

    def set_owner(self, node: str) -> None:
        """Note which node owns the consumer. It does not know the takers yet; see `hands`."""
        self.owner = node
        self._has_owner.set()

    def lose_owner(self) -> None:
        """Note that no node owns the consumer."""
        self.owner = None
        self._has_owner.clear()
        for taker in self._takers.values():
            # What waits for a connection was never out.
            for delivery in list(taker.waiting):
                taker.drop(delivery)

    async def owned(self) -> None:
        """Wait until there is an owner."""
        await self._has_owner.wait()

    def hands(self) -> Hands:
        """Return what the next owner has to know. Call `send_answers` afterwards."""
        states = tuple(taker.state for taker in self._takers.values())
        for taker in self._takers.values():
            # Later acks of all else count for the message: the next owner gives numbers of its own.
            for delivery in [one for one in taker.numbers if not taker.holds(one)]:
                taker.drop(delivery)
            taker.is_told_live = taker.attachment.carrier.is_live
        return Hands(states, self.known_order, self.row.generation, self.row.epoch, self.answers.unstored)

    def send_answers(self) -> None:
        """Send the answers that came while there was no owner."""
        for delivery, rejection in self.answers.take():
            if rejection is None:
                self.acknowledge(delivery)
            else:
                self.reject(delivery, rejection)

    def give_way(self) -> None:
        """End: a runner on this node goes on with the takers."""
        self._holds.stop()

    def adopt(self, attachments: Iterable[Attachment]) -> None:
        """Take over what was attached to a runner of this node that has ended."""
        for attachment in attachments:
            carrier = attachment.carrier
            if not isinstance(carrier, LocalCarrier):
                continue
            taker = self._add(attachment)
            taker.is_attached.set()
            carrier.source = self
            for delivery in attachment.in_hand.values():
                taker.add(len(taker.out) + 1, delivery)
            self._holds.look(attachment)
            if attachment.is_away and carrier.session is not None:
                self._away[carrier.session] = attachment

    # -- attachments ----------------------------------------------------------------------------------------

    async def attach(self, attachment: Attachment, order: Order | None) -> None:
        """Attach a socket or function, and wait for the owner's answer: for 5 s at most; it may still come later.

        May be cancelled; the taker is attached all the same.

        Raises:
            ConfigurationError: The consumer is being served in another order.
        """
        taker = self._add(attachment)
        taker.wanted = order
        if self.owner is not None:
            taker.is_told_live = attachment.carrier.is_live
            self._say(Attach(taker.state, order))
        with suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_S):
                await taker.is_attached.wait()
        if taker.is_refused:
            raise ConfigurationError(
                "order", order, f'"{self._order}", in which consumer {self.row.name!r} of queue {self.queue_name!r} '
                "is served now",
            )  # fmt: skip

    def enliven(self, attachment: Attachment) -> None:
        """Note that a socket or function may take messages again."""
        taker = self._takers.get(attachment)
        if taker is None:
            return
        carrier = attachment.carrier
        while taker.waiting and carrier.is_live and carrier.can_take(len(taker.waiting[0].message.record)):
            carrier.send(taker.waiting.popleft())
        if carrier.is_live and not taker.is_told_live and self.owner is not None:
            taker.is_told_live = True
            self._say(Live(taker.number, *attachment.limits, attachment.adapts, attachment.is_leaving))

    def retire(self, attachment: Attachment) -> None:
        """Ask for no more messages for a socket or function. It may still acknowledge those it has."""
        attachment.is_leaving = True
        taker = self._takers.get(attachment)
        if taker is not None:
            self._say(Retire(taker.number))
            self._leave_if_done(taker)

    def detach(self, attachment: Attachment, *, to_blame: bool, answers: bool = True) -> None:
        """Detach a socket or function. Its messages go to others. See `Serving.detach`."""
        taker = self._takers.get(attachment)
        if taker is not None:
            self._say(Detach(taker.number, to_blame, answers, tuple(number for number, _ in taker.held)))
            self._remove(taker)

    def give_up(self, attachment: Attachment, reason: str) -> None:
        """Detach a function that is not waited for any longer. See `Serving.give_up`."""
        taker = self._takers.get(attachment)
        if taker is not None:
            self._say(GiveUp(taker.number, reason, tuple(number for number, _ in taker.held)))
            self._remove(taker)

    def park(self, attachment: Attachment, session: Session, *, to_blame: bool) -> None:
        """Leave its messages in the hand of a socket that was cut off. See `Serving.park`."""
        taker = self._takers.get(attachment)
        if taker is None:
            return
        attachment.is_away, attachment.to_blame = True, to_blame
        taker.is_told_live = taker.owes_told = False
        for delivery in list(taker.waiting):
            taker.drop(delivery)
        if not taker.is_attached.is_set():
            # Perhaps its session holds something, which is on the way here.
            self._say(Park(taker.number, to_blame, ()))
            self._remove(taker)
        elif attachment.in_hand:
            self._away[session] = attachment
            held = [(number, *taker.sent(one)) for number, one in taker.held]
            self._say(Park(taker.number, to_blame, tuple(held)))
        else:
            self.detach(attachment, to_blame=False)

    def take_home(self, session: Session) -> Attachment | None:
        """Return what a socket of this session had in hand when it was cut off. See `Serving.take_home`."""
        attachment = self._away.pop(session, None)
        if attachment is None or attachment not in self._takers:
            return None
        attachment.come_back(self._now())
        return attachment

    def take_back(self, attachment: Attachment, deliveries: list[Delivery]) -> None:
        """Return messages that did not arrive at a socket before its connection was lost."""
        taker = self._takers.get(attachment)
        if taker is not None:
            numbers = tuple(taker.numbers[one] for one in deliveries if one in taker.numbers)
            self._say(TakeBack(taker.number, numbers))
        for delivery in deliveries:
            attachment.release(delivery)

    def heartbeat_sent(self, attachment: Attachment) -> None:
        """Let the owner know that a socket with messages in hand was sent a heartbeat."""
        taker = self._takers.get(attachment)
        if taker is not None and attachment.in_hand and not taker.owes_told:
            taker.owes_told = True
            self._say(Sign(taker.number, owes=True))

    def heartbeat_answered(self, attachment: Attachment) -> None:
        """Let the owner know of a sign of life where that matters."""
        taker = self._takers.get(attachment)
        if taker is None:
            return
        now = self._now()
        is_due = bool(attachment.in_hand) and now - taker.sign_at >= self.options.lease_s / _SIGNS_IN_LEASE
        if taker.owes_told or is_due:
            taker.owes_told, taker.sign_at = False, now
            self._say(Sign(taker.number, owes=False))

    # -- answers --------------------------------------------------------------------------------------------

    def acknowledge(self, delivery: Delivery) -> bool:
        """Pass an ack on. It counts for the message, whichever delivery it answers."""
        taker = self._takers.get(delivery.attachment)
        number = None if taker is None else taker.numbers.get(delivery)
        if taker is None or number is None:
            is_of_epoch = delivery.handed_at >= self._epoch_began_at
            return is_of_epoch and self.acknowledge_late(delivery.message, self.row.epoch)
        self._answer(taker, number, delivery, None)
        return True

    def acknowledge_late(self, message: MessageRow, epoch: int) -> bool:
        """Pass an ack on of a delivery that the owner does not know."""
        ack = LateAck(message.position, message.key, self.row.generation, epoch)
        self.answers.sent(ack)
        self._say(ack)
        return True

    def reject(self, delivery: Delivery, rejection: Rejection) -> bool:
        """Pass a nack on; returns whether it counts."""
        taker = self._takers.get(delivery.attachment)
        number = None if taker is None else taker.numbers.get(delivery)
        if taker is None or number is None or not taker.holds(delivery):
            return False
        self._answer(taker, number, delivery, rejection)
        return True

    def lose(self, delivery: Delivery) -> None:
        """Note that a delivery will never be answered: its session has ended."""
        attachment = delivery.attachment
        taker = self._takers.get(attachment)
        if taker is not None and delivery in taker.numbers and attachment.is_away:
            self.detach(attachment, to_blame=attachment.to_blame, answers=False)

    def _answer(self, taker: Taker, number: int, delivery: Delivery, rejection: Rejection | None) -> None:
        if self.owner is None:
            self.answers.keep(delivery, rejection)
            return
        message = delivery.message
        ack = LateAck(message.position, message.key, self.row.generation, self.row.epoch)
        if rejection is None:
            self.answers.sent(ack)
        self._say(Answer(taker.number, number, ack, rejection))
        taker.drop(delivery)
        self._holds.look(taker.attachment)
        self._leave_if_done(taker)

    # -- what the owner says --------------------------------------------------------------------------------

    def take(self, body: FromOwner) -> None:
        """Take a message of the owner. What it says of takers that have left is ignored: it will learn of that."""
        if isinstance(body, NotOwner):
            self._watcher.owner_refused(self)
            return
        taker = self._by_number.get(body.taker)
        if taker is None:
            return
        if isinstance(body, Deliver):
            self._deliver(taker, body)
        elif isinstance(body, Taken | Forget):
            self._take_from(taker, body)
        elif isinstance(body, Attached):
            self._welcome(taker, body)
        elif isinstance(body, TellLoss):
            self._keep_task(self._loop.create_task(self._tell_loss(taker, body)))
        else:
            assert isinstance(body, Moved)
            self._remove(taker)

    def _deliver(self, taker: Taker, body: Deliver) -> None:
        attachment = taker.attachment
        if attachment.is_away:
            return
        row = self.row
        if (row.generation, row.epoch) != (body.generation, body.epoch):
            self._epoch_began_at = body.handed_at
        if (row.generation, row.epoch, row.cursor) != (body.generation, body.epoch, body.cursor):
            self.row = replace(row, generation=body.generation, epoch=body.epoch, cursor=body.cursor)
        delivery = attachment.hand(body.message, body.handed_at)
        taker.add(body.number, delivery)
        self._holds.look(attachment)
        if taker.waiting or not attachment.carrier.can_take(len(body.message.record)):
            taker.waiting.append(delivery)
        else:
            attachment.carrier.send(delivery)

    def _take_from(self, taker: Taker, body: Taken | Forget) -> None:
        delivery = taker.out.get(body.number)
        if delivery is None:
            return
        was_sent = delivery not in taker.waiting
        if isinstance(body, Taken) and was_sent:
            taker.attachment.release(delivery)
        else:
            taker.drop(delivery)
            if was_sent:
                taker.attachment.carrier.forget(delivery)
        self._holds.look(taker.attachment)
        self._leave_if_done(taker)

    def _welcome(self, taker: Taker, body: Attached) -> None:
        self._order = body.order
        if taker.wanted not in (None, body.order):
            taker.is_refused = True
            self._remove(taker)
            return
        carrier, taker.attachment.attached_at = taker.attachment.carrier, body.attached_at
        for held in body.home:
            delivery = taker.attachment.hand(held.message, held.handed_at)
            delivery.extended_until = held.extended_until
            # What the session had in hand elsewhere: so this is a return.
            delivery.returned_at = min(held.returned_at, self._now())
            taker.add(held.number, delivery)
            if isinstance(carrier, SocketCarrier) and carrier.member is not None and held.ack_id is not None:
                carrier.adopt(delivery, held.ack_id, is_doubtful=held.is_doubtful)
        taker.is_attached.set()
        # It may have become live, or have gone, since it asked.
        self.enliven(taker.attachment)

    async def _tell_loss(self, taker: Taker, body: TellLoss) -> None:
        is_told = await taker.attachment.carrier.tell_loss(body.notice)
        self._say(LossTold(taker.number, body.number, is_told))

    # -- changes of the queue -------------------------------------------------------------------------------

    def wake(self) -> None:
        """End if nothing is attached."""
        if not self._takers:
            self._watcher.branch_ended(self)

    def arrive(self, message: MessageRow) -> None:
        """Do nothing: the owner learns of it."""

    def look(self) -> None:
        """Do nothing: the owner learns of it."""

    def begin_anew(self) -> None:
        """Do nothing: the owner takes back what is in hand here."""

    def abandon(self) -> None:
        """End: the consumer was deleted."""
        for taker in list(self._takers.values()):
            for delivery in list(taker.numbers):
                taker.attachment.carrier.forget(delivery)
            self._remove(taker)

    def stop(self) -> None:
        """Ask for no more messages. Those in hand may still be answered."""
        for taker in list(self._takers.values()):
            if not taker.attachment.is_leaving:
                self.retire(taker.attachment)

    # -- inside ---------------------------------------------------------------------------------------------

    def _add(self, attachment: Attachment) -> Taker:
        taker = Taker(next(self._untaken), attachment)
        self._takers[attachment] = self._by_number[taker.number] = taker
        attachment.when_extended = self._extended_soon
        return taker

    def _remove(self, taker: Taker) -> None:
        attachment = taker.attachment
        if self._takers.pop(attachment, None) is None:
            return
        del self._by_number[taker.number]
        attachment.when_extended = None
        for delivery in list(attachment.in_hand.values()):
            taker.drop(delivery)
        self._holds.look(attachment)
        taker.is_attached.set()
        self.wake()

    def _leave_if_done(self, taker: Taker) -> None:
        attachment = taker.attachment
        if (attachment.is_leaving or attachment.is_away) and not attachment.in_hand:
            self.detach(attachment, to_blame=False)

    def _extended_soon(self, delivery: Delivery) -> None:
        # After the end of the loop, a function in a thread has nobody to tell.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._extended, delivery)

    def _extended(self, delivery: Delivery) -> None:
        taker = self._takers.get(delivery.attachment)
        number = None if taker is None else taker.numbers.get(delivery)
        if taker is not None and number is not None:
            self._say(Extend(taker.number, number, delivery.extended_until))

    def _say(self, body: Body) -> None:
        if self.owner is not None:
            self._post.send(self.owner, self.key, body)
