"""Which sessions each event was meant for, by the one order in which the disk took the writes of all servers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from tests.sim.disk import Write
from tests.sim.operations import Operation

__all__ = ["Meant"]


class Meant:
    """The sessions that each event was meant for.

    Args:
        log: All writes.
        operations: What the applications asked for.
        number_of: Returns the number of the operation that has emitted what was appended.
    """

    def __init__(
        self, log: Sequence[Write], operations: Sequence[Operation], number_of: Callable[[Write], int]
    ) -> None:
        self._rooms: dict[str, dict[str, set[str]]] = {}
        self._meant: dict[int, frozenset[str]] = {}
        for write in log:
            sessions = self._rooms.setdefault(write.where, {})
            if write.kind == "append":
                operation = operations[number_of(write)]
                self._meant[write.index] = _matching(sessions, operation.rooms, operation.except_)
            elif write.kind == "open":
                sessions[write.who] = {write.who}
            elif write.kind in ("join", "leave"):
                self._move(sessions, write)
            elif write.kind in ("end", "expire"):
                sessions.pop(write.who, None)

    def is_for(self, write: Write, sid: str) -> bool:
        """Tell whether an event was meant for a session."""
        return sid in self._meant[write.index]

    def _move(self, sessions: dict[str, set[str]], write: Write) -> None:
        is_bulk = not write.who and len(write.what) == 3 and isinstance(write.what[1], tuple)
        rooms = write.what[2] if is_bulk else write.what
        # A write of a server that is no longer the session's home names no session, and changes nothing.
        moved: Collection[str] = {write.who} & sessions.keys()
        if is_bulk:
            moved = _matching(sessions, write.what[0], write.what[1])
        for sid in moved:
            if write.kind == "join":
                sessions[sid].update(rooms)
            else:
                sessions[sid].difference_update(rooms)


def _matching(
    sessions: dict[str, set[str]], rooms: Collection[str] | None, except_: Collection[str]
) -> frozenset[str]:
    return frozenset(
        sid
        for sid, inside in sessions.items()
        if (rooms is None or inside & set(rooms)) and not inside & set(except_)
    )
