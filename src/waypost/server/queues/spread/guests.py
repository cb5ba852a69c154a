"""The sockets and functions of other nodes at a consumer that this node owns."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from waypost.server.queues.delivery import Attachment, Delivery
from waypost.server.queues.runner import Runner
from waypost.server.queues.socket_carrier import SocketCarrier
from waypost.server.queues.spread.letters import (
    Answer,
    Attach,
    Attached,
    Detach,
    Extend,
    FromGuest,
    GiveUp,
    Hands,
    Held,
    LateAck,
    Live,
    LossTold,
    Park,
    Retire,
    Sign,
    TakeBack,
    Taken,
    TakerState,
)
from waypost.server.queues.spread.post import Key, Post
from waypost.server.queues.spread.remote_carrier import RemoteCarrier
from waypost.storage.queue_records import MessageRow

__all__ = ["Guests", "as_message"]

_Guest = tuple[Attachment, RemoteCarrier]


class Guests:
    """The takers of other nodes at one runner.

    Args:
        runner: The runner.
        post: Sends messages to nodes.
        now: Returns the time on the store's clock.
    """

    def __init__(self, runner: Runner, post: Post, now: Callable[[], float]) -> None:
        self._runner = runner
        self._post = post
        self._now = now
        self._guests: dict[tuple[str, int], _Guest] = {}

    @property
    def _key(self) -> Key:
        return self._runner.queue_name, self._runner.row.name

    def seat(self, node: str, state: TakerState) -> tuple[Attachment, list[Delivery]]:
        """Make the attachment of a taker that another runner had, and put into its hand what it holds.

        Returns:
            The attachment, which is not attached yet, and the deliveries.
        """
        carrier = RemoteCarrier(node, state, self._runner, self._post, self._now)
        attachment = _attachment(carrier, state)
        attachment.is_away, attachment.to_blame = state.is_away, state.to_blame
        attachment.is_leaving, attachment.attached_at = state.is_leaving, state.attached_at
        self._guests[node, state.number] = attachment, carrier
        return attachment, [carrier.adopt(attachment, held) for held in state.held]

    def join_later(self, node: str, state: TakerState) -> None:
        """Attach a taker of another runner, which holds nothing, and whose session was cut off on a third node."""
        self._join(node, state)
        if state.is_live:
            limits = state.prefetch, state.prefetch_bytes, state.adapts, state.is_leaving
            self.take(node, Live(state.number, *limits))

    def welcome(self, node: str, number: int, home: Iterable[Held] = ()) -> None:
        """Tell a node that its taker is attached."""
        guest = self._guests.get((node, number))
        attached_at = 0.0 if guest is None else guest[0].attached_at
        self._post.send(node, self._key, Attached(number, self._runner.order, attached_at, tuple(home)))

    def take(self, node: str, body: FromGuest) -> None:
        """Take a message of another node. What it says of takers that are not attached any more is ignored."""
        if isinstance(body, Attach):
            self._attach(node, body)
            return
        if isinstance(body, LateAck):
            self._late(body)
            return
        if isinstance(body, Hands):
            # The node was too late to be waited for: what it holds may be in other hands by now.
            for ack in body.acknowledged:
                self._late(ack)
            for state in body.takers:
                self._join(node, state)
                for held in state.held:
                    self._post.send(node, self._key, Taken(state.number, held.number))
            return
        guest = self._guests.get((node, body.taker))
        if isinstance(body, Answer):
            self._answer(guest, body)
        elif guest is not None:
            self._move(node, guest, body)

    def gone(self, node: str) -> None:
        """Detach the takers of a node that is gone. What sockets hold that were away already stays there."""
        for (name, number), (attachment, carrier) in list(self._guests.items()):
            if name != node:
                continue
            del self._guests[name, number]
            carrier.end()
            if not attachment.is_away:
                self._runner.lose_process(attachment)

    # -- coming ---------------------------------------------------------------------------------------------

    def _attach(self, node: str, body: Attach) -> None:
        if body.order is not None and body.order != self._runner.order:
            self.welcome(node, body.taker.number)
            return
        self._join(node, body.taker)

    def _join(self, node: str, state: TakerState) -> None:
        home: list[Held] = []
        if (node, state.number) not in self._guests:
            away = None if state.session is None else self._runner.find_away(state.session)
            if away is not None and not _is_at(away, node):
                home = self._bring_home(node, state, away)
            else:
                carrier = RemoteCarrier(node, state, self._runner, self._post, self._now)
                attachment = _attachment(carrier, state)
                self._guests[node, state.number] = attachment, carrier
                self._runner.attach(attachment)
                if state.is_leaving:
                    self._runner.retire(attachment)
        self.welcome(node, state.number, home)

    def _bring_home(self, node: str, state: TakerState, away: Attachment) -> list[Held]:
        """Let a session that has come back on another node have there what it holds; it is away until it is live."""
        former = away.carrier
        carrier = RemoteCarrier(node, state, self._runner, self._post, self._now)
        carrier.is_live = False
        home = []
        for one in away.in_hand.values():
            held = _held(former, one)
            number = carrier.take_over(one, held)
            home.append(Held(number, one.message, one.handed_at, one.extended_until, *held, one.returned_at))
        away.carrier = carrier
        away.take_limits(_attachment(carrier, state))
        self._guests[node, state.number] = away, carrier
        self._leave(former)
        return home

    def bring_home(self, away: Attachment, carrier: SocketCarrier) -> None:
        """Let a session that was cut off on another node have here what it holds; it is away until it is live."""
        former = away.carrier
        carrier.attachment = away
        for delivery in list(away.in_hand.values()):
            ack_id, is_doubtful = _held(former, delivery)
            if ack_id is not None:
                carrier.adopt(delivery, ack_id, is_doubtful=is_doubtful)
        away.carrier = carrier
        self._leave(former)

    def _leave(self, former: object) -> None:
        if isinstance(former, RemoteCarrier):
            former.say_moved()
            self._guests.pop((former.node, former.number), None)

    # -- answers --------------------------------------------------------------------------------------------

    def _answer(self, guest: _Guest | None, body: Answer) -> None:
        delivery = None if guest is None else guest[1].find(body.number)
        if guest is None or delivery is None:
            if body.rejection is None:
                self._late(body.message)
            return
        carrier = guest[1]
        carrier.give_sign()
        carrier.drop(delivery)
        if body.rejection is None:
            self._runner.acknowledge(delivery)
        else:
            self._runner.reject(delivery, body.rejection)

    def _late(self, body: LateAck) -> None:
        if body.generation == self._runner.row.generation:
            self._runner.acknowledge_late(as_message(body), body.epoch)

    # -- all else -------------------------------------------------------------------------------------------

    def _move(
        self,
        node: str,
        guest: _Guest,
        body: Live | Extend | Sign | Park | Detach | GiveUp | Retire | TakeBack | LossTold,
    ) -> None:
        attachment, carrier = guest
        if isinstance(body, Sign):
            self._sign(attachment, carrier, owes=body.owes)
        elif isinstance(body, Live):
            self._live(attachment, carrier, body)
        elif isinstance(body, Extend):
            delivery = carrier.find(body.number)
            if delivery is not None:
                delivery.extend(body.until)
        elif isinstance(body, TakeBack):
            found = [carrier.find(number) for number in body.numbers]
            self._runner.take_back(attachment, [one for one in found if one is not None])
        elif isinstance(body, LossTold):
            carrier.loss_told(body.number, is_told=body.is_told)
        elif isinstance(body, Retire):
            self._runner.retire(attachment)
        elif isinstance(body, Park) and attachment.is_away:
            # Its session goes on to a third node, with what it holds.
            carrier.leave_node()
            del self._guests[node, carrier.number]
        elif isinstance(body, Park):
            self._return_unsent(attachment, carrier, [number for number, _, _ in body.held])
            carrier.cut_off(body.held)
            if carrier.session is not None:
                self._runner.park(attachment, carrier.session, to_blame=body.to_blame)
            if attachment not in self._runner.takers:
                del self._guests[node, carrier.number]
        else:
            self._return_unsent(attachment, carrier, body.held)
            del self._guests[node, carrier.number]
            carrier.end()
            if isinstance(body, Detach):
                self._runner.detach(attachment, to_blame=body.to_blame, answers=body.answers)
            else:
                self._runner.give_up(attachment, body.reason)

    def _sign(self, attachment: Attachment, carrier: RemoteCarrier, *, owes: bool) -> None:
        if owes:
            carrier.owes_heartbeat = True
        else:
            carrier.give_sign()
            self._runner.heartbeat_answered(attachment)

    def _live(self, attachment: Attachment, carrier: RemoteCarrier, body: Live) -> None:
        carrier.is_live = True
        carrier.give_sign()
        limits = Attachment(carrier, prefetch=body.prefetch, prefetch_bytes=body.prefetch_bytes, adapts=body.adapts)
        limits.is_leaving = body.is_leaving
        attachment.take_limits(limits)
        if attachment.is_away:
            home = None if carrier.session is None else self._runner.take_home(carrier.session)
            if home is not attachment:
                # What it held was taken back meanwhile.
                attachment.is_away = False
                self._runner.attach(attachment)
        self._runner.enliven(attachment)

    def _return_unsent(self, attachment: Attachment, carrier: RemoteCarrier, held: Iterable[int]) -> None:
        """Take back without blame what was on the way when a taker left."""
        unsent = carrier.unsent(attachment, held)
        if unsent:
            was_blamed, attachment.to_blame = attachment.is_blamed, False
            self._runner.take_back(attachment, unsent)
            attachment.is_blamed = was_blamed


def as_message(ack: LateAck) -> MessageRow:
    """Return what an ack says of its message."""
    return MessageRow(ack.position, "", b"", 0.0, ack.key)


def _attachment(carrier: RemoteCarrier, state: TakerState) -> Attachment:
    return Attachment(carrier, prefetch=state.prefetch, prefetch_bytes=state.prefetch_bytes, adapts=state.adapts)


def _is_at(attachment: Attachment, node: str) -> bool:
    return isinstance(attachment.carrier, RemoteCarrier) and attachment.carrier.node == node


def _held(carrier: object, delivery: Delivery) -> tuple[int | None, bool]:
    return carrier.held(delivery) if isinstance(carrier, RemoteCarrier | SocketCarrier) else (None, False)
