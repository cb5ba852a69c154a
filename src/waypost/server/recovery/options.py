"""What is kept for clients that come back, as options."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from waypost.checking.constraints import Count, Positive
from waypost.checking.options import checked
from waypost.errors import ConfigurationError
from waypost.protocol.handshake import is_python_client
from waypost.server.basics.handshake import Handshake
from waypost.typed.handlers import check_handler

__all__ = ["Recovery", "sends_offset_safely"]

_MEBIBYTE = 1 << 20


def sends_offset_safely(handshake: Handshake) -> bool:
    """Tell whether a client can take an offset as an event's last argument.

    Official clients pass it on to the application as one more argument, which JavaScript ignores. python-socketio
    raises a TypeError and loses the event, and is the one client known not to take it.
    """
    return not is_python_client(handshake.query)


@checked("waypost.Recovery", prefix="recovery.")
@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What is kept so that a client which was away misses nothing.

    Attributes:
        session_ttl_s: Seconds for which a session outlives its connection.
        max_age_s: Seconds for which a namespace's journal keeps an event.
        max_events: How many events a namespace's journal keeps.
        max_bytes: How many bytes of events a namespace's journal keeps.
        replay_max_events: The most events replayed to one client; one that missed more starts anew.
        replay_max_bytes: The most bytes of events replayed to one client.
        tail_bytes: How many bytes of a namespace's newest events are kept in memory too, for replays.
        concurrent_replays: How many clients are replayed to at the same time; the others wait their turn.
        sends_offset: Decides by a client's handshake whether its events carry an offset; without it there is no
            recovery for that client. The default leaves out python-socketio's, which would lose the event.
        may_resume: Asked with the handshake a session was begun or last resumed with, and the one of whoever
            names its pid now; a false answer lets them start anew. With it, handshakes (headers and auth, so
            secrets too) are kept in the store. ``None`` asks nobody: whoever has the pid, and passes the
            middleware, resumes.
    """

    session_ttl_s: Positive = 3600
    max_age_s: Positive = 24 * 3600
    max_events: Count = 1_000_000
    max_bytes: Count = 1 << 30
    replay_max_events: Count = 10_000
    replay_max_bytes: Count = 8 * _MEBIBYTE
    tail_bytes: Count = 64 * _MEBIBYTE
    concurrent_replays: Count = 32
    sends_offset: Callable[[Handshake], bool] = sends_offset_safely
    may_resume: Callable[[Handshake, Handshake], Awaitable[bool]] | None = None

    def __post_init__(self) -> None:
        if check_handler("recovery.sends_offset", self.sends_offset, 1).is_async:
            raise ConfigurationError("recovery.sends_offset", self.sends_offset, "a plain function (def)")
        if self.may_resume is not None and not check_handler("recovery.may_resume", self.may_resume, 2).is_async:
            raise ConfigurationError("recovery.may_resume", self.may_resume, "an async function")
