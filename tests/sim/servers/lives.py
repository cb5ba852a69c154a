"""What the applications of all servers were told of each session: one life at a time, as far as that is promised.

A server that was killed tells of no disconnect. One that could not be reached is waited for only so long; what its
handlers do later overlaps with the next life.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.sim.lives import Told, check_lives
from tests.sim.servers.world import ServersWorld

__all__ = ["check_lives_over_servers"]

_GRACE_S = 10.0
"""The server's default for ``handler_grace_s``."""
_ENTERING_S = 10.0
"""How long everything else takes from a session's claim to the connect handler."""


def check_lives_over_servers(world: ServersWorld) -> Iterator[str]:
    """Name what was told of a session at the same time, or in a wrong order."""
    yield from check_lives(
        world.lives,
        _GRACE_S,
        empty=None,
        # Behind a handler that waits for its own client, or for a host that is away.
        may_be_late=lambda one: (one.server, one.sid) in world.asked or _was_lost(world, one.server, one.began),
    )
    by_sid: dict[str, list[Told]] = {}
    for one in world.lives.all:
        by_sid.setdefault(one.sid, []).append(one)
    for sid, told in by_sid.items():
        yield from _check_session(world, sid, told)


def _check_session(world: ServersWorld, sid: str, told: list[Told]) -> Iterator[str]:
    # The last that each server has told.
    last: dict[int, Told] = {}
    for one in told:
        if one.kind == "event" and one.server in last and last[one.server].kind == "disconnect":
            # It waited behind another one; whether it may is judged for each server.
            continue
        for server, earlier in last.items():
            if server == one.server or world.lived[server].died <= one.began:
                continue
            if one.kind == "connect" and _goes_on(earlier, one.began) and not _was_lost(world, server, one.began):
                yield (
                    f"{sid} was told connect at {one.began:.4f} in server {one.server}, while in server {server} it"
                    f" was in {earlier.kind} of {earlier.began:.4f}"
                )
        last[one.server] = one
    for server, earlier in last.items():
        if earlier.kind != "disconnect" and not earlier.refused and world.lived[server].died == float("inf"):
            yield f"{sid} was never told its disconnect in server {server}, its last was {earlier}"


def _goes_on(earlier: Told, now: float) -> bool:
    """Tell whether a life goes on, for all that was told."""
    if earlier.refused:
        return False
    return earlier.kind != "disconnect" or now < min(earlier.ended, earlier.began + _GRACE_S)


def _was_lost(world: ServersWorld, server: int, now: float) -> bool:
    """Tell whether a server could not be reached when a session was claimed, or its data saved, a while before."""
    since = now - _GRACE_S - _ENTERING_S
    return any(begins <= now and ends >= since for begins, ends in world.lived[server].unreachable)
