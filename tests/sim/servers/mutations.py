"""Ways to break what servers do with each other: the simulation must notice each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from waypost.protocol.codec import EncodedEvent
from waypost.server.basics.handshake import Handshake
from waypost.server.basics.targets import Target, write_record
from waypost.server.emitting.acks import PendingAcks
from waypost.server.emitting.feed import Feed
from waypost.server.emitting.followed import Followed
from waypost.server.namespaces.channel import Channel
from waypost.server.queues.spread.owners import Owners
from waypost.server.recovery.crossing import Crossing
from waypost.server.recovery.ownership import Ownership
from waypost.server.recovery.recovery import Keeper
from waypost.storage.host.homes import Homes
from waypost.storage.host.host import StoreHost
from waypost.storage.host.journals import HostedJournal
from waypost.storage.host.node import HostedNode
from waypost.storage.host.queues import HostedQueues
from waypost.storage.host.upkeep import Upkeep
from waypost.storage.remote.journal import RemoteJournal
from waypost.storage.wire.reports import Done
from waypost.storage.wire.requests import Append, ChangeSession, ClaimConsumer

__all__ = ["MUTATIONS", "Mutate"]

Mutate = Callable[[pytest.MonkeyPatch], None]


def local_echo(patch: pytest.MonkeyPatch) -> None:
    """Deliver an event here when it is asked for, and not at its place in the log."""

    async def publish(self: Feed, target: Target, event: EncodedEvent, *, compress: bool = True) -> None:
        journal = self.journal
        assert journal is not None
        await asyncio.sleep(0)
        self._deliver(target, event, f"{journal.generation}.{journal.top + 1}", journal.top + 1, compress)
        await journal.append(write_record(target, event), lambda _: None)

    patch.setattr(Feed, "publish", publish)


def no_following(patch: pytest.MonkeyPatch) -> None:
    """Let events of other servers be nobody's."""
    patch.setattr(Followed, "appended", lambda *_: None)


def rooms_not_followed(patch: pytest.MonkeyPatch) -> None:
    """Let bulk joins of other servers be nobody's."""
    patch.setattr(Followed, "joined", lambda *_: None)


def detach_without_fence(patch: pytest.MonkeyPatch) -> None:
    """Take every server's detach of a session, an earlier home's too."""

    def detach(self: Homes, node: object, key: bytes, expires_at: float) -> bytes:
        home = self._homes.get(key)
        if home is not None and home.node is node:
            home.is_attached, home.expires_at = False, expires_at
        if home is not None and home.claimer is node:
            self._give_up(key, home)
        return key

    patch.setattr(Homes, "detach", detach)


def data_without_fence(patch: pytest.MonkeyPatch) -> None:
    """Take what every server writes for a session, an earlier home too."""
    patch.setattr(Homes, "key_for", lambda _self, _node, key: key)


def claims_ignored(patch: pytest.MonkeyPatch) -> None:
    """Hand a session over at once, and go on with its life."""

    def claimed(self: Ownership, key: bytes) -> None:
        keeper = self.keeper
        assert keeper is not None
        self._insisting.insist(lambda: keeper.release(key, None, b""))

    patch.setattr(Ownership, "claimed", claimed)


def released_too_early(patch: pytest.MonkeyPatch) -> None:
    """Hand a session over before its handlers have ended."""

    async def over(self: Channel) -> None:
        return None

    patch.setattr(Channel, "over", over)


def no_claim(patch: pytest.MonkeyPatch) -> None:
    """Attach a session without waiting for its home."""

    async def claim(self: Crossing, journal: Any, key: bytes) -> None:
        task = asyncio.ensure_future(journal.claim_session(key))
        task.add_done_callback(lambda one: one.cancelled() or one.exception())

    patch.setattr(Crossing, "claim", claim)


def calls_not_handed_over(patch: pytest.MonkeyPatch) -> None:
    """Hand over no calls."""
    patch.setattr(PendingAcks, "hand_on", lambda _: [])


def refusal_without_catching_up(patch: pytest.MonkeyPatch) -> None:
    """Judge an offset by what this server had seen before it looked the session up."""
    real = Keeper.look_up

    async def look_up(self: Keeper, pid: str, offset: str | None, handshake: Handshake) -> Any:
        seen = self.journal.top
        patch.setattr(Keeper, "_knows", lambda _, one: one.position <= seen)
        return await real(self, pid, offset, handshake)

    patch.setattr(Keeper, "look_up", look_up)


def hosts_top(patch: pytest.MonkeyPatch) -> None:
    """Give a volatile event the position of the last event at the host, which this server has not seen."""
    hosts: list[StoreHost] = []
    attach = StoreHost.attach

    def note(self: StoreHost, *args: Any) -> str:
        hosts[:] = [self]
        return attach(self, *args)

    def deliver_volatile(self: Feed, target: Target, event: EncodedEvent, compress: bool) -> None:
        journal, opening = self.journal, hosts[0]._opening
        found = None if opening is None else opening.journals.get(self.namespace)
        offset = None
        if journal is not None:
            top = journal.top if found is None else found.journal.top
            offset = f"{journal.generation}.{top}"
        for member in self._index.select(target.rooms, target.except_):
            member.out.deliver_volatile(event, offset, compress=compress)

    patch.setattr(StoreHost, "attach", note)
    patch.setattr(Feed, "_deliver_volatile", deliver_volatile)


def expiry_of_what_others_serve(patch: pytest.MonkeyPatch) -> None:
    """Let a server's upkeep take sessions that it does not serve for unused."""
    real = Upkeep._expire_sessions

    async def expire(self: Upkeep, node: HostedNode) -> Any:
        for hosted in self._journals:
            for key, home in [*hosted.homes._homes.items()]:
                if home.node is not node:
                    await hosted.journal.detach_session(key, 0.0)
        return await real(self, node)

    patch.setattr(Upkeep, "_expire_sessions", expire)


def every_server_owns(patch: pytest.MonkeyPatch) -> None:
    """Let every server that asks be the owner of a consumer, and settle its messages."""
    patch.setattr(HostedQueues, "claim", lambda _self, node, request: node.answer(request.call, node.name))


def owners_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Let a server that is gone own its consumers still."""
    patch.setattr(HostedQueues, "_free", lambda *_: None)


def times_for_durations(patch: pytest.MonkeyPatch) -> None:
    """Let the time of a session that is away begin when its server asked for it, not when the host heard of it."""

    async def detach_session(self: RemoteJournal, key: bytes, expires_at: float) -> None:
        await self._change("detach_session", key, expires_at)

    change = HostedJournal.change_session

    def change_session(self: HostedJournal, node: HostedNode, request: ChangeSession) -> None:
        if request.method == "detach_session":
            left_s = request.arguments[0] - self._clock.now()
            request = msgspec.structs.replace(request, arguments=(left_s,))
        change(self, node, request)

    patch.setattr(RemoteJournal, "detach_session", detach_session)
    patch.setattr(HostedJournal, "change_session", change_session)


def owner_that_stood_still_goes_on(patch: pytest.MonkeyPatch) -> None:
    """Let a server that stood still go on with a consumer that another one owns by now."""

    async def step_back(self: Owners, key: object) -> None:
        return None

    patch.setattr(Owners, "_step_back", step_back)


def one_owner_for_a_queue(patch: pytest.MonkeyPatch) -> None:
    """Take a queue's consumers for one."""
    claim = HostedQueues.claim

    def claim_any(self: HostedQueues, node: HostedNode, request: ClaimConsumer) -> None:
        claim(self, node, msgspec.structs.replace(request, consumer="any"))

    patch.setattr(HostedQueues, "claim", claim_any)


def reported_before_stored(patch: pytest.MonkeyPatch) -> None:
    """Tell a server that its event is stored as soon as the host has it."""
    append = HostedJournal.append

    def append_soon(self: HostedJournal, node: HostedNode, request: Append) -> None:
        node.tell(Done(request.call, self.journal.top + 1))
        append(self, node, request)

    patch.setattr(HostedJournal, "append", append_soon)


MUTATIONS: tuple[Mutate, ...] = (
    local_echo,
    no_following,
    rooms_not_followed,
    detach_without_fence,
    data_without_fence,
    claims_ignored,
    released_too_early,
    no_claim,
    calls_not_handed_over,
    refusal_without_catching_up,
    hosts_top,
    expiry_of_what_others_serve,
    every_server_owns,
    owners_for_ever,
    times_for_durations,
    owner_that_stood_still_goes_on,
    one_owner_for_a_queue,
    reported_before_stored,
)
