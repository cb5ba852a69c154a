"""The options of recovery: which sessions and events are kept, and for how long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from waypost.checking.constraints import Count, Positive
from waypost.checking.options import checked
from waypost.errors import ConfigurationError
from waypost.protocol.known_clients import gets_offsets
from waypost.server.basics.handshake import Handshake
from waypost.typed.handlers import check_handler

__all__ = ["Recovery", "sends_offset_safely"]

_MEBIBYTE = 1 << 20


def sends_offset_safely(handshake: Handshake) -> bool:
    """Return whether a client gets offsets as an event's last argument; see `waypost.protocol.known_clients`.

    Args:
        handshake: The client's handshake.
    """
    return gets_offsets(handshake.query, handshake.headers)


@checked("waypost.Recovery", prefix="recovery.")
@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """The sessions and events that the server keeps, so that a client that was away misses nothing.

    Attributes:
        session_ttl_s: Seconds for which a session outlives its connection, above 0.
        max_age_s: Seconds for which a namespace's journal keeps an event, above 0.
        max_events: The most events in a namespace's journal, from 1.
        max_bytes: The most bytes of events in a namespace's journal, from 1.
        replay_max_events: The most events replayed to one client, from 1; a client that missed more starts a new
            session.
        replay_max_bytes: The most bytes of events replayed to one client, from 1.
        tail_bytes: The bytes of a namespace's newest events that memory keeps too, for fast replays.
        max_away_per_address: The most sessions whose clients of one address are away, from 1. Above it, the session
            that was left first ends. Loopback addresses are not counted.
        concurrent_replays: The most clients for which the store is read at the same time, from 1; the others wait.
            A client that reads its replay slowly, or awaits ``may_resume``, does not count.
        sends_offset: Returns whether a client with this handshake gets offsets. A client without offsets has no
            recovery: no session is kept for it, and ``session_expired`` is called when its connection is lost. The
            default excludes clients that are known not to recover, and follows the query parameter
            ``waypost-offsets``: ``no`` or ``yes``.
        may_resume: Awaited with the session's handshake (its first, or that of its last recovery) and the handshake
            of the client that sends its private id now. If it returns False, the client starts a new session. With
            this option the store keeps handshakes: headers and auth, secrets included. ``None`` lets every client
            resume that has the private id and passes the middleware.

    Raises:
        ConfigurationError: An attribute has a value that it does not accept.
    """

    session_ttl_s: Positive = 3600
    max_age_s: Positive = 24 * 3600
    max_events: Count = 1_000_000
    max_bytes: Count = 1 << 30
    replay_max_events: Count = 10_000
    replay_max_bytes: Count = 8 * _MEBIBYTE
    tail_bytes: Count = 64 * _MEBIBYTE
    max_away_per_address: Count = 30_000
    concurrent_replays: Count = 32
    sends_offset: Callable[[Handshake], bool] = sends_offset_safely
    may_resume: Callable[[Handshake, Handshake], Awaitable[bool]] | None = None

    def __post_init__(self) -> None:
        if check_handler("recovery.sends_offset", self.sends_offset, 1).is_async:
            raise ConfigurationError("recovery.sends_offset", self.sends_offset, "a plain function (def)")
        if self.may_resume is not None and not check_handler("recovery.may_resume", self.may_resume, 2).is_async:
            raise ConfigurationError("recovery.may_resume", self.may_resume, "an async function")
