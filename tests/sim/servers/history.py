"""A random history of two or three servers on one store, and of clients that hop between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from tests.sim.history import ROOMS, Circumstances, History, ServersPlan, Step

__all__ = ["make_servers_history"]


def make_servers_history(seed: int) -> History:
    """Make the history of a seed."""
    chance = Random(f"{seed}/servers history")
    more = Random(f"{seed}/more of servers")
    plan = ServersPlan(
        count=chance.choice((2, 2, 3)),
        link_s=chance.choice((0.0, 0.01, 0.1)),
        clocks_apart_s=more.choice((0.0, 3600.0, 10 * 86_400.0)),
    )
    is_calm = chance.random() < 0.35
    circumstances = _circumstances(chance, plan, is_calm=is_calm)
    if more.random() < 0.4:
        consumes = {name: ("q", more.choice(("one", "two"))) for name in circumstances.consumes}
        circumstances = replace(circumstances, consumes=consumes)
    steps = _Steps(chance, circumstances, plan, is_calm=is_calm).make()
    return History(seed, circumstances, tuple(sorted((*steps, *_rare(more, plan, steps)), key=lambda step: step.at)))


def _rare(more: Random, plan: ServersPlan, steps: Sequence[Step]) -> Iterator[Step]:
    """Make steps that few histories have: the parent dies, and clocks are set."""
    for _ in range(more.choice((0, 0, 0, 0, 1, 2))):
        yield Step(_between(more, steps), "orphan", "", "", (round(more.random() * 3, 3),))
    for _ in range(more.randrange(4) if plan.clocks_apart_s else 0):
        who = more.choice(["host", *(f"s{number}" for number in range(plan.count))])
        yield Step(_between(more, steps), "set_clock", who, "", (more.uniform(-1, 1) * plan.clocks_apart_s,))


def _between(more: Random, steps: Sequence[Step]) -> float:
    return round(more.uniform(steps[0].at, steps[-1].at), 4)


def _circumstances(chance: Random, plan: ServersPlan, *, is_calm: bool) -> Circumstances:
    pick = chance.choice
    names = [f"c{number}" for number in range(1, chance.randint(2, 5) + 1)]
    namespaces: tuple[tuple[str, ...], ...] = (("/",), ("/",), ("/", "/n"))
    ping_interval_s, ping_timeout_s = pick(((1.0, 1.0), (3.0, 2.0), (25.0, 20.0)))
    return Circumstances(
        clients={name: pick(namespaces) for name in names},
        consumes={name: ("q", "one") for name in names if chance.random() < 0.5},
        order=pick(("strict", "none")),
        lease_s=30.0,
        max_failures=50,
        longest_pause_s=3.0,
        latency_s=pick((0.0, 0.01, 0.1, 0.3)),
        window=pick((500, 1 << 16)),
        commit_s=pick((0.0, 0.01, 0.1, 0.5)),
        report_s=pick((0.0, 0.01, 0.1)),
        full=0.0,
        ping_interval_s=ping_interval_s,
        ping_timeout_s=ping_timeout_s,
        max_events=pick((1_000_000, 1_000_000, 1_000_000, 12)),
        replay_max_events=pick((10_000, 10_000, 10_000, 4)),
        concurrent_replays=pick((1, 2, 32)),
        max_buffered_bytes=1 << 20,
        session_ttl_s=pick((3600.0, 3600.0, 8.0)),
        drain_s=pick((0.0, 0.5)),
        pause_s=pick((0.0, 0.05, 1.0)),
        handler_fault=pick((0.0, 0.0, 0.05)),
        reconnect_ms=pick((1000.0, 200.0, 20.0)),
        early=False,
        late=chance.random() < 0.3,
        servers=plan,
    )


class _Steps:
    """Makes the steps of a history."""

    _KINDS: tuple[tuple[str, int], ...] = (
        ("emit", 14),
        ("pair", 4),
        ("burst", 3),
        ("volatile", 5),
        ("socket_emit", 4),
        ("socket_to", 4),
        ("join", 5),
        ("leave", 4),
        ("move", 5),
        ("say", 7),
        ("call", 3),
        ("ask", 4),
        ("queue", 6),
        ("cut", 10),
        ("hop", 10),
        ("stall", 3),
        ("walk_out", 1),
        ("walk_in", 2),
        ("kick", 1),
        ("kill", 3),
        ("stop", 2),
    )
    _STANDSTILLS: tuple[tuple[str, int], ...] = (("freeze", 3), ("away", 1))

    def __init__(self, chance: Random, circumstances: Circumstances, plan: ServersPlan, *, is_calm: bool) -> None:
        self._is_calm = is_calm
        self._messages = 0
        self._chance = chance
        self._clients = circumstances.clients
        self._servers = [f"s{number}" for number in range(plan.count)]

    def make(self) -> tuple[Step, ...]:
        chance = self._chance
        steps = [
            Step(0.5 + chance.random() * 0.5, "walk_in", name, namespace, ())
            for name, namespaces in self._clients.items()
            for namespace in namespaces
        ]
        drawn = self._KINDS if self._is_calm else self._KINDS + self._STANDSTILLS
        kinds = [kind for kind, _weight in drawn]
        weights = [weight for _kind, weight in drawn]
        at = 1.0
        rush = chance.choice((0.02, 0.2, 1.0))
        for kind in chance.choices(kinds, weights, k=chance.randint(15, 70)):
            at += chance.random() * chance.choice((0.0, rush, rush, 1.0, 5.0 if chance.random() < 0.3 else rush))
            steps.append(self._step(round(at, 4), kind))
        return tuple(sorted(steps, key=lambda step: step.at))

    def _step(self, at: float, kind: str) -> Step:
        if kind == "queue":
            self._messages += 1
            return Step(at, kind, self._chance.choice(self._servers), "q", (f"m{self._messages}",))
        if kind in ("emit", "volatile", "pair", "burst", "move", "kill", "stop", "freeze", "away"):
            server, where = self._chance.choice(self._servers), self._namespace()
            return Step(at, kind, server, where, self._of_server(kind))
        who = self._chance.choice(list(self._clients))
        return Step(at, kind, who, self._chance.choice(self._clients[who]), self._of_client(kind))

    def _namespace(self) -> str:
        return self._chance.choice([name for names in self._clients.values() for name in names])

    def _of_server(self, kind: str) -> tuple[Any, ...]:
        chance = self._chance
        if kind == "move":
            whom = None if chance.random() < 0.5 else (chance.choice(ROOMS),)
            return chance.choice(("join", "leave")), whom, (chance.choice(ROOMS),)
        if kind in ("kill", "stop"):
            return (round(chance.random() * 2, 3),)
        if kind == "freeze":
            return (round(chance.random() * chance.choice((1.0, 5.0, 15.0, 40.0)), 3),)
        if kind == "away":
            return (chance.choice((0.5, 5.0, 20.0)),)
        rooms = None if chance.random() < 0.4 else tuple(sorted(chance.sample(ROOMS, chance.randint(1, 2))))
        return rooms, (chance.choice(ROOMS),) if chance.random() < 0.2 else ()

    def _of_client(self, kind: str) -> tuple[Any, ...]:
        chance = self._chance
        if kind in ("socket_to", "join", "leave"):
            return tuple(chance.sample(ROOMS, chance.randint(1, 2)))
        if kind == "say":
            return chance.choice(("join", "leave", "emit", "note")), chance.choice(ROOMS)
        if kind in ("call", "ask"):
            return (chance.choice((1.0, 5.0, 20.0)),)
        if kind == "cut":
            return tuple(chance.choice((0.0, 0.0, None, round(chance.random(), 3))) for _ in range(2))
        if kind == "hop":
            # How often, how long each time; the servers find out late, or never.
            return chance.choice((1, 1, 2, 3)), chance.choice((0.0, 0.02, 0.1, 0.5))
        if kind == "stall":
            return chance.choice(("up", "down", "both")), round(chance.random() * chance.choice((1, 5, 20)), 3)
        return (chance.random() < 0.5,) if kind == "kick" else ()
