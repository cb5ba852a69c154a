"""Whether a client that had to start anew was told an honest reason."""

from __future__ import annotations

from typing import Protocol

from tests.sim.client import ClientSocket, Epoch
from tests.sim.disk import Disk
from tests.sim.history import Circumstances

__all__ = ["check_reason"]


class World(Protocol):
    """What is judged, whatever servers there were."""

    circumstances: Circumstances
    disk: Disk

    def wrong(self, problem: str) -> None:
        """Note that something happened that must never happen."""
        ...


def check_reason(world: World, socket: ClientSocket, epoch: Epoch, before: Epoch | None) -> None:
    """Check that the reason is there, and that it is true."""
    if epoch.asked[0] is None:
        return
    if before is None:
        world.wrong(f"{socket.label} sent a pid without ever having had one")
        return
    if not _is_true(world, socket, epoch, before):
        world.wrong(f"{socket.label} had to start anew as {epoch.sid}: {epoch.reason}, which isn't so")


def _is_true(world: World, socket: ClientSocket, epoch: Epoch, before: Epoch) -> bool:
    one = world.circumstances
    log = [write for write in world.disk.log if write.time <= epoch.since and write.where == socket.namespace]
    mine = [write for write in log if write.who == before.sid]
    if epoch.reason == "unknown session":
        # A server that was away for days, by the clock, has even forgotten who has expired.
        return before.sid in world.disk.to_end or bool(world.disk.leaps)
    if epoch.reason == "expired":
        away = [write.time for write in mine if write.kind == "detach"]
        # Its time counts from when it was asked for; what is logged is when it was committed, a few commits later.
        enough_s = one.session_ttl_s - 4 * (one.commit_s + one.report_s)
        return bool(away) and (bool(world.disk.leaps) or epoch.since - away[0] >= enough_s)
    if epoch.reason == "retention":
        appended = sum(write.kind == "append" for write in log)
        return appended > one.max_events
    if epoch.reason == "too far":
        position = int((epoch.asked[1] or ".0").partition(".")[2])
        missed = sum(write.kind == "append" and write.position > position for write in log)
        return missed > one.replay_max_events
    return False
