"""A random history that is about a queue: few events, many messages, and everything that can be done to them."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.sim.history import Circumstances, History, QueuePlan, Step
from waypost.server.queues.options import Order

__all__ = ["make_queue_history"]

QUEUE = "q"
_KEYS = (None, "x", "y")
_CLOCK_ON_S = (2.0, 30.0, 3600.0, 8 * 86400.0)


def make_queue_history(seed: int) -> History:
    """Make the history of a seed."""
    chance = Random(f"{seed}/queue history")
    circumstances = _circumstances(chance)
    steps = _Steps(chance, circumstances).make()
    # From chances of their own, so that the other histories stay as they were.
    more = [
        *_clock_steps(Random(f"{seed}/clock"), steps),
        *_dependency_steps(Random(f"{seed}/dependency"), steps),
        *_breaking_steps(Random(f"{seed}/breaking"), steps, circumstances),
    ]
    return History(seed, circumstances, tuple(sorted((*steps, *more), key=lambda step: step.at)))


def _clock_steps(chance: Random, steps: tuple[Step, ...]) -> list[Step]:
    """Let somebody set the wall clock, in some histories."""
    if chance.random() < 0.7:
        return []
    # A pause lasts to a time of day: an hour back would make it last longer than the history.
    may_go_far_back = not any(step.do == "pause" for step in steps)
    back = (-3600.0, -30.0) if may_go_far_back else (-30.0, -10.0)
    return [
        Step(round(chance.random() * steps[-1].at, 4), "clock", "", QUEUE, (chance.choice((*back, *_CLOCK_ON_S)),))
        for _ in range(chance.randint(1, 3))
    ]


def _dependency_steps(chance: Random, steps: tuple[Step, ...]) -> list[Step]:
    """Let what all clients depend on be away for a while, with many messages waiting, in some histories."""
    if chance.random() < 0.75:
        return []
    at = chance.random() * steps[-1].at
    away = Step(round(at, 4), "away", "", QUEUE, (round(1 + chance.random() * 10, 3), "rejects"))
    waiting = [
        Step(
            round(at + chance.random() * 2, 4), "message", "", QUEUE, (f"d{number}", chance.choice(_KEYS), None, None)
        )
        for number in range(chance.randint(5, 20))
    ]
    return [away, *waiting]


def _breaking_steps(chance: Random, steps: tuple[Step, ...], circumstances: Circumstances) -> list[Step]:
    """Let connections break again and again while no client answers, in some histories."""
    if chance.random() < 0.85:
        return []
    at, times = chance.random() * steps[-1].at, chance.randint(4, 8)
    every_s = circumstances.reconnect_ms / 1000 * 2 + 6 * circumstances.latency_s + 2 * circumstances.commit_s + 0.5
    silent = Step(round(at, 4), "away", "", QUEUE, (round(every_s * (times + 1), 3), "silent"))
    cuts = [
        Step(round(at + every_s * number, 4), "cut", name, "/", (0.0, 0.0))
        for number in range(1, times + 1)
        for name in circumstances.clients
    ]
    message = Step(round(at, 4), "message", "", QUEUE, ("b1", None, None, None))
    return [silent, message, *cuts]


def _circumstances(chance: Random) -> Circumstances:
    pick = chance.choice
    orders: tuple[Order, ...] = ("strict", "key", "none")
    names = [f"c{number}" for number in range(1, chance.randint(1, 4) + 1)]
    consumers = pick((("one",), ("one",), ("one", "two")))
    ping_interval_s, ping_timeout_s = pick(((1.0, 1.0), (3.0, 2.0), (25.0, 20.0)))
    return Circumstances(
        clients=dict.fromkeys(names, ("/",)),
        consumes={name: (QUEUE, consumers[index % len(consumers)]) for index, name in enumerate(names)},
        order=pick(orders),
        lease_s=pick((2.0, 30.0)),
        max_failures=pick((2, 4, 50)),
        longest_pause_s=3.0,
        latency_s=pick((0.0, 0.01, 0.1, 0.3)),
        window=pick((500, 1 << 16)),
        commit_s=pick((0.0, 0.01, 0.1, 0.5)),
        report_s=pick((0.0, 0.01, 0.1)),
        full=pick((0.0, 0.0, 0.0, 0.05)),
        ping_interval_s=ping_interval_s,
        ping_timeout_s=ping_timeout_s,
        max_events=1_000_000,
        replay_max_events=10_000,
        concurrent_replays=32,
        max_buffered_bytes=1 << 20,
        session_ttl_s=3600.0,
        drain_s=pick((0.0, 0.5)),
        pause_s=pick((0.0, 0.05)),
        handler_fault=0.0,
        reconnect_ms=pick((1000.0, 200.0, 20.0)),
        early=False,
        late=False,
        queue=QueuePlan(
            max_losses=pick((3, None)),
            max_messages=pick((None, None, 5, 12)),
            prefetch=pick((1, 2, 8)),
            max_lease_s=pick((4.0, 15.0)),
            first_backoff_s=pick((0.0, 0.5, 2.0)),
            backoff_jitter=pick((0.0, 0.2)),
            silence=pick((0.0, 0.05, 0.2)),
            rejects=pick((0.0, 0.2, 0.5)),
        ),
    )


class _Steps:
    """Makes the steps of a history."""

    _KINDS: tuple[tuple[str, int], ...] = (
        ("message", 40),
        ("cut", 6),
        ("stall", 4),
        ("walk_out", 2),
        ("walk_in", 4),
        ("kick", 1),
        ("crash", 3),
        ("arm", 3),
        ("stop", 2),
        ("seek", 3),
        ("pause", 3),
        ("resume", 2),
        ("redrive", 4),
        ("discard", 1),
    )

    def __init__(self, chance: Random, circumstances: Circumstances) -> None:
        self._chance = chance
        self._clients = list(circumstances.clients)
        self._consumers = sorted({consumer for _, consumer in circumstances.consumes.values()})
        self._messages = 0

    def make(self) -> tuple[Step, ...]:
        chance = self._chance
        steps = [Step(chance.random() * 0.5, "walk_in", name, "/", ()) for name in self._clients]
        kinds = [kind for kind, _weight in self._KINDS]
        weights = [weight for _kind, weight in self._KINDS]
        at = 0.0
        rush = chance.choice((0.02, 0.2, 1.0))
        for kind in chance.choices(kinds, weights, k=chance.randint(10, 50)):
            at += chance.random() * chance.choice((0.0, rush, rush, 1.0, 5.0))
            steps.append(self._step(at, kind))
        return tuple(sorted(steps, key=lambda step: step.at))

    def _step(self, at: float, kind: str) -> Step:
        chance = self._chance
        who, where = "", QUEUE
        what: tuple[Any, ...] = ()
        if kind in ("cut", "stall", "walk_out", "walk_in", "kick"):
            who, where = chance.choice(self._clients), "/"
        if kind == "message":
            what = self._message()
        elif kind == "cut":
            notices = [chance.choice((0.0, 0.0, None, round(chance.random(), 3))) for _ in range(2)]
            what = tuple(notices)
        elif kind == "stall":
            what = (chance.choice(("up", "down", "both")), round(chance.random() * chance.choice((1, 5, 20)), 3))
        elif kind == "kick":
            what = (chance.random() < 0.5,)
        elif kind in ("crash", "stop"):
            what = (round(chance.random() * 2, 3),)
        elif kind == "arm":
            gate = chance.choice(("commit", "applied", "report"))
            what = (gate, chance.randint(1, 6), round(chance.random() * 2, 3))
        else:
            what = self._managing(kind)
        return Step(round(at, 4), kind, who, where, what)

    def _message(self) -> tuple[Any, ...]:
        chance = self._chance
        if chance.random() < 0.9 or not self._messages:
            self._messages += 1
        ttl_s = round(chance.random() * 10, 3) + 0.001 if chance.random() < 0.15 else None
        delay_s = round(chance.random() * 8, 3) if chance.random() < 0.2 else None
        return f"m{self._messages}", chance.choice(_KEYS), ttl_s, delay_s

    def _managing(self, kind: str) -> tuple[Any, ...]:
        chance = self._chance
        consumer = chance.choice(self._consumers)
        if kind == "seek":
            to = chance.choice(("oldest", "new", "back"))
            return consumer, to, chance.randint(0, 6) if to == "back" else None
        if kind in ("pause", "resume"):
            whom = consumer if chance.random() < 0.7 else None
            return (whom, round(chance.random() * 10, 3)) if kind == "pause" else (whom,)
        return (chance.choice((None, None, 0.5, 4.0)),) if kind == "redrive" else ()
