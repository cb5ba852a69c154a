"""Ways to break the server on purpose: the simulation must notice each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from waypost.protocol.codec import EncodedEvent
from waypost.server.basics.targets import Target, write_record
from waypost.server.emitting.feed import Feed
from waypost.server.emitting.outflow import Outflow
from waypost.server.events.farewell import Farewell
from waypost.server.namespaces.admission import Admission
from waypost.server.namespaces.channel import Channel
from waypost.server.namespaces.core import NamespaceCore
from waypost.server.queues.delivery import Attachment, Delivery
from waypost.server.queues.orders.strict_order import StrictOrder
from waypost.server.queues.runner import Runner
from waypost.server.queues.socket_carrier import SocketCarrier
from waypost.server.recovery.live_session import LiveSession
from waypost.server.recovery.ownership import Ownership
from waypost.server.recovery.recovery import Keeper, Returning
from waypost.server.recovery.taking import Owner
from waypost.storage.base import OnCommit
from waypost.storage.journal_records import Membership, SessionRow
from waypost.storage.memory.store import _MemoryJournal
from waypost.storage.queue_records import MessageRow

__all__ = ["MUTATIONS", "Mutate"]

Mutate = Callable[[pytest.MonkeyPatch], None]


def deliver_before_commit(patch: pytest.MonkeyPatch) -> None:
    """Send an event when it is asked for, and not when it is on disk."""

    async def publish(self: Feed, target: Target, event: EncodedEvent, *, compress: bool) -> None:
        journal = self.journal
        assert journal is not None
        self._deliver(target, event, f"{journal.generation}.{journal.top + 1}", journal.top + 1, compress)
        await journal.append(write_record(target, event), lambda _position: None)

    patch.setattr(Feed, "publish", publish)


def drop_from_replay(patch: pytest.MonkeyPatch) -> None:
    """Leave the second event out of each replay."""
    _change_missed(patch, lambda missed: missed[:1] + missed[2:])


def replay_twice(patch: pytest.MonkeyPatch) -> None:
    """Replay the last event twice."""
    _change_missed(patch, lambda missed: missed + missed[-1:])


def replay_backwards(patch: pytest.MonkeyPatch) -> None:
    """Replay the newest event first."""
    _change_missed(patch, lambda missed: missed[::-1])


def _change_missed(patch: pytest.MonkeyPatch, change: Callable[[list[Any]], list[Any]]) -> None:
    original = Keeper.collect

    async def collect(self: Keeper, *args: Any, **keywords: Any) -> Any:
        found = await original(self, *args, **keywords)
        return change(found) if isinstance(found, list) else found

    patch.setattr(Keeper, "collect", collect)


def forget_what_was_held(patch: pytest.MonkeyPatch) -> None:
    """Let a client go live and throw away what was held for it."""
    original = Outflow.go_live

    def go_live(self: Outflow) -> None:
        if self._held:
            self._held.clear()
        original(self)

    patch.setattr(Outflow, "go_live", go_live)


def go_live_at_once(patch: pytest.MonkeyPatch) -> None:
    """Send live events before what was missed."""
    original = Admission._write_missed

    async def write_missed(self: Admission, channel: Channel, returning: Returning) -> None:
        channel.go_live()
        await original(self, channel, returning)

    patch.setattr(Admission, "_write_missed", write_missed)


def send_before_connect(patch: pytest.MonkeyPatch) -> None:
    """Hold nothing back while middleware and handlers run."""
    original = Outflow.send

    def send(self: Outflow, frames: tuple[Any, ...], *, compress: bool = True) -> None:
        if self._addressee.left_because is None:
            self._held = None
        original(self, frames, compress=compress)

    patch.setattr(Outflow, "send", send)


def ignore_when_it_left(patch: pytest.MonkeyPatch) -> None:
    """Take everyone who was ever in a room for a member ever since."""
    patch.setattr(Membership, "covers", lambda self, position: self.since < position)


def ignore_when_it_joined(patch: pytest.MonkeyPatch) -> None:
    """Take whoever is in a room for a member from the beginning."""
    patch.setattr(Membership, "covers", lambda self, position: self.until is None or position <= self.until)


def reuse_an_offset(patch: pytest.MonkeyPatch) -> None:
    """Give every tenth position twice."""
    original = _MemoryJournal.append

    async def append(self: _MemoryJournal, record: bytes, on_commit: OnCommit) -> int:
        position = await original(self, record, on_commit)
        if position % 10 == 0:
            self.top -= 1
            self._tail._records.pop()
            self._tail._bytes -= len(record)
        return position

    patch.setattr(_MemoryJournal, "append", append)


def claim_recovery(patch: pytest.MonkeyPatch) -> None:
    """Call a client recovered although the journal does not reach back to it."""
    original = Keeper.collect

    async def collect(self: Keeper, stored: SessionRow, after: int, top: int, *, in_turns: bool = False) -> Any:
        return await original(self, stored, max(after, self.journal.oldest - 1), top, in_turns=in_turns)

    patch.setattr(Keeper, "collect", collect)


def prove_too_much(patch: pytest.MonkeyPatch) -> None:
    """Take a heartbeat for a proof of all that was ever sent, and not of what was sent before it."""

    def heartbeat_sent(self: LiveSession) -> None:
        self._journal.prove(self.key, self._journal.top, 0)

    patch.setattr(LiveSession, "heartbeat_sent", heartbeat_sent)


def believe_a_deaf_socket(patch: pytest.MonkeyPatch) -> None:
    """Take a pong for a proof that the socket got it, and not only the engine."""

    def heartbeat_sent(self: LiveSession) -> None:
        self._marked = (self._journal.top if self.progress is None else self.progress, 0)

    patch.setattr(LiveSession, "heartbeat_sent", heartbeat_sent)


def detach_the_superseded(patch: pytest.MonkeyPatch) -> None:
    """Let an old connection put its session away although the client has come back to it."""
    original = Channel.supersede

    def supersede(self: Channel) -> None:
        session, keeper = self.session, self.core.ownership.keeper
        original(self)
        if session is not None and keeper is not None:
            self.core.parts.services.keep_task(asyncio.get_running_loop().create_task(_detach(keeper, session.key)))

    patch.setattr(Channel, "supersede", supersede)


async def _detach(keeper: Keeper, key: bytes) -> None:
    # By then the new connection owns the session.
    await asyncio.sleep(1.0)
    await keeper.detach(key, None)


def count_rooms_for_the_old(patch: pytest.MonkeyPatch) -> None:
    """Let a join count for the connection that asked, not for the one that the client is on by now."""

    def add_to_rooms(self: Ownership, key: bytes, rooms: Any) -> None:
        owner = self.owner(key)
        if isinstance(owner, Channel) and not owner.recovered:
            self._index.add(owner, rooms)

    patch.setattr(Ownership, "add_to_rooms", add_to_rooms)


def volatile_without_offset(patch: pytest.MonkeyPatch) -> None:
    """Let the last string of a volatile event pass for an offset."""
    original = Outflow.deliver_volatile
    patch.setattr(
        Outflow,
        "deliver_volatile",
        lambda self, event, _offset, *, compress: original(self, event, None, compress=compress),
    )


def start_from_nothing(patch: pytest.MonkeyPatch) -> None:
    """Replay from an offset that is older than the session."""
    original = Keeper.look_up

    async def look_up(self: Keeper, pid: str, offset: str | None, *args: Any) -> Any:
        return await original(self, pid, offset and offset.partition(".")[0] + ".0", *args)

    patch.setattr(Keeper, "look_up", look_up)
    patch.setattr(LiveSession, "heartbeat_answered", lambda self: None)


def forget_data(patch: pytest.MonkeyPatch) -> None:
    """Never store the application's data."""

    async def save_data(self: Channel) -> None:
        self.data_touched = False

    patch.setattr(Channel, "save_data", save_data)


def keep_no_rooms(patch: pytest.MonkeyPatch) -> None:
    """Forget a client's rooms when it comes back."""
    original = Channel.register

    def register(self: Channel, rooms: Any) -> None:
        original(self, tuple(rooms)[:1])

    patch.setattr(Channel, "register", register)


def leave_sessions_attached(patch: pytest.MonkeyPatch) -> None:
    """Let go of a channel, but not of its session."""

    def drop(self: NamespaceCore, member: Owner, *, recoverable: bool) -> None:
        self.index.remove(member)
        self.parts.deliveries.detach(member, recoverable=False)
        if member.session is not None:
            self.ownership._owners.pop(member.session.key, None)

    patch.setattr(NamespaceCore, "drop", drop)


def forget_consumers(patch: pytest.MonkeyPatch) -> None:
    """Tell nobody of a new message in a queue."""
    patch.setattr(Runner, "arrive", lambda self, message: None)


def settle_unacknowledged(patch: pytest.MonkeyPatch) -> None:
    """Settle a message when it is sent."""
    original = SocketCarrier.send

    def send(self: SocketCarrier, delivery: Delivery) -> None:
        assert isinstance(self.source, Runner)
        self.source._progress._settler.settle(delivery.message.position)
        original(self, delivery)

    patch.setattr(SocketCarrier, "send", send)


def hand_out_too_early(patch: pytest.MonkeyPatch) -> None:
    """In strict order, hand out a message before the one ahead of it is acknowledged."""
    original = StrictOrder.next

    def following(self: StrictOrder, now: float, *, probing: bool = False) -> MessageRow | None:
        self._in_hand = False
        return original(self, now, probing=probing)

    patch.setattr(StrictOrder, "next", following)


def let_heartbeats_renew_what_came_back(patch: pytest.MonkeyPatch) -> None:
    """Believe that a client that came back works on what it had in hand, although its ack may be lost."""

    def come_back(self: Attachment, now: float) -> None:
        self.is_away, self.attached_at = False, now

    patch.setattr(Attachment, "come_back", come_back)


def forget_what_was_lost(patch: pytest.MonkeyPatch) -> None:
    """Deliver nothing again that a lost connection had in hand."""
    patch.setattr(StrictOrder, "put_back", lambda self, message: self.done(message))


def let_the_next_in_at_once(patch: pytest.MonkeyPatch) -> None:
    """Wait for no handler of the connection before, nor for its disconnect."""

    async def over(self: Channel) -> None:
        return

    patch.setattr(Channel, "over", over)


def tell_no_disconnect(patch: pytest.MonkeyPatch) -> None:
    """Tell the application of no disconnect of a client that may come back."""
    original = Farewell.tell

    async def tell(self: Farewell) -> None:
        if self._reason not in ("transport close", "ping timeout"):
            await original(self)

    patch.setattr(Farewell, "tell", tell)


def tell_of_the_end_at_once(patch: pytest.MonkeyPatch) -> None:
    """Tell of a disconnect while a handler of an event still runs."""
    patch.setattr(Farewell, "limit", Farewell.hurry)


MUTATIONS: tuple[Mutate, ...] = (
    deliver_before_commit,
    drop_from_replay,
    replay_twice,
    replay_backwards,
    forget_what_was_held,
    go_live_at_once,
    send_before_connect,
    ignore_when_it_left,
    ignore_when_it_joined,
    reuse_an_offset,
    claim_recovery,
    prove_too_much,
    believe_a_deaf_socket,
    detach_the_superseded,
    count_rooms_for_the_old,
    volatile_without_offset,
    start_from_nothing,
    forget_data,
    keep_no_rooms,
    leave_sessions_attached,
    forget_consumers,
    settle_unacknowledged,
    hand_out_too_early,
    forget_what_was_lost,
    let_heartbeats_renew_what_came_back,
    let_the_next_in_at_once,
    tell_no_disconnect,
    tell_of_the_end_at_once,
)
