"""Faults put into what servers do with each other, each of which a test must find."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from tests.cluster import test_calls, test_hopping, test_progress
from tests.cluster.test_storm import judge, storm
from tests.support.chosen_store import is_postgresql
from waypost.protocol.codec import EncodedEvent
from waypost.server.basics.handshake import Handshake
from waypost.server.basics.targets import Target, write_record
from waypost.server.emitting.acks import PendingAcks
from waypost.server.emitting.feed import Feed
from waypost.server.emitting.followed import Followed
from waypost.server.namespaces.channel import Channel
from waypost.server.recovery.crossing import Crossing
from waypost.server.recovery.ownership import Ownership
from waypost.server.recovery.recovery import Keeper
from waypost.storage.host.homes import Homes
from waypost.storage.remote.journal import RemoteJournal

Mutate = Callable[[pytest.MonkeyPatch], None]

pytestmark = pytest.mark.skipif(is_postgresql(), reason="the faults are put into what a host does")

MOST_STORMS = 30


def local_echo(patch: pytest.MonkeyPatch) -> None:
    """Deliver an event here when it is asked for, and not at its place in the log."""

    async def publish(self: Feed, target: Target, event: EncodedEvent, *, compress: bool = True) -> None:
        assert self.journal is not None
        await asyncio.sleep(0)
        self._deliver(
            target, event, f"{self.journal.generation}.{self.journal.top + 1}", self.journal.top + 1, compress
        )
        await self.journal.append(write_record(target, event), lambda _: None)

    patch.setattr(Feed, "publish", publish)


def no_following(patch: pytest.MonkeyPatch) -> None:
    """Let events of other nodes be nobody's."""
    patch.setattr(Followed, "appended", lambda *_: None)


def rooms_not_followed(patch: pytest.MonkeyPatch) -> None:
    """Let changes of rooms by other nodes be nobody's."""
    patch.setattr(Followed, "joined", lambda *_: None)


def no_fence(patch: pytest.MonkeyPatch) -> None:
    """Take every node's writes for a session."""
    patch.setattr(Homes, "key_for", lambda _self, _node, key: key)


def claims_ignored(patch: pytest.MonkeyPatch) -> None:
    """Hand a session over at once, and go on with its life."""

    def claimed(self: Ownership, key: bytes) -> None:
        assert self.keeper is not None
        self._insisting.insist(lambda: self.keeper.release(key, None, b""))  # type: ignore[union-attr]

    patch.setattr(Ownership, "claimed", claimed)


def released_too_early(patch: pytest.MonkeyPatch) -> None:
    """Hand a session over before its handlers have ended."""

    async def over(self: Channel) -> None:
        return None

    patch.setattr(Channel, "over", over)


def calls_not_handed_over(patch: pytest.MonkeyPatch) -> None:
    """Hand over no calls."""
    patch.setattr(PendingAcks, "hand_on", lambda _: [])


def no_claim(patch: pytest.MonkeyPatch) -> None:
    """Attach a session without asking its home."""

    async def claim(self: Crossing, journal: Any, key: bytes) -> None:
        return None

    patch.setattr(Crossing, "claim", claim)


def engines_top(patch: pytest.MonkeyPatch) -> None:
    """Prove by a heartbeat what this node has not seen yet."""
    real = RemoteJournal.prove
    patch.setattr(RemoteJournal, "prove", lambda self, key, position, last: real(self, key, position + 2, last))


def no_catching_up(patch: pytest.MonkeyPatch) -> None:
    """Judge an offset by what this node had seen before it looked the session up."""
    real = Keeper.look_up

    async def look_up(self: Keeper, pid: str, offset: str | None, handshake: Handshake) -> Any:
        seen = self.journal.top
        patch.setattr(Keeper, "_knows", lambda _, offset: offset.position <= seen)
        return await real(self, pid, offset, handshake)

    patch.setattr(Keeper, "look_up", look_up)


async def calm() -> None:
    """Run storms without faults, in which all that servers do takes place in order."""
    for seed in range(MOST_STORMS):
        async with asyncio.timeout(20):
            apps = await storm(random.Random(seed), faults=False)
        judge(apps)


MUTATIONS: dict[Mutate, Callable[[], Coroutine[Any, Any, None]]] = {
    local_echo: calm,
    no_following: calm,
    rooms_not_followed: calm,
    claims_ignored: calm,
    released_too_early: calm,
    no_claim: calm,
    no_fence: test_hopping.test_a_frozen_server_is_not_waited_for_and_loses_the_client_when_it_goes_on,
    calls_not_handed_over: partial(test_calls.test_a_call_is_sent_again_where_its_client_is, [1]),
    engines_top: test_progress.test_a_heartbeat_proves_only_what_its_server_has_seen,
    no_catching_up: test_progress.test_a_client_that_is_ahead_of_the_server_that_it_comes_to,
}


@pytest.mark.long
@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
async def test_a_fault_is_found(mutate: Mutate, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch)
    try:
        async with asyncio.timeout(50):
            await MUTATIONS[mutate]()
    except (AssertionError, TimeoutError):
        return
    pytest.fail("nothing has found it")


@pytest.mark.long
async def test_without_a_fault_nothing_is_found() -> None:
    await calm()
