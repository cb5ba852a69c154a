"""Whole queues against a plain list: clients come, go, acknowledge and reject as they like, in each order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

import waypost
from tests.server.queues.client import QUEUE, Clock, Site, Worker, quiet
from waypost.server.basics.environment import Environment
from waypost.server.queues.options import Order

_PREFETCH = 3
_MAX_FAILURES = 3
_MAX_LOSSES = 3


class QueueMachine(RuleBasedStateMachine):
    """A server with one queue and one consumer; the list says what may be delivered."""

    order: Order

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.waiting: dict[int, str | None] = {}
        self.failures: dict[int, int] = {}
        self.losses: dict[int, int] = {}
        self.paused: dict[int, float] = {}
        self.dead: set[int] = set()
        self.in_hand: dict[int, Worker] = {}
        self.in_a_row = self.most_in_hand = 0
        self.is_probing = False
        self.probes: set[int] = set()
        self.clients: list[Worker] = []
        self.seen: dict[Worker, int] = {}
        self.next_job = 1
        queues = waypost.QueueOptions(
            first_backoff_s=0, max_failures=_MAX_FAILURES, max_losses=_MAX_LOSSES, prefetch=_PREFETCH
        )
        # Without recovery, a cut ends the session: what was in hand goes to others at once.
        io = waypost.Server(drain_s=0, queues=queues, recovery=None, environment=Environment(wall_time=self.clock))
        self.site = Site(io, {"order": self.order, "prefetch": _PREFETCH})
        self.run(io.start())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 60))

    # -- what happens ---------------------------------------------------------------------------------------

    @rule(keys=st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=5))
    def emits(self, keys: list[str | None]) -> None:
        batch = []
        for key in keys:
            self.waiting[self.next_job] = key
            batch.append(waypost.NewMessage("job", self.next_job, key=key))
            self.next_job += 1
        self.run(self.site.queue.emit_many(batch))
        self.check()

    @precondition(lambda self: len(self.clients) < 3)
    @rule()
    def comes(self) -> None:
        client = Worker(self.site.io)
        client.auto_ack = False
        self.clients.append(client)
        self.seen[client] = 0
        if self.order == "strict" and self.in_hand:
            self.in_hand.clear()
            self.probes.clear()
        self.run(client.connect())
        self.check()

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def is_cut(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.clients))
        had = [job for job, who in self.in_hand.items() if who is client]
        self.probes -= {*had}
        for job in had[1:]:
            del self.in_hand[job]
        if had:
            self.lose(had[0])
        self.clients.remove(client)
        if not self.clients:
            # A consumer that nobody serves forgets that it probed.
            self.in_a_row, self.most_in_hand, self.is_probing = 0, 0, False
        self.run(client.cut())
        self.check()

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data())
    def acknowledges(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(sorted(self.in_hand)))
        client = self.in_hand.pop(job)
        del self.waiting[job]
        self.in_a_row, self.most_in_hand, self.is_probing = 0, 0, False
        self.probes.clear()
        self.run(self.reply(client, job, "[]"))
        self.check()

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data(), pause_s=st.sampled_from([0, 10]))
    def rejects(self, data: st.DataObject, pause_s: int) -> None:
        job = data.draw(st.sampled_from(sorted(self.in_hand)))
        self.in_a_row += 1
        self.most_in_hand = max(self.most_in_hand, len(self.in_hand))
        self.is_probing = self.is_probing or self.in_a_row >= min(max(self.most_in_hand, 3), 10)
        client = self.in_hand.pop(job)
        self.probes.discard(job)
        self.failures[job] = self.failures.get(job, 0) + 1
        self.bury_if_due(job)
        if pause_s:
            self.paused[job] = self.clock.now + pause_s
        self.run(self.reply(client, job, f'[{{"nack": "no", "retry_in": {pause_s}}}]'))
        self.check()

    @rule()
    def time_goes_by(self) -> None:
        self.clock.now += 6
        self.run(self.nudge())
        self.check()

    async def nudge(self) -> None:
        """Let it look at the clock: its timers wait in real time."""
        self.site.io._hub.deliveries.changed("jobs")

    async def reply(self, client: Worker, job: int, answer: str) -> None:
        client.reply(job, answer)

    def lose(self, job: int) -> None:
        del self.in_hand[job]
        self.losses[job] = self.losses.get(job, 0) + 1
        self.bury_if_due(job)

    def bury_if_due(self, job: int) -> None:
        failures, losses = self.failures.get(job, 0), self.losses.get(job, 0)
        if failures >= _MAX_FAILURES or losses >= _MAX_LOSSES:
            self.dead.add(job)
            del self.waiting[job]

    # -- what must hold -------------------------------------------------------------------------------------

    def check(self) -> None:
        self.run(quiet())
        for client in [*self.clients]:
            jobs = client.jobs
            for job in jobs[self.seen[client] :]:
                self.check_delivery(job)
                self.in_hand[job] = client
            self.seen[client] = len(jobs)
            assert sum(who is client for who in self.in_hand.values()) <= _PREFETCH
        self.check_nobody_waits_in_vain()
        load = self.site.io.state().queues.get(QUEUE, waypost.QueueLoad())
        assert (load.in_flight, load.attached) == (len(self.in_hand), len(self.clients))

    def check_delivery(self, job: int) -> None:
        assert job in self.waiting, f"{job} is done"
        assert job not in self.in_hand, f"somebody has {job}"
        assert self.paused.pop(job, 0) <= self.clock.now, f"{job} is paused"
        if self.is_probing:
            assert not self.probes, f"{job} goes out while {self.probes} are being tried"
            self.probes.add(job)
        if self.order == "strict":
            assert not self.in_hand
            assert job == min(self.waiting)
        elif self.order == "key" and self.waiting[job] is not None:
            assert job == min(other for other, key in self.waiting.items() if key == self.waiting[job])

    def check_nobody_waits_in_vain(self) -> None:
        most = 1 if self.order == "strict" else _PREFETCH * len(self.clients)
        if self.probes or not self.clients or len(self.in_hand) >= most:
            return
        for job, key in sorted(self.waiting.items()):
            is_head = self.order == "none" or (
                job == min(self.waiting)
                if self.order == "strict"
                else key is None or job == min(other for other, same in self.waiting.items() if same == key)
            )
            if is_head and self.paused.get(job, 0) <= self.clock.now:
                assert job in self.in_hand, f"{job} could be delivered, and is not"

    def teardown(self) -> None:
        for client in self.clients:
            self.run(client.cut())
        self.clock.now += 100
        last = Worker(self.site.io)
        self.run(last.connect())
        self.run(self.site.settled())
        self.run(quiet())
        letters = self.run(self.site.queue.dead_letters())
        # Of the last cuts, some were the last straw.
        assert self.dead <= {letter.args[0] for letter in letters}
        assert {*last.jobs} | {letter.args[0] for letter in letters} == {*self.waiting} | self.dead
        self.run(self.site.io.close())
        self.loop.close()


@pytest.mark.parametrize("order", ["strict", "key", "none"])
def test_queue_against_a_list(order: Order) -> None:
    class Machine(QueueMachine):
        pass

    Machine.order = order
    case = Machine.TestCase
    case.settings = settings(max_examples=12, stateful_step_count=30)
    case("runTest").runTest()
