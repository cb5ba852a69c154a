"""A random history: the circumstances, and what is done to whom at which time. All of it from one seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from waypost.server.queues.options import Order

__all__ = ["Circumstances", "History", "QueuePlan", "ServersPlan", "Step", "make_history"]

ROOMS = ("a", "b", "c")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePlan:
    """What holds for the queue of a history that is about one; see `tests.sim.queue_history`.

    Attributes:
        max_losses: After how many lost connections a message is a dead letter, if at all.
        max_messages: How many messages the queue keeps; then it drops the oldest.
        prefetch: How many messages a client may have in hand.
        max_lease_s: How long it may keep one, whatever signs of life it gives.
        first_backoff_s: The first pause after a rejection.
        backoff_jitter: By how much of itself a pause is longer or shorter.
        silence: How likely a client never answers a message, though it is there.
        rejects: How likely it rejects one.
    """

    max_losses: int | None
    max_messages: int | None
    prefetch: int
    max_lease_s: float
    first_backoff_s: float
    backoff_jitter: float
    silence: float
    rejects: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServersPlan:
    """What holds for several servers on one store; see `tests.sim.servers.history`.

    Attributes:
        count: How many there are.
        link_s: The longest latency of their links to the store's host.
        clocks_apart_s: How far their wall clocks may be apart, and how far a step sets one.
    """

    count: int
    link_s: float
    clocks_apart_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What holds for a whole history.

    Attributes:
        clients: The clients' names, each with the namespaces it is in.
        consumes: The queue and consumer of each client that has one.
        order: In which order the queue is consumed.
        lease_s: How long a client may keep a message without a sign of life.
        max_failures: After how many failures a message is a dead letter.
        longest_pause_s: The longest pause that a client asks for when it rejects a message.
        latency_s: The longest latency of the network.
        window: How many bytes a link holds.
        commit_s: The longest a commit takes.
        report_s: The longest its report takes.
        full: How likely a commit fails for want of space.
        ping_interval_s: Seconds between heartbeats.
        ping_timeout_s: Seconds to answer one.
        max_events: How many events a journal keeps.
        replay_max_events: The most events of one replay.
        concurrent_replays: How many replays run at the same time.
        max_buffered_bytes: How much may wait for a slow client.
        session_ttl_s: How long a session is kept.
        drain_s: Over how long a stop spreads its disconnects.
        pause_s: The longest that a handler waits.
        handler_fault: How likely a handler refuses a client.
        reconnect_ms: The clients' first delay of a reconnection.
        early: Whether middleware joins and leaves rooms.
        late: Whether handlers that outlive their connection change rooms.
        queue: What holds for its queue, if the history is about one.
        servers: What holds for the servers, if several share the store.
    """

    clients: dict[str, tuple[str, ...]]
    consumes: dict[str, tuple[str, str]]
    order: Order
    lease_s: float
    max_failures: int
    longest_pause_s: float
    latency_s: float
    window: int
    commit_s: float
    report_s: float
    full: float
    ping_interval_s: float
    ping_timeout_s: float
    max_events: int
    replay_max_events: int
    concurrent_replays: int
    max_buffered_bytes: int
    session_ttl_s: float
    drain_s: float
    pause_s: float
    handler_fault: float
    reconnect_ms: float
    early: bool
    late: bool
    queue: QueuePlan | None = None
    servers: ServersPlan | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is done.

    Attributes:
        at: When.
        do: What: the name of a method of `tests.sim.actions.Actions`.
        who: The client it is about, if any.
        where: The namespace or queue.
        what: The rest.
    """

    at: float
    do: str
    who: str
    where: str
    what: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.at:9.3f} {self.do} {self.who}{self.where} {' '.join(map(str, self.what))}"


@dataclass(frozen=True, slots=True)
class History:
    """A seed and what follows from it.

    Attributes:
        seed: The seed; the latencies come from it too.
        circumstances: What holds throughout.
        steps: What is done, in order of time.
    """

    seed: int
    circumstances: Circumstances
    steps: tuple[Step, ...]

    def chance(self, name: str) -> Random:
        """Return a source of chance of its own, so that one draw more here changes nothing there."""
        return Random(f"{self.seed}/{name}")

    @property
    def kind(self) -> str:
        """What it is about: ``events``, ``queues`` or ``servers``."""
        if self.circumstances.servers is not None:
            return "servers"
        return "events" if self.circumstances.queue is None else "queues"


def make_history(seed: int) -> History:
    """Make the history of a seed."""
    chance = Random(f"{seed}/history")
    circumstances = _circumstances(chance, Random(f"{seed}/queues"))
    return History(seed, circumstances, _Steps(chance, circumstances).make())


def _circumstances(chance: Random, queues: Random) -> Circumstances:
    pick = chance.choice
    orders: tuple[Order, ...] = ("strict", "strict", "key", "none")
    names = [f"c{number}" for number in range(1, chance.randint(2, 5) + 1)]
    namespaces: tuple[tuple[str, ...], ...] = (("/",), ("/",), ("/", "/n"))
    clients = {name: pick(namespaces) for name in names}
    consumers = pick(("one", "one", "two"))
    consumes = {
        name: ("q", "one" if index % 2 else consumers) for index, name in enumerate(names) if chance.random() < 0.5
    }
    ping_interval_s, ping_timeout_s = pick(((1.0, 1.0), (3.0, 2.0), (25.0, 20.0)))
    return Circumstances(
        clients=clients,
        consumes=consumes,
        order=queues.choice(orders),
        lease_s=queues.choice((2.0, 30.0)),
        max_failures=queues.choice((2, 5, 50)),
        longest_pause_s=3.0,
        latency_s=pick((0.0, 0.01, 0.1, 0.3)),
        window=pick((0, 500, 1 << 16)),
        commit_s=pick((0.0, 0.01, 0.1, 0.5)),
        report_s=pick((0.0, 0.01, 0.1)),
        full=pick((0.0, 0.0, 0.0, 0.05)),
        ping_interval_s=ping_interval_s,
        ping_timeout_s=ping_timeout_s,
        max_events=pick((1_000_000, 1_000_000, 1_000_000, 12)),
        replay_max_events=pick((10_000, 10_000, 10_000, 4)),
        concurrent_replays=pick((1, 2, 32)),
        max_buffered_bytes=pick((1 << 20, 1 << 20, 3000)),
        session_ttl_s=pick((3600.0, 3600.0, 3600.0, 8.0)),
        drain_s=pick((0.0, 0.5)),
        pause_s=pick((0.0, 0.05, 1.0, 4.0)),
        handler_fault=pick((0.0, 0.0, 0.05)),
        reconnect_ms=pick((1000.0, 200.0, 20.0)),
        early=chance.random() < 0.3,
        late=chance.random() < 0.3,
    )


class _Steps:
    """Makes the steps of a history."""

    _KINDS: tuple[tuple[str, int], ...] = (
        ("emit", 14),
        ("pair", 3),
        ("burst", 2),
        ("volatile", 4),
        ("socket_emit", 5),
        ("socket_to", 4),
        ("join", 5),
        ("leave", 4),
        ("move", 3),
        ("say", 8),
        ("call", 3),
        ("queue", 6),
        ("cut", 9),
        ("stall", 5),
        ("walk_out", 2),
        ("walk_in", 3),
        ("kick", 1),
        ("crash", 2),
        ("arm", 3),
        ("stop", 2),
        ("clock", 1),
    )

    def __init__(self, chance: Random, circumstances: Circumstances) -> None:
        self._chance = chance
        self._circumstances = circumstances
        self._names = list(circumstances.clients)
        self._queue_ids = 0

    def make(self) -> tuple[Step, ...]:
        chance = self._chance
        steps = [
            Step(chance.random() * 0.5, "walk_in", name, namespace, ())
            for name, namespaces in self._circumstances.clients.items()
            for namespace in namespaces
        ]
        kinds = [kind for kind, _weight in self._KINDS]
        weights = [weight for _kind, weight in self._KINDS]
        at = 0.5
        rush = chance.choice((0.02, 0.2, 1.0))
        for kind in chance.choices(kinds, weights, k=chance.randint(15, 60)):
            at += chance.random() * chance.choice((0.0, rush, rush, 1.0, 5.0 if chance.random() < 0.3 else rush))
            if chance.random() < 0.01:
                at += 40 * chance.random()
            name = chance.choice(self._names)
            where = chance.choice(self._circumstances.clients[name])
            steps.append(self._step(at, kind, name, where))
        return tuple(sorted(steps, key=lambda step: step.at))

    def _step(self, at: float, kind: str, name: str, where: str) -> Step:
        chance = self._chance
        what: tuple[Any, ...] = ()
        if kind in ("emit", "volatile", "pair", "burst"):
            what, name = self._target(), ""
        elif kind in ("socket_to", "join", "leave"):
            what = tuple(chance.sample(ROOMS, chance.randint(1, 2)))
        elif kind == "move":
            rooms = None if chance.random() < 0.5 else (chance.choice(ROOMS),)
            what, name = (chance.choice(("join", "leave")), rooms, (chance.choice(ROOMS),)), ""
        elif kind == "say":
            what = (chance.choice(("join", "leave", "emit", "note")), chance.choice(ROOMS))
        elif kind == "call":
            what = (chance.choice((1.0, 5.0, 20.0)),)
        elif kind == "cut":
            what = (self._notice(), self._notice())
        elif kind == "stall":
            what = (chance.choice(("up", "down", "both")), round(chance.random() * chance.choice((1, 5, 20)), 3))
        elif kind in ("crash", "stop"):
            what, name = (round(chance.random() * 2, 3),), ""
        elif kind == "arm":
            gate = chance.choice(("commit", "applied", "report"))
            what, name = (gate, chance.randint(1, 6), round(chance.random() * 2, 3)), ""
        elif kind == "kick":
            what = (chance.random() < 0.5,)
        elif kind == "queue":
            if chance.random() < 0.8 or not self._queue_ids:
                self._queue_ids += 1
            what, name, where = (f"m{self._queue_ids}",), "", "q"
        elif kind == "clock":
            what, name = (chance.choice((-3600.0, 3600.0, 30.0)),), ""
        return Step(round(at, 4), kind, name, where, what)

    def _target(self) -> tuple[Any, ...]:
        chance = self._chance
        rooms = None if chance.random() < 0.4 else tuple(sorted(chance.sample(ROOMS, chance.randint(1, 2))))
        except_ = (chance.choice(ROOMS),) if chance.random() < 0.2 else ()
        return rooms, except_

    def _notice(self) -> float | None:
        chance = self._chance
        return chance.choice((0.0, 0.0, None, round(chance.random(), 3)))
