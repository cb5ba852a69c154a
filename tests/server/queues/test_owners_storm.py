"""Clients that go from node to node, and nodes that stop, start and die: what a consumer's sockets get, by chance."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from tests.server.queues.client import Site, Worker
from tests.server.queues.test_owners import move, sites
from tests.support.nodes import Nodes
from tests.support.waiting import DEADLINE_S
from waypost.server.emitting.acks import PendingAcks

KEYS = 5


class Holder(Worker):
    """A client that says when it is given what another one has in its hand."""

    def __init__(self, site: Site, held: dict[Any, Holder], faults: list[str]) -> None:
        super().__init__(site.io)
        self.site = site
        self.auto_ack = False
        self.acknowledged: list[Any] = []
        # The servers at which it was given a job, and at which it has acknowledged that.
        self.where: defaultdict[Any, set[int]] = defaultdict(set)
        self._held = held
        self._faults = faults

    def _handle_event(self, packet: Any) -> None:
        super()._handle_event(packet)
        if packet.ack_id is None or packet.data[0] != "job":
            return
        job = packet.data[1]
        self.where[job].add(id(self.site))
        holder = self._held.get(job)
        if holder is not None:
            self._faults.append(f"{job} is in the hand of {holder.name} and is given to {self.name}")
        self._held[job] = self

    @property
    def name(self) -> str:
        return f"client {id(self) % 1000}"

    def done(self, rng: random.Random) -> None:
        """Acknowledge something."""
        if self.connected and self.to_acknowledge:
            ack_id, arguments = self.to_acknowledge.pop(rng.randrange(len(self.to_acknowledge)))
            self._held.pop(arguments[1], None)
            self.acknowledged.append(arguments[1])
            self.where[arguments[1]].add(id(self.site))
            self.acknowledge(ack_id)


class Storm:
    """What happens, by chance."""

    def __init__(self, nodes: Nodes, here: Sequence[Site], seed: int) -> None:
        self.rng = random.Random(seed)
        self.nodes = nodes
        self.here = here
        self.up = list(here)
        self.held: dict[Any, Holder] = {}
        self.faults: list[str] = []
        self.clients = [Holder(site, self.held, self.faults) for site in here for _ in range(2)]
        self.sent = 0
        # What a client got right before its connection ended, which nobody can know.
        self.doubtful: set[Any] = set()

    async def connect(self, client: Holder) -> None:
        client.site = self.rng.choice(self.up)
        await move(client, client.site)

    async def put(self) -> None:
        for _ in range(self.rng.randrange(4)):
            await self.rng.choice(self.up).put(self.sent, key=str(self.sent % KEYS))
            self.sent += 1

    async def hop(self) -> None:
        client = self.rng.choice(self.clients)
        acks = self.acks_of(client)
        await client.cut()
        self.note_doubtful(client, acks)
        await self.connect(client)

    def acks_of(self, client: Holder) -> PendingAcks:
        return client.site.socket_of(client)._channel.out.acks

    def note_doubtful(self, client: Holder, acks: PendingAcks) -> None:
        """Let what has perhaps not arrived be delivered again."""
        for ack_id, arguments in client.to_acknowledge:
            if not acks.has_arrived(ack_id):
                self.doubtful.add(arguments[1])
                self.held.pop(arguments[1], None)

    async def restart(self) -> None:
        """Stop a node, whose clients go elsewhere, and start it again."""
        site = self.rng.choice(self.up)
        self.up.remove(site)
        clients = {one: self.acks_of(one) for one in self.clients if one.site is site}
        await site.io.close()
        for client, acks in clients.items():
            self.note_doubtful(client, acks)
            await self.connect(client)
        await site.io.start()
        self.up.append(site)

    async def crash(self) -> None:
        """Kill a node, whose clients go elsewhere, and start it again."""
        site = self.rng.choice(self.up)
        self.up.remove(site)
        self.nodes.kill(f"n{self.here.index(site)}")
        clients = [one for one in self.clients if one.site is site]
        for client in self.clients:
            # What the node had not stored is delivered again: acks that came to it, and those that others have passed
            # on to it before they knew what its clients brought with them.
            self.doubtful |= {job for job in client.acknowledged[-10:] if id(site) in client.where[job]}
        for client in clients:
            client.vanish()
            held = [arguments[1] for _, arguments in client.to_acknowledge]
            self.doubtful |= set(held)
            for job in held:
                self.held.pop(job, None)
        for client in clients:
            await self.connect(client)
        await site.io.close()
        await site.io.start()
        self.up.append(site)

    async def run(self, steps: int, *, kills: bool) -> None:
        for client in self.clients:
            await self.connect(client)
        for step in range(steps):
            await self.put()
            for client in self.rng.sample(self.clients, 3):
                client.done(self.rng)
            await asyncio.sleep(self.rng.choice([0, 0, 0.001, 0.005]))
            if self.rng.random() < 0.2:
                await self.hop()
            if step % 25 == 24:
                await (self.crash() if kills else self.restart())

    async def finish(self) -> None:
        """Acknowledge all there is."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for client in self.clients:
                    while client.connected and client.to_acknowledge:
                        client.done(self.rng)
                info = await self.up[0].info()
                if not info.waiting and info.acknowledged >= self.sent:
                    return
                await asyncio.sleep(0.001)


@pytest.mark.parametrize("order", ["none", "key"])
@pytest.mark.parametrize("kills", [False, True])
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 12))])
async def test_nothing_is_in_two_hands_while_clients_and_nodes_come_and_go(
    order: str, seed: int, kills: bool
) -> None:
    async with sites(3, order=order, prefetch=3) as (nodes, here):
        storm = Storm(nodes, here, seed)
        await storm.run(100, kills=kills)
        await storm.finish()
        assert storm.faults == []
        jobs = Counter(job for client in storm.clients for job in client.jobs)
        assert sorted(jobs) == list(range(storm.sent))
        assert [job for job, times in jobs.items() if times > 1 and job not in storm.doubtful] == [], "each once"
        assert kills or len(storm.doubtful) < storm.sent / 2
        assert (await here[0].info()).acknowledged == storm.sent
