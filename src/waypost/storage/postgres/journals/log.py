"""One journal's log as this node has applied it: rows in the order of their ticks, own batches among them."""

from __future__ import annotations

import asyncio
import heapq
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import Any, NamedTuple, Protocol

from waypost.logs import get_logger
from waypost.storage.following import Follower
from waypost.storage.postgres.driver import Row
from waypost.storage.postgres.lanes import Identity, Mark, Write
from waypost.storage.tail import Tail

__all__ = ["Batch", "Done", "Log", "Operation", "SessionRows", "State"]

_logger = get_logger(__name__)

_EVENT, _FIRST_OF_SESSIONS, _LAST_OF_SESSIONS, _GENERATION, _TRIMMED, _SETTLED = 0, 2, 7, 8, 9, 10
_NOBODY = Mark(0, 0, 0)


class Operation(NamedTuple):
    """One operation of a batch that is no event.

    Attributes:
        kind: One of the kinds that ``session_operation_1`` knows.
        key: The session's key; empty for an operation that concerns more than one.
        record: The operation's data.
        arguments: The operation's arguments, as JSON.
    """

    kind: int
    key: bytes
    record: bytes
    arguments: str


class Done(NamedTuple):
    """The result of an operation.

    Attributes:
        position: The journal's last position when the operation took effect; an event's own.
        result: What it returned: JSON, decoded; an empty dict for nothing.
        data: The data that it returned.
    """

    position: int
    result: Any
    data: bytes


class Batch(NamedTuple):
    """The operations of one call of this node, done and not yet applied.

    Attributes:
        mark: The call's mark.
        writes: The operations; the payload of an event is its record.
        first: The tick of its first row.
        last: The tick of its last row.
        results: The result of each operation.
    """

    mark: Mark
    writes: Sequence[Write[Any]]
    first: int
    last: int
    results: Sequence[Done]


class SessionRows(Protocol):
    """Applies the rows that are about sessions."""

    def apply(self, kind: int, head: bytes) -> None:
        """Apply a row of another node, or of none."""
        ...


@dataclass(frozen=True, slots=True)
class State:
    """Where a journal stands.

    Attributes:
        journal: Its number.
        tick: The tick of its newest row.
        top: The position of its newest event.
        size: The bytes of all records there ever were.
        oldest: The oldest position that is kept.
        before: The bytes of all records before that one.
        generation: The name of its history.
        ends: The last positions of earlier ones.
    """

    journal: int
    tick: int
    top: int
    size: int
    oldest: int
    before: int
    generation: str
    ends: dict[str, int]

    @classmethod
    def parse(cls, text: str) -> State:
        """Return the state that ``journal_state_1`` told of."""
        told: dict[str, Any] = json.loads(text)
        generations = told.pop("generations")
        ends = {name: last for name, last in generations if last is not None}
        return cls(**told, generation=generations[-1][0], ends=ends)


@dataclass(slots=True, eq=False)
class Log:
    """The log of one journal, up to the row that was applied last.

    Attributes:
        name: The journal's name.
        identity: Who this node is.
        state: Where the journal stood when it was opened, or when its history began anew.
        tail: Its newest records.
        follower: What applies the events of other nodes.
        sessions: What applies the rows about sessions.
        jumped: Called when rows between were missed.
        wake: Asks the reader to read on.
        moved: Called when rows were applied.
        applied: The tick of the row that was applied last.
        mark: The mark of that row.
        lost: Marks of own calls of which nobody knows whether they were done.
        is_forked: Whether the log is about to begin anew: what is read meanwhile is of another history.
        wants_all: Whether the records of own rows are to be read, too.
    """

    name: str
    identity: Identity
    state: State
    tail: Tail
    jumped: Callable[[Log], None]
    wake: Callable[[Log], None]
    moved: Callable[[Log], None]
    follower: Follower | None = None
    sessions: SessionRows | None = None
    applied: int = 0
    top: int = 0
    oldest: int = 1
    size: int = 0
    before: int = 0
    generation: str = ""
    ends: dict[str, int] = field(default_factory=dict)
    mark: Mark = _NOBODY
    lost: set[Mark] = field(default_factory=set)
    is_forked: bool = False
    wants_all: bool = False
    _ahead: deque[Row] = field(default_factory=deque)
    _batches: dict[int, Batch] = field(default_factory=dict)
    _waiting: list[tuple[int, int, asyncio.Future[None]]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self.begin(self.state)

    @property
    def number(self) -> int:
        """The journal's number."""
        return self.state.journal

    @property
    def read_to(self) -> int:
        """The tick of the newest row that was read."""
        return int(self._ahead[-1]["tick"]) if self._ahead else self.applied

    @property
    def read_size(self) -> int:
        """The bytes of all records up to that row."""
        return int(self._ahead[-1]["bytes"]) if self._ahead else self.size

    @property
    def own_end(self) -> int:
        """The tick of the last row of this node's calls that are done; 0 if all of them are applied."""
        return max((batch.last for batch in self._batches.values()), default=0)

    def begin(self, state: State) -> None:
        """Go on from where the journal stands; what was applied before belongs to a history that is over."""
        self.state = state
        self.applied, self.top, self.size = state.tick, state.top, state.size
        self.oldest, self.before = state.oldest, state.before
        self.generation, self.ends = state.generation, dict(state.ends)
        self.mark = _NOBODY
        self.is_forked = False
        self.tail.begin(state.top)
        self._ahead.clear()
        for first in [first for first in self._batches if first <= state.tick]:
            _report(self._batches.pop(first))
        self._let_go(self.applied)
        self.moved(self)
        if self.follower is not None:
            self.follower.jumped()

    def fork(self) -> None:
        """Note that the engine has lost what was applied; `begin` comes next. Nothing of before is waited for.

        Its own calls that wait for their turn were done, in the history that is over: their rows will never come.
        """
        self.is_forked = True
        batches, self._batches = [*self._batches.values()], {}
        for batch in batches:
            _report(batch)
        self._let_go(inf)

    # -- what comes ------------------------------------------------------------------------------------------

    def add_batch(self, batch: Batch) -> None:
        """Apply a batch of this node when its turn has come."""
        if batch.first <= self.applied:
            # The log has begun anew behind it, and the clients of this node were cut off.
            _report(batch)
            return
        self._batches[batch.first] = batch
        self._advance()
        if batch.first in self._batches:
            self.wake(self)

    def add_rows(self, rows: Sequence[Row]) -> None:
        """Apply rows that were read, in the order of ticks, after `read_to`."""
        if self.is_forked:
            return
        expected = self.read_to + 1
        if rows and rows[0]["tick"] > expected:
            # What is between was trimmed before this node has read it.
            self.jumped(self)
            return
        self._ahead.extend(rows)
        self._advance()

    def lose(self, mark: Mark) -> None:
        """Take a call for one of another node's if its rows come: nobody waits for it any more."""
        self.lost.add(mark)
        self._advance()

    async def wait_for(self, tick: int) -> None:
        """Wait until a row is applied. May be cancelled."""
        if self.applied >= tick:
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (tick, next(self._numbers), future))
        self.wake(self)
        await future

    # -- applying --------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        before = self.applied
        while True:
            batch = self._batches.pop(self.applied + 1, None)
            if batch is not None:
                self._apply_batch(batch)
            elif not self._apply_next():
                break
        if self.applied != before:
            self._let_go(self.applied)
            self.moved(self)

    def _apply_batch(self, batch: Batch) -> None:
        for write, result in zip(batch.writes, batch.results, strict=True):
            if isinstance(write.payload, bytes):
                self._apply_event(result.position, write.payload)
            write.succeed(result)
        self.applied, self.mark = batch.last, batch.mark
        while self._ahead and self._ahead[0]["tick"] <= batch.last:
            self._ahead.popleft()

    def _apply_event(self, position: int, record: bytes) -> None:
        self.top = position
        self.size += len(record)
        self.tail.append(record)

    def _tell(self, position: int, record: bytes) -> None:
        if self.follower is None:
            return
        try:
            self.follower.appended(position, record)
        except Exception:
            # The row is applied all the same, and later ones must be.
            _logger.exception("a follower raised, which it must not")

    def _apply_next(self) -> bool:
        """Apply the next row that was read; returns whether there was one that could be applied."""
        if not self._ahead:
            return False
        row = self._ahead[0]
        kind = row["kind"]
        if row["node"] == self.identity.id and kind != _SETTLED and not self._is_lost(row):
            return False
        self._ahead.popleft()
        if kind == _EVENT:
            self._apply_event(row["position"], row["record"])
            self._tell(row["position"], row["record"])
        elif _FIRST_OF_SESSIONS <= kind <= _LAST_OF_SESSIONS:
            if self.sessions is not None:
                self.sessions.apply(kind, row["head"])
        elif kind == _GENERATION:
            self.ends[self.generation] = row["position"]
            self.generation = row["head"].decode()
        elif kind == _TRIMMED:
            self.oldest, self.before = json.loads(row["head"])
            self.tail.drop_before(self.oldest)
        self.applied, self.size, self.mark = row["tick"], row["bytes"], _mark_of(row)
        return True

    def _is_lost(self, row: Row) -> bool:
        """Return whether an own row belongs to a call that was given up; read anew if its record is missing."""
        if _mark_of(row) not in self.lost:
            return False
        if not self.wants_all:
            self.wants_all = True
            self._ahead.clear()
            self.wake(self)
            return False
        return True

    def _let_go(self, upto: float) -> None:
        while self._waiting and self._waiting[0][0] <= upto:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)


def _report(batch: Batch) -> None:
    for write, result in zip(batch.writes, batch.results, strict=True):
        write.succeed(result)


def _mark_of(row: Row) -> Mark:
    return Mark(row["node"], row["incarnation"], row["batch"])
