"""The contract between nodes: owners of consumers, what is told of queues, and what a dead node had in hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.storage.backends import ignore
from tests.storage.followers import ENGINES, HOSTED, Cluster, Node, QueueNews, cluster, settled
from tests.support.postgres_nodes import PostgresEngine
from tests.support.waiting import until_async
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Attempt, ConsumerRow, DeadLetterFilter, Due, MessageRow, NewMessageRow


@dataclass
class Three:
    """Three nodes that follow queues."""

    many: Cluster
    nodes: list[Node]
    news: list[QueueNews]
    queues: list[StoredQueue]

    async def put(self, node: int, *ids: str, delay_s: float = 0) -> None:
        messages = [NewMessageRow(one, b"record", delay_s=delay_s) for one in ids]
        await self.queues[node].enqueue(messages, deduplicate_s=60, on_commit=ignore)

    async def noted(self, node: int, holds: int) -> None:
        """Wait until so many notes of what is held have come to the engine; from a node that is killed then."""
        engine = self.many.engine
        if isinstance(engine, PostgresEngine):
            await until_async(engine.holds, lambda found: found == holds, "the notes are written")
        else:
            await self.queues[node].info()

    async def unsettled(self, node: int = 2) -> list[MessageRow]:
        return await self.queues[node].fetch("c", after=0, max_messages=99, max_bytes=9999)


@pytest.fixture(params=ENGINES)
async def three(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Three]:
    async with cluster(request.param, tmp_path) as many:
        nodes = [await many.add(name) for name in "abc"]
        news = [QueueNews() for _ in nodes]
        for node, one in zip(nodes, news, strict=True):
            node.nodes.follow_queues(one)
        await nodes[0].store.queue("q").add_consumer("c")
        yield Three(many, nodes, news, [node.store.queue("q") for node in nodes])


async def test_the_first_one_that_claims_a_consumer_owns_it(three: Three) -> None:
    assert await three.nodes[0].nodes.claim_consumer("q", "c") == "a"
    owners = await asyncio.gather(*(node.nodes.claim_consumer("q", "c") for node in three.nodes))
    assert owners == ["a", "a", "a"]
    assert len(set(await asyncio.gather(*(node.nodes.claim_consumer("q", "new") for node in three.nodes)))) == 1
    assert await three.nodes[1].nodes.claim_consumer("q", "other") == "b"
    await three.nodes[1].nodes.release_consumer("q", "c")
    assert await three.nodes[2].nodes.claim_consumer("q", "c") == "a", "only the owner releases"
    await three.nodes[0].nodes.release_consumer("q", "c")
    await settled(lambda: all(one.free == [("q", "c")] for one in three.news), "all are told that it is free")
    assert await three.nodes[2].nodes.claim_consumer("q", "c") == "c"


Outcome = Callable[[StoredQueue, int], Awaitable[ConsumerRow]]
OUTCOMES: dict[str, Outcome] = {
    "settle": lambda queue, epoch: queue.settle("c", epoch, [1]),
    "retry": lambda queue, epoch: queue.retry("c", epoch, [Attempt(1, 1, 0, "rejected", "no", 5.0, 6.0)]),
    "bury": lambda queue, epoch: queue.bury("c", epoch, [Attempt(1, 1, 0, "rejected", "no", 5.0)]),
}


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)
async def test_outcomes_count_from_the_owner_only(three: Three, outcome: Outcome) -> None:
    await three.put(0, "m")
    assert await three.nodes[1].nodes.claim_consumer("q", "c") == "b"
    before = await three.queues[2].consumer("c")
    assert await outcome(three.queues[0], before.epoch) == before
    assert await three.queues[2].consumer("c") == before
    assert (await three.unsettled())[0].failures == 0
    after = await outcome(three.queues[1], before.epoch)
    assert (after.waiting, after.retrying) != (before.waiting, before.retrying)


async def test_a_late_ack_counts_as_long_as_nobody_else_owns_the_consumer(three: Three) -> None:
    await three.put(0, "m", "n")
    for node in three.nodes[:1]:
        await node.nodes.claim_consumer("q", "c")
    epoch = (await three.queues[0].consumer("c")).epoch
    releasing = asyncio.ensure_future(three.nodes[0].nodes.release_consumer("q", "c"))
    await three.queues[0].settle("c", epoch, [1])
    await releasing
    assert await three.nodes[1].nodes.claim_consumer("q", "c") == "b"
    await three.queues[0].settle("c", epoch, [2])
    assert [one.id for one in await three.unsettled()] == ["n"]


async def test_a_consumer_is_free_when_what_its_owner_asked_for_has_ended(three: Three) -> None:
    await three.put(0, *(str(number) for number in range(50)))
    for node in three.nodes[:2]:
        await node.nodes.claim_consumer("q", "c")
    epoch = (await three.queues[0].consumer("c")).epoch
    acks = [asyncio.ensure_future(three.queues[0].settle("c", epoch, [at])) for at in range(1, 51)]
    await asyncio.sleep(0)
    releasing = asyncio.ensure_future(three.nodes[0].nodes.release_consumer("q", "c"))
    await settled(lambda: three.news[1].free == [("q", "c")], "it is free")
    assert await three.unsettled(1) == []
    await asyncio.gather(releasing, *acks)


async def test_owners_learn_of_messages_that_others_add(three: Three) -> None:
    await three.nodes[1].nodes.claim_consumer("q", "c")
    await three.nodes[1].nodes.claim_consumer("q", "d")
    await three.nodes[2].nodes.claim_consumer("other", "c")
    await three.put(0, "x", "y")
    await three.put(1, "own")
    await settled(lambda: bool(three.news[1].arrivals), "the owner is told")
    await three.queues[2].info()
    assert three.news[1].arrivals == [("q", ["x", "y"], [1, 2])]
    assert three.news[0].arrivals == three.news[2].arrivals == []


async def test_what_falls_due_is_told_to_all(three: Three) -> None:
    await three.put(0, "later", delay_s=5)
    assert (await three.nodes[1].store.release_due()).queues == frozenset()
    three.many.clock.now += 6
    due = await three.nodes[1].store.release_due()
    assert due.queues == {"q"}
    await settled(lambda: three.news[0].due == three.news[2].due == [due], "the others are told")
    assert three.news[1].due == [], "the one that asked has its answer"
    assert [one.id for one in await three.unsettled()] == ["later"]


@pytest.mark.parametrize(
    "three", HOSTED, indirect=True
)  # with a test's clock PostgreSQL has no upkeep: see postgres/test_coming_back.py
async def test_what_falls_due_does_not_need_the_node_that_added_it(three: Three) -> None:
    await three.put(0, "later", delay_s=0.05)
    three.nodes[0].kill()
    three.many.clock.now += 1
    await settled(lambda: bool(three.news[1].due and three.news[2].due), "the host has asked")
    assert three.news[1].due == [Due(frozenset({"q"}), None)]
    assert [one.id for one in await three.unsettled()] == ["later"]


@pytest.mark.parametrize(
    "three", HOSTED, indirect=True
)  # with a test's clock PostgreSQL has no upkeep: see postgres/test_coming_back.py
async def test_a_dead_letter_that_is_redriven_later_does_not_need_the_node_that_asked(three: Three) -> None:
    await three.put(0, "m")
    epoch = (await three.queues[0].consumer("c")).epoch
    await three.queues[0].bury("c", epoch, [Attempt(1, 1, 0, "rejected", "no", 5.0)])
    clock = three.many.clock
    await three.queues[0].redrive(DeadLetterFilter(), after=0, max_letters=9, spacing_s=0, first_at=clock.now + 0.05)
    three.nodes[0].kill()
    clock.now += 1
    await settled(lambda: bool(three.news[1].due), "the host has asked")
    assert [one.id for one in await three.unsettled()] == ["m"]


async def test_the_death_of_an_owner_frees_its_consumers(three: Three) -> None:
    for node in three.nodes[:2]:
        assert await node.nodes.claim_consumer("q", "c") == "a"
        assert await node.nodes.claim_consumer("q", "d") == "a"
    three.nodes[0].kill()
    await settled(lambda: sorted(three.news[1].free) == [("q", "c"), ("q", "d")], "they are free")
    assert await three.nodes[2].nodes.claim_consumer("q", "c") == "c"


@pytest.mark.parametrize("ends", ["killed", "closed"])
async def test_what_a_dead_node_held_has_lost_a_delivery(three: Three, ends: str) -> None:
    await three.put(0, "held", "other", "settled")
    for node in three.nodes[:2]:
        await node.nodes.claim_consumer("q", "c")
    # The function runs at another node than the owner's.
    three.queues[1].hold("c", "worker 1", 1)
    three.queues[1].hold("c", "worker 2", 3)
    three.queues[2].hold("c", "worker 1", 2)
    await three.noted(1, 3)
    epoch = (await three.queues[0].consumer("c")).epoch
    await three.queues[0].settle("c", epoch, [3])
    if ends == "killed":
        three.nodes[1].kill()
    else:
        await three.nodes[1].store.close()
    await settled(lambda: "b" not in three.nodes[0].nodes.others, "b is gone")
    died = 1 if ends == "killed" else 0

    async def counted() -> list[tuple[str, int, int]]:
        return [(one.id, one.losses, one.deaths) for one in await three.unsettled()]

    async with asyncio.timeout(60):
        while await counted() != [("held", died, died), ("other", 0, 0)]:
            await asyncio.sleep(0.001)


async def test_the_owner_that_dies_with_a_message_in_hand_is_blamed_before_the_next_begins(three: Three) -> None:
    await three.put(0, "held")
    for node in three.nodes[:2]:
        await node.nodes.claim_consumer("q", "c")
    three.queues[0].hold("c", "worker", 1)
    await three.noted(0, 1)
    three.nodes[0].kill()
    await settled(lambda: three.news[1].free == [("q", "c")], "it is free")
    assert [(one.losses, one.deaths) for one in await three.unsettled(1)] == [(1, 1)]


async def test_a_consumer_that_any_node_serves_does_not_expire(three: Three) -> None:
    for name in ("owned", "attached", "idle"):
        await three.queues[0].add_consumer(name)
    for node in (three.nodes[1], three.nodes[0]):
        assert await node.nodes.claim_consumer("q", "owned") == "b"
    stores = [node.store for node in three.nodes]
    assert await stores[2].expire_consumers(10, [("q", "attached")]) == []
    three.many.clock.now += 20
    expired = await stores[0].expire_consumers(10, [("q", "c")])
    assert [one.consumer for one in expired] == ["idle"]
    assert await stores[1].expire_consumers(10, []) == []
    three.nodes[1].kill()
    three.nodes[2].kill()
    await settled(lambda: not three.nodes[0].nodes.others, "they are gone")
    await settled(lambda: ("q", "owned") in three.news[0].free, "it is free")
    assert {one.consumer for one in await stores[0].expire_consumers(10, [])} == {"c", "owned", "attached"}
