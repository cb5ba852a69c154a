"""One life at a time: what the application still does for a session's earlier connections, and who comes next.

All that the application sees of a session is in one order, over all its connections: connect, its events, disconnect,
then the next connect.
"""

from __future__ import annotations

from typing import Protocol
from weakref import WeakValueDictionary

from waypost.server.calling.waits import Working
from waypost.server.emitting.members import Member

__all__ = ["Fate", "Life", "Lives"]


class Fate:
    """The end of a session, for those who still hold a socket of it.

    Attributes:
        is_sealed: Whether the session has ended for good.
    """

    __slots__ = ("__weakref__", "is_sealed")

    def __init__(self) -> None:
        self.is_sealed = False


class Life(Member, Protocol):
    """A member as the application sees it, from its connect handlers to its disconnect handlers.

    Attributes:
        fate: Whether its session has ended for good, once it has ended itself and the client may come back.
        data_touched: Whether a handler may have changed the application's data since it was stored.
    """

    fate: Fate | None
    data_touched: bool

    @property
    def work(self) -> Working | None:
        """The handlers of its events; ``None`` once the last one has ended."""
        ...

    def supersede(self) -> None:
        """End, because the client has reconnected."""
        ...

    def succeed(self, earlier: Life) -> None:
        """Follow on an earlier connection of the same client, whose handlers wait for an answer of the client."""
        ...

    async def over(self) -> None:
        """Wait until the application was told of its end, its handlers before."""
        ...

    async def save_data(self) -> None:
        """Store the application's data if a handler may have changed it."""
        ...


class Lives:
    """The lives of a namespace's sessions that have ended, and whose handlers still run."""

    __slots__ = ("_candidates", "_ending", "_fates")

    def __init__(self) -> None:
        self._ending: dict[bytes, Life] = {}
        self._candidates: dict[bytes, Life] = {}
        self._fates: WeakValueDictionary[str, Fate] = WeakValueDictionary()

    def ended(self, key: bytes, life: Life, *, recoverable: bool) -> None:
        """Note that the owner of a session has ended.

        Args:
            key: The session's key.
            life: The owner.
            recoverable: Whether the client may come back to the session.
        """
        if recoverable:
            self.spare(life)
        else:
            self.seal(life.sid)
        if life.is_told:
            self._ending[key] = life

    def spare(self, life: Life) -> None:
        """Note that a member has ended, and its session has not."""
        life.fate = self._fates.setdefault(life.sid, Fate())

    def seal(self, sid: str) -> None:
        """Note that a session has ended for good."""
        fate = self._fates.pop(sid, None)
        if fate is not None:
            fate.is_sealed = True

    def forget(self, key: bytes, life: Life) -> None:
        """Note that the last handler of a member has ended."""
        if self._ending.get(key) is life:
            del self._ending[key]

    def last(self, key: bytes) -> Life | None:
        """Return the last owner of a session, if its handlers still run."""
        return self._ending.get(key)

    def waiting(self, key: bytes) -> Life | None:
        """Return the last owner of a session, if its handlers wait for an answer of the client."""
        life = self._ending.get(key)
        return life if life is not None and life.work is not None and life.work.waits_for_client else None

    def ending(self, sid: str) -> Life | None:
        """Return the last owner of the session of a socket, if its handlers still run."""
        return next((life for life in self._ending.values() if life.sid == sid), None)

    # -- who comes next -------------------------------------------------------------------------------------

    def stand(self, key: bytes, life: Life) -> None:
        """Let a member stand for a session; the one that stood before ends. Call `step_down` once it owns it."""
        rival = self._candidates.get(key)
        if rival is not None:
            rival.supersede()
        self._candidates[key] = life

    def is_stood_for(self, key: bytes) -> bool:
        """Return whether a member stands for a session that has not ended itself."""
        candidate = self._candidates.get(key)
        return candidate is not None and candidate.left_because is None

    def turn_away(self, key: bytes) -> None:
        """End the member that stands for a session: the client has come to another node."""
        candidate = self._candidates.get(key)
        if candidate is not None:
            candidate.supersede()

    def step_down(self, key: bytes, life: Life) -> None:
        """Note that a member does not stand for a session any more."""
        if self._candidates.get(key) is life:
            del self._candidates[key]
