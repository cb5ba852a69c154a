"""The owner of a session, as a Protocol, and one take-over of a session by a new owner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from waypost.server.calling.waits import Working
from waypost.server.recovery.handed import Handed
from waypost.server.recovery.lives import Life
from waypost.server.recovery.recovery import Keeper, Returning

if TYPE_CHECKING:
    from waypost.server.recovery.live_session import LiveSession

__all__ = ["NotNow", "Owner", "Taking"]


class NotNow(Exception):
    """The result of the look-up is outdated; the client's next attempt will get the current one."""


class Owner(Life, Protocol):
    """A member that owns a session, or will own one.

    Attributes:
        session: The owned session.
        resuming: The session that it takes over once it is admitted.
    """

    session: LiveSession | None
    resuming: LiveSession | None

    def enter(self, session: LiveSession, rooms: Iterable[str]) -> None:
        """Own a session, and enter the index: from now on the member gets the deliveries of these rooms."""
        ...

    def follow(self, earlier: Working) -> None:
        """Handle events after the handlers of an earlier connection, which wait for an answer of the client."""
        ...


@dataclass(slots=True, eq=False)
class Taking:
    """A member that takes a stored session over.

    Attributes:
        member: The member.
        session: The session.
        keeper: The sessions that the look-up searched.
        returning: The result of the look-up.
        handed: What another node has handed over with the session.
        top: The position up to which events are replayed.
        gets_further: Whether the client may get beyond where it is.
    """

    member: Owner
    session: LiveSession
    keeper: Keeper
    returning: Returning
    handed: Handed | None = None
    top: int = 0
    gets_further: bool = True
