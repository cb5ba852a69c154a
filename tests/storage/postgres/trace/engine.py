"""The engine as it should be: nodes, consumers' owners, journals and sessions as plain values.

Each method is one step: what one statement of the store does. It returns what the statement should return, or raises
`Refused` before it has changed anything.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from tests.storage.postgres.trace import sessions
from tests.storage.postgres.trace.answers import Answers
from tests.storage.postgres.trace.journals import Journal
from tests.storage.postgres.trace.queues import Queue
from tests.storage.postgres.trace.recorder import Refused
from tests.storage.postgres.trace.sessions import Session, without_left

__all__ = ["DROPPED", "FENCED", "Engine", "Expired", "Moment", "Node"]

_UNNAMED = "?"

FENCED, DROPPED, TRIMMED = "WP001", "WP010", "WP011"
_TOMBSTONE_S = 86400.0


class Moment(NamedTuple):
    """When a call is played: the engine's time, and when it began and ended as moments of the recorder.

    Attributes:
        was_done: Whether the call is known to have been done. Then it counts although its node has given up its
            incarnation meanwhile, as long as it looked before that, and nothing of a later incarnation stands where
            it writes: it holds the lock by which both go.
    """

    now: float
    began: float
    ended: float
    was_done: bool


_BEGINNING: Final = Moment(0.0, 0.0, 0.0, was_done=True)


class Node(NamedTuple):
    """A node's row; and when its incarnations ended that it gave up itself, as a moment of the recorder."""

    name: str
    incarnation: int
    state: str = "alive"
    given_up: Mapping[int, float] = {}


class Expired(NamedTuple):
    """A session whose time was over, until a node was told; `known` is when its end was reported, as a moment."""

    home: int | None
    journal: str
    sid: str
    data: bytes
    known: float


@dataclass(slots=True)
class Engine:
    """The engine's state.

    Attributes:
        named: The names of generations that the engine has drawn, by journal and tick of the row that tells of them.
        drawn: The numbers of journals that it has drawn, by name.
        queue_names: The names of queues by the numbers that it has drawn.
        left_before: The position from which on it is said which rooms a session had left, by journal.
        moment: When the call is played.
        touched: What it has changed, or could have: journals, nodes, and consumers.
        nodes: The nodes by number.
        journals: The journals by number.
        owners: The owner and the fence of each consumer.
        claimed: When the claim was answered that gave a consumer its owner, as a moment.
        doubtful: The node that a consumer was taken from while it claimed it: perhaps that did not see the claim.
        expired: The sessions whose end nobody was told yet.
        queues: The queues by name.
        answers: The answers to clients.
        marks: What the writes of queues and answers returned, by node, incarnation and batch.
        holding: The messages that nodes have in hand, by node and number: queue, consumer, epoch and position.
    """

    named: Mapping[tuple[int, int], str] = field(default_factory=dict)
    drawn: Mapping[str, int] = field(default_factory=dict)
    queue_names: Mapping[int, str] = field(default_factory=dict)
    left_before: Mapping[int, int] = field(default_factory=dict)
    moment: Moment = _BEGINNING
    touched: set[Hashable] = field(default_factory=set)
    nodes: dict[int, Node] = field(default_factory=dict)
    journals: dict[int, Journal] = field(default_factory=dict)
    owners: dict[tuple[str, str], tuple[int | None, int]] = field(default_factory=dict)
    claimed: dict[tuple[str, str], float] = field(default_factory=dict)
    doubtful: dict[tuple[str, str], int] = field(default_factory=dict)
    expired: list[Expired] = field(default_factory=list)
    queues: dict[str, Queue] = field(default_factory=dict)
    answers: Answers = field(default_factory=Answers)
    marks: dict[tuple[int, int, int], Any] = field(default_factory=dict)
    holding: dict[tuple[int, int], tuple[str, str, int, int]] = field(default_factory=dict)

    def copy(self) -> Engine:
        """Return an engine that goes its own way."""
        return replace(
            self,
            nodes={**self.nodes},
            touched=set(),
            journals={number: one.copy() for number, one in self.journals.items()},
            owners={**self.owners},
            claimed={**self.claimed},
            doubtful={**self.doubtful},
            expired=[*self.expired],
            queues={name: queue.copy() for name, queue in self.queues.items()},
            answers=self.answers.copy(),
            marks={**self.marks},
            holding={**self.holding},
        )

    # -- nodes -----------------------------------------------------------------------------------------------

    def check(self, node: int, incarnation: int) -> None:
        """Refuse a node that is not this one any more."""
        found = self.nodes.get(node)
        if found is None or found.state != "alive":
            raise Refused(FENCED)
        if found.incarnation != incarnation and not self.is_late(node, incarnation):
            raise Refused(FENCED)

    def is_late(self, node: int, incarnation: int) -> bool:
        """Whether the call may have looked before its node gave up that incarnation."""
        found = self.nodes[node]
        given_up = found.given_up.get(incarnation)
        return given_up is not None and self.moment.was_done and self.moment.began < given_up

    def enter(self, name: str, node: int, incarnation: int, is_cold: bool) -> None:
        """Take a new node, of the number and the incarnation that the engine has drawn."""
        assert node not in self.nodes, "a number of a node was given twice"
        if is_cold and self.nodes:
            self.begin_generation(ends_sessions=False)
        self._set_node(node, Node(name, incarnation))

    def _set_node(self, number: int, node: Node) -> None:
        self.nodes[number] = node
        self.touched.add(("node", number))

    def _change_sessions(self, change: Callable[[dict[bytes, Session]], list[list[str]] | None]) -> None:
        """Change the sessions of all journals; claims that go on are told of."""
        for number in sorted(self.journals):
            journal = self.journals[number]
            before = {**journal.sessions}
            released = change(journal.sessions)
            if released:
                journal.add(self.moment.now, (0, 0, 0), 6, {"released": released})
            if journal.sessions != before:
                self.touched.add(("journal", number))

    def renew(self, node: int, name: str) -> tuple[int | None, bool | None]:
        """Give a node its next incarnation."""
        found = self.nodes.get(node)
        if found is None or found.name != name or found.state == "stopped":
            return None, None
        was_dead = found.state == "dead"
        # A declaration of death waits for writes that have looked already; this does not.
        given_up = {} if was_dead else {**found.given_up, found.incarnation: self.moment.ended}
        self._set_node(node, Node(name, found.incarnation + 1, "alive", given_up))
        if was_dead:
            self._change_sessions(lambda all_: sessions.renew(all_, node, self.moment.now))
        return found.incarnation + 1, was_dead

    def end_node(self, node: int, state: str, ttl_s: float) -> None:
        """Let a node be dead, or have stopped: its sessions are detached, its consumers are free."""
        found = self.nodes[node]
        self._set_node(node, Node(found.name, found.incarnation + 1, state))
        self._change_sessions(lambda all_: sessions.of_dead(all_, node, self.moment.now + ttl_s))
        self.expired = [one._replace(home=None) if one.home == node else one for one in self.expired]
        self._drop_holds(node, are_lost=state == "dead")
        self.free(node, is_locked=True)

    def _drop_holds(self, node: int, *, are_lost: bool) -> None:
        for name in self.queues:
            holds = [one for (holder, _), one in self.holding.items() if holder == node and one[0] == name]
            if holds and are_lost:
                self.queues[name].lose_holds([hold[1:] for hold in holds], self.moment.now)
                self.touched.add(("queue", name))
        self.holding = {key: one for key, one in self.holding.items() if key[0] != node}

    def leave(self, node: int, incarnation: int, ttl_s: float) -> None:
        """Let a node stop."""
        found = self.nodes.get(node)
        if found is not None and found.state == "alive" and found.incarnation == incarnation:
            self.end_node(node, "stopped", ttl_s)

    def declare(self, node: int, incarnation: int, ttl_s: float) -> bool:
        """Let a node be dead for the others."""
        found = self.nodes.get(node)
        if found is None or found.state != "alive" or found.incarnation != incarnation:
            return False
        self.end_node(node, "dead", ttl_s)
        return True

    def claim(self, node: int, incarnation: int, consumer: tuple[str, str], came: Any) -> tuple[str, int]:
        """Own a consumer that nobody owns."""
        self.check(node, incarnation)
        self.touched.add(("consumer", *consumer))
        owner, fence = self.owners.get(consumer, (None, 0))
        doubtful = self.doubtful.pop(consumer, None)
        if doubtful is not None and came == (self.nodes[doubtful].name, fence):
            owner = doubtful
        if owner is None:
            owner, fence = node, fence + 1
            self.claimed[consumer] = self.moment.ended
        self.owners[consumer] = owner, fence
        return self.nodes[owner].name, fence

    def release(self, node: int, incarnation: int, consumer: tuple[str, str]) -> None:
        """Own a consumer no longer."""
        self.check(node, incarnation)
        self.touched.add(("consumer", *consumer))
        if self.doubtful.get(consumer) == node:
            del self.doubtful[consumer]
        owner, fence = self.owners.get(consumer, (None, 0))
        if owner == node:
            self.owners[consumer] = None, fence

    def free(self, node: int, *, is_locked: bool = False) -> None:
        """Take all consumers from a node; not one that it is just claiming, unless nothing of it is under way."""
        for consumer, (owner, fence) in self.owners.items():
            if owner == node:
                self.owners[consumer] = None, fence
                self.touched.add(("consumer", *consumer))
                if not is_locked and self.claimed[consumer] > self.moment.began:
                    self.doubtful[consumer] = node
            elif is_locked and self.doubtful.get(consumer) == node:
                del self.doubtful[consumer]

    def owner(self, consumer: tuple[str, str], came: str | None) -> str | None:
        """Return the name of the node that owns a consumer."""
        owner, _ = self.owners.get(consumer, (None, 0))
        doubtful = self.doubtful.get(consumer)
        if doubtful is not None and came == self.nodes[doubtful].name:
            return came
        return None if owner is None else self.nodes[owner].name

    # -- journals --------------------------------------------------------------------------------------------

    def open(self, name: str, generation: str, mark: tuple[int, int], drawn: int) -> dict[str, Any]:
        """Open a journal, of the number that the engine has drawn if it is new."""
        self.check(*mark)
        number = next((one for one, journal in self.journals.items() if journal.name == name), None)
        if number is None:
            assert drawn not in self.journals, "a number of a journal was given twice"
            number = drawn
            self.journals[number] = Journal(name, [(generation, None)])
        journal = self._journal(number)
        journal.open_by |= {mark[0]}
        end, (oldest, before) = journal.end, journal.trimmed
        state = {"journal": number, "tick": end.tick, "top": end.position, "size": end.bytes}
        generations = [[*one] for one in journal.generations]
        return state | {"oldest": oldest, "before": before, "generations": generations}

    def learn_generations(self, number: int, told: Sequence[Sequence[Any]]) -> None:
        """Learn the names of generations whose rows were trimmed before anybody has read them."""
        journal = self.journals.get(number)
        if journal is not None and len(journal.generations) == len(told):
            pairs = zip(journal.generations, told, strict=True)
            journal.generations = [(theirs[0] if name == _UNNAMED else name, last) for (name, last), theirs in pairs]

    def drop(self, name: str, node: int, incarnation: int) -> str:
        """Remove a journal that nobody uses."""
        number = next((one for one, journal in self.journals.items() if journal.name == name), None)
        if number is None:
            return "dropped"
        self.check(node, incarnation)
        journal = self._journal(number)
        if journal.sessions:
            return "followed"
        journal.open_by -= {node}
        if any(self.nodes[one].state == "alive" for one in journal.open_by):
            return "left"
        del self.journals[number]
        return "dropped"

    def _journal(self, number: int) -> Journal:
        self.touched.add(("journal", number))
        return self.journals[number]

    def _writing(self, number: int, node: int, incarnation: int) -> Journal:
        if number not in self.journals:
            raise Refused(DROPPED)
        self.check(node, incarnation)
        journal = self._journal(number)
        if any(row.node == node and row.incarnation > incarnation for row in journal.rows):
            raise Refused(FENCED)
        return journal

    def append(self, number: int, mark: tuple[int, int, int], records: Sequence[bytes]) -> tuple[int, int]:
        """Append events."""
        journal = self._writing(number, mark[0], mark[1])
        first = journal.end
        for record in records:
            journal.add(self.moment.now, mark, 0, "", record)
        return first.tick + 1, first.position + 1

    def write(
        self, number: int, mark: tuple[int, int, int], operations: Sequence[tuple[int, bytes, bytes, dict[str, Any]]]
    ) -> dict[str, Any]:
        """Do operations in their order."""
        journal = self._writing(number, mark[0], mark[1])
        now = self.moment.now
        first = journal.end.tick + 1
        results: list[dict[str, Any]] = []
        for kind, key, record, arguments in operations:
            if kind == 0:
                results.append({"p": journal.add(now, mark, 0, "", record).position})
                continue
            top = journal.end.position
            done = sessions.write(journal.sessions, mark[0], kind, key, record, arguments, top, now)
            result = without_left(done.result, self.left_before.get(number, 0))
            if kind == 10 and not done.result:
                journal.tombstones.pop(key, None)
            if done.row is not None:
                journal.add(now, mark, *done.row)
            results.append({"p": journal.end.position, "r": result})
            if done.data is not None:
                results[-1]["d"] = done.data
        answer = {"tick": first, "last": journal.end.tick + 1, "results": results}
        journal.add(now, mark, 1, answer)
        return answer

    def settle(
        self, number: int, mark: tuple[int, int, int], after: int, by: tuple[int, int]
    ) -> dict[str, Any] | None:
        """Tell what became of a call."""
        journal = self._writing(number, mark[0], by[0])
        own = [row for row in journal.after(after) if row[2:5] == mark]
        answer: dict[str, Any] | None = None
        if own:
            last = own[-1]
            answer = last.head if last.kind == 1 else {"tick": own[0].tick, "position": own[0].position}
        elif after + 1 < journal.first:
            raise Refused(TRIMMED)
        journal.add(self.moment.now, (mark[0], *by), 10, "")
        return answer

    def follow(
        self, node: int, number: int, after: int, size: int, most_rows: int, most_bytes: int
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a journal after a tick."""
        rows = self.journals[number].after(after) if number in self.journals else []
        rows = [row for row in rows if row.tick == after + 1 or row.bytes <= size + most_bytes][:most_rows]
        return [
            (number, *row[:6], "" if row.kind == 1 else row.head, b"" if row.node == node else row.record, row.bytes)
            for row in rows
        ]

    def find(self, number: int, keys: Sequence[bytes]) -> tuple[int, dict[bytes, tuple[Any, bytes]]]:
        """Return where a journal's log ends, and its sessions of some keys, or their tombstones."""
        journal, now = self.journals[number], self.moment.now
        found: dict[bytes, tuple[Any, bytes]] = {}
        for key in keys:
            if key in journal.sessions:
                one = journal.sessions[key]
                row = without_left(sessions.row_of(one, now), self.left_before.get(number, 0))
                found[key] = row, one.data
            elif key in journal.tombstones and journal.tombstones[key][1] >= now - _TOMBSTONE_S:
                sid, expired_at = journal.tombstones[key]
                found[key] = {"sid": sid, "expires_at": expired_at, "is_gone": True}, b""
        return journal.end.tick, found

    # -- ends ------------------------------------------------------------------------------------------------

    def expire(self, number: int) -> int:
        """End the sessions of a journal whose time is over."""
        journal, now = self._journal(number), self.moment.now
        over, head = sessions.expire(journal.sessions, now)
        for key, one in over:
            assert one.expires_at is not None
            journal.tombstones[key] = one.sid, one.expires_at
            self.expired.append(Expired(one.home, journal.name, one.sid, one.data, self.moment.ended))
        if head is not None:
            journal.add(now, (0, 0, 0), 6, head)
        return number

    def has_expired(self) -> bool:
        """Whether any session's time is over."""
        return any(
            one.is_over(self.moment.now) for journal in self.journals.values() for one in journal.sessions.values()
        )

    def take_expired(self, node: int, came: Sequence[tuple[str, str, bytes]]) -> list[tuple[str, str, bytes]]:
        """Tell a node of ended sessions; those whose end was not reported before the call may wait for the next."""
        wanted = [*came]
        taken: list[tuple[str, str, bytes]] = []
        for one in [*self.expired]:
            what = one.journal, one.sid, one.data
            if one.home in (None, node) and (what in wanted or one.known < self.moment.began):
                self.expired.remove(one)
                taken.append(what)
                if what in wanted:
                    wanted.remove(what)
        return sorted(taken)

    def trim(self, number: int, limits: tuple[float, int, int], most: int) -> tuple[int, int, bool]:
        """Forget the first rows of a journal, as many as are beyond its limits."""
        return self._journal(number).trim(self.moment.now, limits, most)

    def begin_generation(self, *, ends_sessions: bool) -> None:
        """Begin a history of each journal: the present ones end where they stand."""
        for number in sorted(self.journals):
            journal = self._journal(number)
            name, _ = journal.generations[-1]
            journal.generations[-1] = name, journal.end.position
            head = sessions.end_all(journal.sessions) if ends_sessions else None
            if ends_sessions:
                # An offset of an earlier history leads nowhere, and by that its client is told.
                journal.generations.clear()
                journal.tombstones.clear()
            if head is not None:
                journal.add(self.moment.now, (0, 0, 0), 6, head)
            drawn = self.named.get((number, journal.end.tick + 1), _UNNAMED)
            journal.generations.append((drawn, None))
            journal.add(self.moment.now, (0, 0, 0), 8, drawn)
        for name, queue in self.queues.items():
            queue.generation = ""
            self.touched.add(("queue", name))

    # -- answers ---------------------------------------------------------------------------------------------

    def answering(self, node: int, incarnation: int) -> Answers:
        """Return the answers for a write of a node."""
        self.check(node, incarnation)
        if self.answers.written.get(node, 0) > incarnation:
            raise Refused(FENCED)
        self.answers.written[node] = incarnation
        self.touched.add("answers")
        return self.answers
