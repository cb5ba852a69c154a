"""Who was in which room, by what the application asked for and by the order in which the disk took it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.sim.disk import Write
from tests.sim.operations import Operation
from tests.sim.world import World

__all__ = ["Rooms"]


@dataclass(frozen=True, slots=True)
class _Change:
    """A room joined or left: certainly after ``last``, certainly not before ``first``."""

    first: int
    last: int
    joins: bool


class Rooms:
    """Who was in which room after how many writes, as far as the application can know."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._changes: dict[tuple[str, str, str], list[_Change]] = {}
        self._sids: dict[str, list[tuple[int, str]]] = {}
        for write in world.disk.log:
            if write.kind == "open":
                self._sids.setdefault(write.where, []).append((write.index, write.who))
        self._tagged = {write.operation: write for write in world.disk.log if write.kind in ("join", "leave")}
        changes = [
            (change, operation) for operation in world.operations.all if (change := self._change_of(operation))
        ]
        for change, operation in sorted(changes, key=lambda pair: (pair[0].last, pair[0].first)):
            self._apply(change, operation)

    def was_in(self, namespace: str, sid: str, room: str, index: int) -> bool | None:
        """Tell whether a socket was in a room at a write; ``None`` if nobody can know."""
        if room == sid:
            return True
        state: bool | None = False
        for change in self._changes.get((namespace, sid, room), ()):
            if change.last <= index:
                state = change.joins
            elif change.first <= index and state is not change.joins:
                state = None
        return state

    def _apply(self, change: _Change, operation: Operation) -> None:
        sids = [operation.sid]
        if operation.kind in ("join all", "leave all"):
            known = [sid for index, sid in self._sids.get(operation.where, ()) if index < change.last]
            expired = self._expired_at(change.last)
            sids = [sid for sid in known if sid not in expired and self._is_meant(operation, sid, change.last)]
        for sid in sids:
            for room in operation.rooms or ():
                self._changes.setdefault((operation.where, sid, room), []).append(change)

    def _is_meant(self, operation: Operation, sid: str, index: int) -> bool:
        if not operation.except_:
            return True
        return any(self.was_in(operation.where, sid, room, index) for room in operation.except_)

    def _expired_at(self, index: int) -> set[str]:
        """Find the sessions whose time was over at a write; a clock that jumps back may revive them."""
        ends: dict[str, float | None] = {}
        for write in self._world.disk.log[:index]:
            if write.kind in ("detach", "attach"):
                ends[write.who] = write.what[0] if write.kind == "detach" else None
        now = self._world.disk.log[index].wall if index < len(self._world.disk.log) else 0.0
        return {sid for sid, end in ends.items() if end is not None and end < now}

    def _change_of(self, operation: Operation) -> _Change | None:
        if operation.kind not in ("join", "leave", "early join", "join all", "leave all"):
            return None
        joins = not operation.kind.startswith("leave")
        is_early = operation.kind == "early join"
        write = self._early_write(operation) if is_early else self._tagged.get(operation.number)
        if write is not None:
            return _Change(write.index, write.index, joins)
        if operation.outcome != "accepted" or is_early:
            return None
        return _Change(operation.asked, operation.done or operation.asked, joins)

    def _early_write(self, operation: Operation) -> Write | None:
        """Find the write of a room that was asked for before there was a session to join it with."""
        for write in self._world.disk.log[operation.asked :]:
            if (
                write.kind == "join"
                and write.operation is None
                and write.who == operation.sid
                and set(operation.rooms or ()) <= set(write.what)
            ):
                return write
        return None
