"""The homes and claims of sessions in SQL, step by step beside those that a host keeps in memory."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, cast

import psycopg
import pytest

from tests.support.databases import drop_database, make_database
from waypost.storage.following import ClaimVoid
from waypost.storage.host.homes import Homes
from waypost.storage.host.node import HostedNode
from waypost.storage.postgres.journals.operations import Kind

KEY = b"key"
JOURNAL = 1
TTL_S = 100.0
STEPS = 1500

_WRITE = "SELECT * FROM waypost.session_operation_1(%s, %s, 1, %s::smallint, %s, %s, %s, 0)"


class FakeNode:
    """A node that waits for claims."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.waiting: dict[int, object] = {}

    def answer(self, call: int, result: object) -> None:
        self.waiting[call] = result

    def fail(self, call: int, error: BaseException) -> None:
        self.waiting[call] = type(error)


@dataclass
class Stored:
    """What a host's store has of the session."""

    data: bytes = b""
    expires_at: float | None = None


class Host:
    """What `waypost.storage.host.journals` does with the writes for a session."""

    def __init__(self) -> None:
        self.homes = Homes("host", lambda node, _: self.asked.append(cast(FakeNode, node).number))
        self.asked: list[int] = []
        self.nodes: dict[int, FakeNode] = {}
        self.stored: Stored | None = None
        self.now = 1000.0

    def node(self, number: int) -> HostedNode:
        return cast(HostedNode, self.nodes.setdefault(number, FakeNode(number)))

    @property
    def is_expired(self) -> bool:
        at = None if self.stored is None else self.stored.expires_at
        return at is not None and at < self.now

    def open(self, number: int) -> bool:
        if self.stored is not None:
            return False
        self.homes.settle_in(self.node(number), KEY, "sid")
        self.stored = Stored()
        return True

    def attach(self, number: int) -> object:
        try:
            self.homes.begin_attaching(self.node(number), KEY)
        except ClaimVoid:
            return ClaimVoid
        if self.stored is None or self.is_expired:
            self.homes.forget(KEY)
            return None
        self.stored.expires_at = None
        self.homes.attached(KEY, "sid")
        return self.stored.data

    def detach(self, number: int, at: float) -> None:
        if self.homes.detach(self.node(number), KEY, at) == KEY and self.stored is not None:
            self.stored.expires_at = at

    def save(self, number: int, data: bytes) -> None:
        if self.homes.key_for(self.node(number), KEY) == KEY and self.stored is not None:
            self.stored.data = data

    def end(self, number: int) -> None:
        if self.homes.key_for(self.node(number), KEY) == KEY:
            self.homes.forget(KEY)
            self.stored = None

    def claim(self, number: int, call: int) -> None:
        self.nodes[number].waiting[call] = "waits"
        if self.homes.claim(self.node(number), KEY, call) and self.stored is not None and not self.is_expired:
            self.stored.expires_at = None

    def release(self, number: int, handed: bytes) -> None:
        self.homes.release(self.node(number), KEY, handed)

    def die(self, number: int) -> None:
        for _, at in self.homes.leave(self.node(number)):
            # A claim does not keep a session whose time was over before. A host lets it live once more then.
            if self.stored is not None and not self.is_expired:
                self.stored.expires_at = self.now + TTL_S if at is None else at
        del self.nodes[number]

    def expire(self) -> None:
        if self.is_expired:
            self.stored = None
            self.homes.forget(KEY)


@dataclass
class Engine:
    """The same, by the functions in SQL."""

    connection: psycopg.Connection[Any]
    claims: dict[int, dict[int, object]] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    tick: int = 0

    def set_now(self, now: float) -> None:
        self.connection.execute("SELECT set_config('waypost.now', %s, false)", (str(now),))

    def write(self, number: int, kind: Kind, record: bytes = b"", **arguments: object) -> tuple[Any, bytes]:
        values = (JOURNAL, number, int(kind), KEY, record, json.dumps(arguments))
        row = self.connection.execute(_WRITE, values).fetchone()
        assert row is not None
        result, data, row_kind, head = row
        if row_kind is not None:
            self.apply(row_kind, json.loads(bytes(head)))
        return result, data

    def apply(self, kind: int, head: Any) -> None:
        """Do what the nodes do that meet a row."""
        if kind == 5:
            if head["asked"] is not None:
                self.asked.append(head["asked"])
            self._settle(ClaimVoid, without=head["claimer"])
        else:
            for _, handed in head["released"] or ():
                self._settle(bytes.fromhex(handed))

    def claim(self, number: int, call: int) -> None:
        result, _ = self.write(number, Kind.CLAIM)
        self.claims.setdefault(number, {})[call] = (
            "waits" if result.get("waits") else bytes.fromhex(result.get("handed", ""))
        )

    def give_up(self, number: int) -> None:
        """Let the claims of a node go on: it has attached the session, or detaches it."""
        for call, state in self.claims.get(number, {}).items():
            if state == "waits":
                self.claims[number][call] = b""

    def call(self, statement: str) -> None:
        """Run a function of upkeep, and apply the rows that it leaves in the log."""
        self.connection.execute(statement)
        rows = self.connection.execute(
            "SELECT tick, kind, head FROM waypost.log WHERE tick > %s AND kind = 6 ORDER BY tick", (self.tick,)
        ).fetchall()
        for self.tick, kind, head in rows:
            self.apply(kind, json.loads(bytes(head)))

    def stored(self) -> Stored | None:
        row = self.connection.execute("SELECT data, expires_at FROM waypost.session").fetchone()
        return None if row is None else Stored(*row)

    def _settle(self, result: object, without: int = 0) -> None:
        for number, calls in self.claims.items():
            for call, state in calls.items():
                if state == "waits" and number != without:
                    calls[call] = result


@pytest.fixture
def engine() -> Iterator[Engine]:
    url = make_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO waypost.journal (name, made_at) VALUES ('/', 0)")
        yield Engine(connection)
    drop_database(url)


class Walk:
    """Random steps of both."""

    def __init__(self, engine: Engine, rng: random.Random) -> None:
        self.host = Host()
        self.engine = engine
        self.rng = rng
        self.calls = count(1)
        self.numbers = count(1)
        for _ in range(3):
            self.host.node(next(self.numbers))

    def step(self) -> str:
        number = self.rng.choice([*self.host.nodes])
        kinds = ["open", "attach", "detach", "save", "claim", "release", "end", "wait", "die"]
        kind = self.rng.choices(kinds, [4, 8, 5, 4, 10, 6, 1, 2, 2])[0]
        self.engine.set_now(self.host.now)
        getattr(self, kind)(number)
        return f"{kind} {number}"

    def open(self, number: int) -> None:
        result, _ = self.engine.write(number, Kind.OPEN, sid=b"sid".hex())
        assert (result == {}) == self.host.open(number)

    def attach(self, number: int) -> None:
        expected = self.host.attach(number)
        result, data = self.engine.write(number, Kind.ATTACH)
        came = ClaimVoid if "error" in result else data if result else None
        assert came == expected
        if expected is not ClaimVoid:
            self.engine.give_up(number)

    def detach(self, number: int) -> None:
        after_s = float(self.rng.randrange(30))
        self.host.detach(number, self.host.now + after_s)
        self.engine.write(number, Kind.DETACH, after=after_s)
        self.engine.give_up(number)

    def save(self, number: int) -> None:
        data = b"%d" % next(self.calls)
        self.host.save(number, data)
        self.engine.write(number, Kind.SAVE, data)

    def claim(self, number: int) -> None:
        if self.host.stored is None:
            return
        call = next(self.calls)
        self.host.claim(number, call)
        self.engine.claim(number, call)

    def release(self, number: int) -> None:
        handed = b"handed %d" % next(self.calls)
        self.host.release(number, handed)
        self.engine.write(number, Kind.RELEASE, handed)

    def end(self, number: int) -> None:
        self.host.end(number)
        self.engine.write(number, Kind.END)

    def wait(self, number: int) -> None:
        self.host.now += self.rng.randrange(40)
        self.engine.set_now(self.host.now)
        if self.rng.random() < 0.5:
            self.host.expire()
            self.engine.call("SELECT waypost.expire_sessions_1(10)")

    def die(self, number: int) -> None:
        self.host.die(number)
        self.engine.claims.pop(number, None)
        self.engine.call(f"SELECT waypost.sessions_of_dead_1({number}, {TTL_S})")
        self.host.node(next(self.numbers))

    def check(self) -> None:
        assert self.engine.stored() == self.host.stored
        living = self.host.nodes
        assert [one for one in self.engine.asked if one in living] == [
            one for one in self.host.asked if one in living
        ]
        for number, node in living.items():
            assert self.engine.claims.get(number, {}) == node.waiting


def test_a_session_has_the_home_that_a_host_would_give_it(engine: Engine, rng: random.Random) -> None:
    walk = Walk(engine, rng)
    done: list[str] = []
    for _ in range(STEPS):
        done.append(walk.step())
        try:
            walk.check()
        except AssertionError as wrong:
            raise AssertionError(f"after {', '.join(done[-12:])}: {wrong}") from wrong
