"""A consumer whose sockets are on several nodes: one node owns it, and it changes hands without a double."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

import waypost
from tests.server.model_client import hub_of, until
from tests.server.queues.client import QUEUE, Site, Worker, quiet
from tests.support.nodes import Nodes, servers
from tests.support.waiting import DEADLINE_S
from waypost.server.queues.delivery import Attachment
from waypost.server.queues.runner import Runner
from waypost.server.queues.spread import owners, tenure
from waypost.server.queues.spread.branch import Branch
from waypost.server.queues.spread.letters import Owns
from waypost.server.queues.spread.remote_carrier import RemoteCarrier


@asynccontextmanager
async def sites(
    number: int,
    *,
    order: str = "strict",
    consume: dict[str, Any] | None = None,
    prepare: Callable[[waypost.Server], None] | None = None,
    server: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Nodes, Sequence[Site]]]:
    """Run some servers on one store, whose clients consume one queue; other arguments are the queue's options."""
    queues = waypost.QueueOptions(**{"first_backoff_s": 0.0, **options})
    made: list[Site] = []

    def make(io: waypost.Server) -> None:
        made.append(Site(io, {"order": order, "prefetch": queues.prefetch, **(consume or {})}))
        if prepare is not None:
            prepare(io)

    of_server = {"drain_s": 0.0, "stop_timeout_s": 1.0, **(server or {})}
    async with servers(number, prepare=make, queues=queues, **of_server) as (nodes, _):
        yield nodes, made


async def gets(client: Worker, jobs: list[Any]) -> None:
    """Wait until a client has been given these jobs, in any order, and no others."""
    await until(lambda: len(client.jobs) >= len(jobs))
    await settle()
    assert sorted(client.jobs) == sorted(jobs)


async def settle() -> None:
    """Let everything happen that is about to happen between the nodes."""
    for _ in range(20):
        await quiet()
        await asyncio.sleep(0.001)


async def arrived(sites: Sequence[Site], *clients: Worker) -> None:
    """Wait until the servers know that clients have got what they were sent; else it is sent again after a cut."""
    for client in clients:
        (site,) = [one for one in sites if client.sid in one.sockets and one.sockets[client.sid].connected]
        acks = site.socket_of(client)._channel.out.acks
        async with asyncio.timeout(DEADLINE_S):
            while acks.awaits_arrival:
                await asyncio.sleep(0.001)


async def move(client: Worker, site: Site, consumer: str = "default") -> None:
    """Let a client come back to its session at another server."""
    client.hub = hub_of(site.io)
    await client.connect(consumer)


def owner(sites: Sequence[Site], consumer: str = "default") -> Site:
    """Return the site that has the consumer's runner; there is one at most."""
    (found,) = [one for one in sites if hub_of(one.io).deliveries.runner(QUEUE, consumer) is not None]
    return found


def has_owner(sites: Sequence[Site]) -> bool:
    return any(hub_of(one.io).deliveries.runner(QUEUE, "default") is not None for one in sites)


async def all_settled(site: Site, count: int, consumer: str = "default") -> None:
    """Wait until a consumer has acknowledged so many messages, and all there are."""
    async with asyncio.timeout(DEADLINE_S):
        while (info := await site.info(consumer)).waiting or info.acknowledged < count:
            await asyncio.sleep(0.001)
    assert info.acknowledged == count


# -- one owner -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["none", "key"])
async def test_sockets_of_all_nodes_share_the_messages(order: str) -> None:
    async with sites(3, order=order, prefetch=2) as (_, here):
        clients = [await site.client() for site in here]
        for number in range(12):
            await here[number % 3].put(number, key=str(number))
        await until(lambda: all(len(client.jobs) == 2 for client in clients))
        await settle()
        assert sorted(job for client in clients for job in client.jobs) == list(range(6))
        assert len({id(owner(here))}) == 1
        for client in clients:
            client.auto_ack = True
            for job in list(client.jobs):
                client.reply(job)
        await all_settled(here[1], 12)
        assert sorted(job for client in clients for job in client.jobs) == list(range(12))


async def test_in_strict_order_the_newest_socket_of_all_nodes_gets_everything() -> None:
    async with sites(2) as (_, (first, second)):
        old = await first.client()
        await second.put(1, 2, 3)
        await old.gets(1)
        new = await second.client()
        await gets(new, [1])
        old.reply(1)
        await gets(new, [1, 2])
        new.reply(1)
        new.reply(2)
        await gets(new, [1, 2, 3])
        new.reply(3)
        await all_settled(first, 3)
        assert old.jobs == [1]


async def test_messages_of_one_key_wait_for_each_other_on_all_nodes() -> None:
    async with sites(2, order="key") as (_, here):
        clients = [await site.client() for site in here]
        for number in range(10):
            await here[number % 2].put(number, key="only")
        for number in range(10):
            await until(lambda: sum(len(client.jobs) for client in clients) > number)  # noqa: B023 - awaited here
            await settle()
            (holder,) = [client for client in clients if number in client.jobs]
            assert sum(len(client.jobs) for client in clients) == number + 1
            holder.reply(number)
        await all_settled(here[0], 10)


async def test_nacks_and_failures_of_another_node_count() -> None:
    async with sites(2, max_failures=2) as (_, (first, second)):
        # A socket that leaves again makes its node the owner.
        idle = await first.client()
        await idle.cut()
        died: list[Any] = []
        for site in (first, second):
            site.io.hooks.message_died(died.append)
        worker = await second.client()
        await first.put("bad", "good")
        for _ in range(2):
            await until(lambda: bool(worker.to_acknowledge))
            worker.reply("bad", '[{"nack": "no", "retry_in": 0}]')
        await until(lambda: "good" in worker.jobs)
        await settle()
        assert worker.jobs == ["bad", "bad", "good"]
        assert [one.reason for one in died] == ["no"], "the hook is told once"
        worker.reply("good")
        await settle()
        (letter,) = await second.queue.dead_letters()
        assert letter.args == ["bad"]


async def test_a_client_that_is_cut_off_goes_on_on_another_node_with_what_it_holds() -> None:
    async with sites(3, order="none", prefetch=3) as (_, here):
        stays = await here[0].client()
        await settle()
        await here[0].put("a", "b", "c")
        await gets(stays, ["a", "b", "c"])
        goes = await here[1].client()
        await here[0].put(1, 2, 3)
        await gets(goes, [1, 2, 3])
        goes.reply(1)
        await settle()
        held = list(goes.to_acknowledge)
        await arrived(here, goes)
        await goes.cut()
        await move(goes, here[2])
        assert goes.recovered
        await here[0].put(4, 5)
        await until(lambda: len(goes.jobs) > 3)
        await settle()
        assert sorted(goes.jobs) == [1, 2, 3, 4], "what it holds is not sent again, and counts for its credit"
        goes.to_acknowledge[:] = [*held, *goes.to_acknowledge[-1:]]
        goes.auto_ack = True
        for job in (2, 3, 4):
            goes.reply(job)
        for name in ("a", "b", "c"):
            stays.reply(name)
        stays.auto_ack = True
        await all_settled(here[1], 8)
        assert sorted(goes.jobs + stays.jobs, key=str) == [1, 2, 3, 4, 5, "a", "b", "c"]


@pytest.mark.parametrize("back", [0, 1])
async def test_a_client_goes_to_the_owner_and_back_with_what_it_holds(back: int) -> None:
    async with sites(2, order="none", prefetch=1) as (_, here):
        other = await here[0].client()
        await here[0].put("its own")
        await gets(other, ["its own"])
        client = await here[1].client()
        await here[0].put(1, 2)
        await gets(client, [1])
        await arrived(here, client)
        for site in (here[0], here[1], here[back]):
            await client.cut()
            await move(client, site)
            await settle()
            assert client.jobs == [1]
        client.reply(1)
        await gets(client, [1, 2])


# -- the owner changes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["strict", "key", "none"])
async def test_an_owner_that_dies_is_replaced_and_what_others_hold_stays_there(order: str) -> None:
    async with sites(3, order=order, prefetch=2) as (nodes, here):
        first = await here[0].client()
        one, two = await here[1].client(), await here[2].client()
        await settle()
        assert owner(here) is here[0]
        for job in range(8):
            await here[1].put(job, key=str(job))
        await until(lambda: len(first.jobs + one.jobs + two.jobs) == (1 if order == "strict" else 6))
        await settle()
        lost = set(first.jobs)
        held = list(one.jobs + two.jobs)
        nodes.kill("n0")
        first.vanish()
        await until(lambda: has_owner(here[1:]))
        await settle()
        assert all((one.jobs + two.jobs).count(job) == 1 for job in held), "what they hold is not sent again"
        for client in (one, two):
            client.auto_ack = True
            for _, arguments in list(client.to_acknowledge):
                client.reply(arguments[1])
        await all_settled(here[1], 8)
        jobs = one.jobs + two.jobs
        assert sorted(set(jobs) | lost) == list(range(8))
        assert len(jobs) == len(set(jobs)), "no message went out twice but for those of the dead node"


async def test_acks_count_that_come_while_there_is_no_owner() -> None:
    async with sites(3) as (nodes, here):
        await here[0].client()
        client = await here[1].client()
        await settle()
        await here[1].put(1, 2)
        await gets(client, [1])
        nodes.kill("n0")
        client.reply(1)
        await gets(client, [1, 2])
        client.reply(2)
        await all_settled(here[2], 2)


@pytest.mark.parametrize("target", [1, 2])
async def test_a_client_keeps_what_it_holds_if_the_owner_dies_while_it_changes_nodes(target: int) -> None:
    async with sites(3, order="none", prefetch=1) as (nodes, here):
        await here[0].client()
        client, other = await here[1].client(), await here[2].client()
        await settle()
        await here[1].put("a", "b", "c")
        await until(lambda: len(client.jobs) == len(other.jobs) == 1)
        await arrived(here, client)
        (mine,), (others,) = client.jobs, other.jobs
        other.reply(others)
        await settle()
        assert other.jobs == [others], "the rest is with the socket of the first node"
        await client.cut()
        nodes.kill("n0")
        await move(client, here[target])
        assert client.recovered
        await until(lambda: len(other.jobs) == 2)
        await settle()
        assert client.jobs == [mine]
        assert len({mine, *other.jobs}) == 3
        client.reply(mine)
        other.reply(other.jobs[-1])
        await all_settled(here[2], 3)


async def test_a_client_that_hops_on_before_its_node_has_what_it_holds_keeps_it() -> None:
    async with sites(3, order="none", prefetch=1) as (_, here):
        first = await here[0].client()
        client = await here[1].client()
        await settle()
        await here[1].put("a", "b")
        await until(lambda: len(client.jobs) == len(first.jobs) == 1)
        await arrived(here, client)
        (mine,) = client.jobs
        first.reply(first.jobs[0])
        for _ in range(5):
            for site in (here[2], here[1]):
                await client.cut()
                client.hub = hub_of(site.io)
                client.open()
                await asyncio.sleep(0)
        await client.cut()
        await move(client, here[2])
        assert client.recovered
        await settle()
        assert client.jobs == [mine]
        assert mine not in first.jobs
        client.reply(mine)
        await all_settled(here[0], 2)


@pytest.mark.parametrize("answers", ["before it is asked", "after it was asked"])
async def test_a_node_that_is_frozen_is_not_waited_for_and_goes_on_later(
    answers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenure, "_HANDS_S", 0.1)
    async with sites(3, order="none", prefetch=1) as (nodes, here):
        await here[0].client()
        alive, frozen = await here[1].client(), await here[2].client()
        await settle()
        await here[1].put("a", "b", "c")
        await until(lambda: len(alive.jobs) == len(frozen.jobs) == 1)
        nodes.links["n2"].pause()
        (held,) = frozen.jobs
        nodes.kill("n0")
        await until(lambda: has_owner(here[1:2]))
        async with asyncio.timeout(DEADLINE_S):
            # In the end it gets what the frozen node has, which nobody could ask.
            while held not in alive.jobs:
                if alive.to_acknowledge:
                    alive.reply(alive.to_acknowledge[0][1][1])
                await asyncio.sleep(0)
        nodes.links["n2"].resume()
        if answers == "after it was asked":
            await settle()
        frozen.reply(held)
        # The late ack takes the message from the other socket.
        await settle()
        if alive.jobs[-1] != held:
            alive.reply(alive.jobs[-1])
        await all_settled(here[1], 3)
        jobs = alive.jobs + frozen.jobs
        await here[1].put("d", "e")
        await until(lambda: len(alive.jobs + frozen.jobs) == len(jobs) + 2)
        assert frozen.jobs[-1] in ("d", "e"), "both sockets go on"


@pytest.mark.parametrize("order", ["strict", "key", "none"])
async def test_an_owner_that_stops_hands_over_and_nothing_doubles(order: str) -> None:
    async with sites(3, order=order, prefetch=2, consume={"prefetch": 2}) as (_, here):
        clients = [await site.client() for site in here]
        await settle()
        assert owner(here) is here[0]
        for job in range(9):
            await here[1].put(job, key=str(job))
        await until(lambda: sum(len(one.jobs) for one in clients) == (1 if order == "strict" else 6))
        await arrived(here, *(client for client in clients if client.jobs))
        await here[0].io.close()
        await until(lambda: has_owner(here[1:]))
        if order != "strict":
            # Where it would be the newest socket, it would get what another one has.
            await move(clients[0], here[2])
            assert clients[0].recovered
        await settle()
        jobs = [job for one in clients for job in one.jobs]
        assert len(jobs) == len(set(jobs))
        for client in clients:
            client.auto_ack = True
            for _, arguments in list(client.to_acknowledge):
                client.reply(arguments[1])
        await all_settled(here[1], 9)
        jobs = [job for one in clients for job in one.jobs]
        assert sorted(jobs) == list(range(9)), "each once"


async def test_what_only_clients_of_a_stopping_owner_hold_is_not_sent_twice() -> None:
    async with sites(2) as (_, here):
        client = await here[0].client()
        await here[1].put(1, 2)
        await gets(client, [1])
        await arrived(here, client)
        await here[0].io.close()
        await move(client, here[1])
        assert client.recovered
        await settle()
        assert client.jobs == [1]
        client.reply(1)
        await gets(client, [1, 2])
        client.reply(2)
        await all_settled(here[1], 2)


async def test_a_node_that_is_not_the_owner_stops_and_nothing_doubles() -> None:
    async with sites(2, order="none", prefetch=1) as (_, here):
        other = await here[0].client()
        await here[0].put("its own")
        await gets(other, ["its own"])
        client = await here[1].client()
        await here[0].put(1, 2)
        await gets(client, [1])
        await arrived(here, client)
        await here[1].io.close()
        await move(client, here[0])
        await settle()
        assert client.jobs == [1]
        client.reply(1)
        await gets(client, [1, 2])


# -- leases and losses ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def guest(**options: Any) -> AsyncIterator[tuple[Site, Site, Worker]]:
    """Run two servers; the first one owns the consumer, and its only client is at the second one."""
    async with sites(2, **options) as (_, (first, second)):
        idle = await first.client()
        await idle.cut()
        client = await second.client()
        await settle()
        assert hub_of(first.io).deliveries.serving(QUEUE)
        yield first, second, client


async def test_a_node_remembers_nothing_of_a_consumer_that_another_one_owns() -> None:
    async with guest() as (first, second, _):
        of_first, of_second = (hub_of(site.io).deliveries._owners for site in (first, second))
        assert of_first is not None
        assert of_second is not None
        assert list(of_first._tenures) == [(QUEUE, "default")]
        await until(lambda: not of_second._tenures)


async def test_a_lease_ends_on_another_node_and_a_late_ack_counts() -> None:
    async with guest(lease_s=0.1) as (first, second, client):
        await first.put(1)
        await until(lambda: client.jobs == [1, 1])
        ack_id, _ = client.to_acknowledge[0]
        client.acknowledge(ack_id)
        await all_settled(second, 1)
        assert (await first.info()).redelivered >= 1


async def test_a_client_of_another_node_whose_lease_ended_while_it_was_away_gets_messages_again() -> None:
    async with sites(2, order="none", prefetch=1, lease_s=0.1) as (_, (first, second)):
        keeper = await first.client(auto_ack=True)
        client = await second.client()
        for number in range(2):
            await first.put(number)
        await until(lambda: bool(client.jobs))
        await arrived([second], client)
        await client.cut()
        await all_settled(first, 2)
        client.auto_ack = True
        before = len(client.jobs)
        await client.connect("default")
        for number in range(2, 12):
            await first.put(number)
        await all_settled(first, 12)
        assert len(client.jobs) > before
        assert len(keeper.jobs) > 2


async def test_what_does_not_fit_into_a_connection_of_another_node_waits_for_room() -> None:
    async with guest(order="none", server={"max_buffered_bytes": 100_000}) as (first, second, client):
        client.stop_reading()
        client.auto_ack = True
        await first.put(*(f"{number:06}" + "x" * 20_000 for number in range(40)))
        await settle()
        assert client.connected
        assert second.socket_of(client)._channel.out.buffered_bytes <= 100_000
        client.read_on()
        await all_settled(first, 40)


async def test_a_client_that_comes_back_while_the_owner_takes_back_what_it_holds_gets_messages_again() -> None:
    async with sites(2, order="none", prefetch=1) as (nodes, (first, second)):
        keeper = await first.client()
        await first.put(0)
        await gets(keeper, [0])
        client = await second.client()
        await first.put(1)
        await gets(client, [1])
        await arrived([second], client)
        await client.cut()
        await settle()
        (runner,) = hub_of(first.io).deliveries.serving(QUEUE)
        assert isinstance(runner, Runner)
        (away,) = [one for one in runner.takers if one.is_away]
        nodes.links["n0"].pause()
        # As when its lease ends; the other node is not told yet.
        runner.detach(away, to_blame=True)
        await client.connect("default")
        await settle()
        nodes.links["n0"].resume()
        await settle()
        client.reply(1)
        await first.put(2)
        await until(lambda: 2 in client.jobs)
        client.reply(2)
        keeper.reply(0)
        await all_settled(first, 3)


async def away_at(site: Site) -> Attachment:
    """Wait until a client of another node is away at the owner of the consumer; return its attachment there."""
    (runner,) = hub_of(site.io).deliveries.serving(QUEUE)
    assert isinstance(runner, Runner)
    await until(lambda: any(one.is_away for one in runner.takers))
    (away,) = [one for one in runner.takers if one.is_away]
    return away


async def opens_at(client: Worker, site: Site) -> None:
    """Let a client come to another server, up to its request for messages."""
    client.hub = hub_of(site.io)
    client.open()

    def has_asked() -> bool:
        branch = client.hub.deliveries.find(QUEUE, "default")
        return isinstance(branch, Branch) and bool(branch.takers)

    await until(has_asked)


async def test_a_client_that_goes_to_a_third_node_as_the_owner_takes_back_what_it_holds_gets_messages_again() -> None:
    async with sites(3, order="none", prefetch=1) as (nodes, here):
        keeper = await here[0].client()
        await here[0].put(0)
        await gets(keeper, [0])
        client = await here[1].client()
        await here[0].put(1)
        await gets(client, [1])
        await arrived(here, client)
        await client.cut()
        away = await away_at(here[0])
        nodes.freeze("n0")
        await opens_at(client, here[2])
        nodes.freeze("n2")
        nodes.thaw("n0")
        await until(lambda: isinstance(away.carrier, RemoteCarrier) and away.carrier.node == "n2")
        (runner,) = hub_of(here[0].io).deliveries.serving(QUEUE)
        assert isinstance(runner, Runner)
        # As when its lease ends; the third node is not told yet.
        runner.detach(away, to_blame=True)
        nodes.thaw("n2")
        await until(lambda: client.connected)
        assert client.recovered
        await settle()
        client.reply(1)
        await here[0].put(2)
        await until(lambda: 2 in client.jobs)
        client.reply(2)
        keeper.reply(0)
        await all_settled(here[0], 3)


async def test_a_client_that_asks_an_owner_that_dies_gets_what_it_holds_from_the_next_owner() -> None:
    async with sites(3, order="none", prefetch=1) as (nodes, here):
        await here[0].client()
        client, other = await here[1].client(), await here[1].client()
        await settle()
        await here[1].put("a", "b", "c")
        await until(lambda: len(client.jobs) == len(other.jobs) == 1)
        await arrived(here, client)
        (mine,) = client.jobs
        await client.cut()
        await away_at(here[0])
        nodes.freeze("n0")
        await opens_at(client, here[2])
        # The node where it holds the message is the first one to hear of the death.
        nodes.freeze("n2")
        nodes.kill("n0")
        heir = hub_of(here[1].io).deliveries._owners
        assert heir is not None
        await until(lambda: heir.owns((QUEUE, "default")))
        nodes.thaw("n2")
        await until(lambda: client.connected)
        assert client.recovered
        await settle()
        assert client.jobs == [mine]
        client.reply(mine)
        await until(lambda: len(client.jobs) == 2)
        client.reply(client.jobs[-1])
        other.reply(other.jobs[0])
        await all_settled(here[1], 3)


async def test_what_waits_for_room_is_not_sent_twice_after_the_owner_has_died() -> None:
    async with sites(2, order="none", server={"max_buffered_bytes": 100_000}) as (nodes, (first, second)):
        idle = await first.client()
        await idle.cut()
        client = await second.client(auto_ack=True)
        client.stop_reading()
        jobs = [f"{number:06}" + "x" * 20_000 for number in range(20)]
        await second.put(*jobs)
        await settle()
        nodes.kill("n0")
        await until(lambda: has_owner([second]))
        await settle()
        client.read_on()
        await all_settled(second, 20)
        assert sorted(client.jobs) == jobs, "each once"


def end_leases(site: Site) -> None:
    """End the leases of all that the owner of the consumer has handed out, as when their time is over."""
    (runner,) = hub_of(site.io).deliveries.serving(QUEUE)
    assert isinstance(runner, Runner)
    for delivery in list(runner._flight._out.values()):
        runner._lease_ended(delivery)


async def test_an_answer_to_what_the_owner_before_took_back_settles_nothing_else() -> None:
    """Each owner numbers what it hands out, so that numbers of the one before mean other messages."""
    async with sites(3, order="none", prefetch=1, first_backoff_s=600.0) as (nodes, here):
        await here[0].client()
        one, two = await here[1].client(), await here[2].client()
        await settle()
        await here[1].put("a", "b", "c")
        await until(lambda: len(one.jobs) == len(two.jobs) == 1)
        end_leases(here[0])
        await settle()
        nodes.kill("n0")
        await until(lambda: has_owner(here[1:]))
        # That of the node which does not own the consumer now.
        client = one if owner(here[1:]) is here[2] else two
        (late,) = client.jobs
        await here[1].put("d", "e")
        await until(lambda: len(one.jobs) == len(two.jobs) == 2)
        client.reply(late)
        await settle()
        info = await here[1].info()
        assert (info.acknowledged, info.in_flight) == (1, 2)
        for each in (one, two):
            each.reply(each.jobs[-1])
        await settle()
        assert (await here[1].info()).acknowledged == 3


async def test_a_late_ack_of_a_socket_that_has_left_the_consumer_counts_at_the_next_owner() -> None:
    async with sites(2, order="none", prefetch=1, first_backoff_s=600.0) as (_, (first, second)):
        client = await first.client()
        await first.put(1)
        await gets(client, [1])
        await second.client()
        end_leases(first)
        await settle()
        first.socket_of(client).stop_consuming(QUEUE)
        await settle()
        hub_of(first.io).deliveries.stop()
        await until(lambda: has_owner([second]))
        client.reply(1)
        await all_settled(second, 1)


async def test_what_was_on_the_way_when_a_socket_stopped_to_consume_goes_to_another_one() -> None:
    async with sites(2, order="none") as (nodes, (first, second)):
        idle = await first.client()
        await idle.cut()
        client = await second.client()
        await settle()
        nodes.freeze("n1")
        await first.put(1)
        second.socket_of(client).stop_consuming(QUEUE)
        await until(lambda: not has_takers(first))
        nodes.thaw("n1")
        await settle()
        assert client.jobs == []
        other = await first.client()
        await gets(other, [1])
        assert client.jobs == []


def has_takers(site: Site) -> bool:
    return any(runner.attached for runner in hub_of(site.io).deliveries.serving(QUEUE))


async def test_who_has_stopped_to_consume_gets_nothing_from_the_next_owner() -> None:
    async with sites(2, order="none", prefetch=2) as (nodes, (first, second)):
        idle = await first.client()
        await idle.cut()
        client = await second.client()
        await first.put(1)
        await gets(client, [1])
        second.socket_of(client).stop_consuming(QUEUE)
        await settle()
        nodes.kill("n0")
        await until(lambda: has_owner([second]))
        await second.put(2)
        await settle()
        client.reply(1)
        await settle()
        assert client.jobs == [1]
        assert (await second.info()).acknowledged == 1


async def test_a_seek_voids_the_acks_of_a_client_of_another_node() -> None:
    async with guest(order="none") as (first, second, client):
        await first.put(1)
        await gets(client, [1])
        await first.queue.get_consumer().seek("oldest")
        await until(lambda: client.jobs == [1, 1])
        await settle()
        (old, _), _ = client.to_acknowledge
        assert len(second.socket_of(client)._channel.out.acks) == 1, "only the newest one is waited for"
        client.acknowledge(old)
        await settle()
        assert second.io.state().counters.unexpected_acks == 1
        assert (await first.info()).waiting == 1
        client.reply(1)
        await all_settled(first, 1)


async def test_signs_of_life_and_extensions_renew_a_lease_on_another_node() -> None:
    async with guest(lease_s=0.4, max_lease_s=60.0) as (first, second, client):
        await first.put(1)
        await gets(client, [1])
        channel = second.socket_of(client)._channel
        for _ in range(15):
            await asyncio.sleep(0.05)
            # As an answered heartbeat does.
            hub_of(second.io).deliveries.heartbeat_answered(channel)
        assert client.jobs == [1]
        assert second.socket_of(client).extend_lease(QUEUE, seconds=60.0) == 1
        await asyncio.sleep(0.7)
        assert client.jobs == [1]
        client.reply(1)
        await all_settled(first, 1)


async def test_an_ack_that_was_lost_holds_a_message_for_one_lease_after_a_return_to_another_node() -> None:
    async with sites(3, lease_s=0.4) as (_, here):
        first, second, third = here
        idle = await first.client(consumer="default")
        client = await second.client()
        await second.put(1)
        await gets(client, [1])
        assert owner(here) is first
        await arrived([second], client)
        # It acknowledges over a dead line, and can't do it again.
        await client.cut()
        await idle.cut()
        await move(client, third)
        client.to_acknowledge.clear()
        await settle()
        client.auto_ack = True
        deliveries, channel = hub_of(third.io).deliveries, third.socket_of(client)._channel
        async with asyncio.timeout(DEADLINE_S):
            while client.jobs == [1]:
                deliveries.heartbeat_answered(channel)
                await asyncio.sleep(0.01)
        await all_settled(third, 1)
        assert client.jobs == [1, 1]


async def test_a_silent_socket_on_another_node_gets_nothing_until_it_gives_a_sign() -> None:
    async with guest(lease_s=0.2) as (first, second, client):
        await first.put(1)
        await gets(client, [1])
        await arrived([second], client)
        client.stop_reading()
        channel = second.socket_of(client)._channel
        deliveries = hub_of(second.io).deliveries
        deliveries.heartbeat_sent(channel)
        (runner,) = hub_of(first.io).deliveries.serving(QUEUE)
        await until(lambda: any(one.is_silent for one in runner.takers))
        await settle()
        client.read_on()
        await settle()
        assert client.jobs == [1]
        deliveries.heartbeat_answered(channel)
        await until(lambda: len(client.jobs) == 2)
        assert (await first.info()).redelivered == 1


async def test_a_function_on_another_node_extends_its_lease() -> None:
    started: list[int] = []

    def prepare(io: waypost.Server) -> None:
        @io.consumer(QUEUE, consumer="functions", order="none")
        def work(message: waypost.Message, job: int) -> None:
            started.append(job)
            message.extend(60.0)
            time.sleep(0.4)

    async with sites(2, max_lease_s=0.1, prepare=prepare) as (_, (first, second)):
        assert owner((first, second), "functions") is first
        # One for the function of each node.
        await first.put(1, 2)
        await all_settled(second, 2, "functions")
        assert sorted(started) == [1, 2]


async def test_what_limits_took_away_is_told_on_another_node() -> None:
    async with guest(max_messages=2, overflow="drop_oldest") as (first, second, client):
        await first.put(*range(5))
        await until(lambda: any(event[0] == "messages_lost" for event in client.events))
        async with asyncio.timeout(DEADLINE_S):
            while (await second.info()).lost:
                # More may be lost meanwhile, which is told anew.
                for ack_id, event in list(client.to_acknowledge):
                    if event[0] == "messages_lost":
                        client.to_acknowledge.remove((ack_id, event))
                        client.acknowledge(ack_id)
        told = [event[1] for event in client.events if event[0] == "messages_lost"]
        assert all(one["consumer"] == "default" for one in told)
        assert sum(one["messages"] for one in told) >= 3


# -- functions -----------------------------------------------------------------------------------------------------


async def test_functions_of_all_nodes_share_the_messages_and_one_goes_on_after_a_death() -> None:
    done: list[tuple[str, int]] = []
    names = iter("abc")

    def prepare(io: waypost.Server) -> None:
        name = next(names)

        @io.consumer(QUEUE, consumer="functions", concurrency=2)
        async def work(message: waypost.Message, job: int) -> None:
            await asyncio.sleep(0.001)
            done.append((name, job))

    async with sites(3, prepare=prepare) as (nodes, here):
        for job in range(30):
            await here[job % 3].put(job)
        await until(lambda: len(done) == 30)
        assert sorted(job for _, job in done) == list(range(30))
        assert {name for name, _ in done} == {"a", "b", "c"}
        nodes.kill("n0")
        for job in range(30, 40):
            await here[1].put(job)
        await until(lambda: len({job for _, job in done}) == 40)


async def test_a_message_whose_function_died_with_its_node_counts_that() -> None:
    started: list[str] = []
    names = iter("ab")

    def prepare(io: waypost.Server) -> None:
        name = next(names)

        @io.consumer(QUEUE, consumer="functions", max_losses=1)
        async def work(message: waypost.Message) -> None:
            started.append(name)
            await asyncio.sleep(3600.0)

    async with sites(2, order="none", prepare=prepare) as (nodes, here):
        await here[0].put("fatal")
        await until(lambda: bool(started))
        # A note of what is in hand is written a little later.
        await asyncio.sleep(0.2)
        victim = "ab".index(started[0])
        nodes.kill(f"n{victim}")
        alive = here[1 - victim]
        async with asyncio.timeout(DEADLINE_S):
            while not (letters := await alive.queue.dead_letters()):
                await asyncio.sleep(0.01)
        assert [one.lost_deliveries for one in letters] == [1]
        assert len(started) == 1


@pytest.mark.parametrize("stopping", [0, 1])
async def test_what_a_stopping_node_s_function_has_not_finished_goes_to_another_one(stopping: int) -> None:
    started: list[tuple[int, int]] = []
    ios: list[waypost.Server] = []

    def prepare(io: waypost.Server) -> None:
        number = len(ios)
        ios.append(io)

        @io.consumer(QUEUE, consumer="functions", order="none")
        async def work(message: waypost.Message) -> None:
            started.append((number, message.attempt))
            if number == stopping:
                await asyncio.sleep(3600.0)

    async with sites(2, prepare=prepare) as (_, here):
        assert owner(here, "functions") is here[0]
        await here[0].put(1, 2)
        await until(lambda: len(started) == 2)
        await here[stopping].io.close()
        alive = here[1 - stopping]
        await all_settled(alive, 2, "functions")
        assert sorted(started) == sorted([(stopping, 1), (1 - stopping, 1), (1 - stopping, 2)])


# -- what one node does to a queue ----------------------------------------------------------------------------------


async def test_every_node_pauses_seeks_empties_configures_and_deletes() -> None:
    async with sites(2) as (_, (first, second)):
        client = await first.client()
        await settle()
        assert owner((first, second)) is first
        consumer = second.queue.get_consumer()
        await consumer.pause()
        await settle()
        await second.put(1, 2)
        await settle()
        assert client.jobs == []
        await consumer.resume()
        await gets(client, [1])
        client.reply(1)
        await gets(client, [1, 2])
        await second.queue.purge()
        await settle()
        client.reply(2)
        await second.put(3)
        await gets(client, [1, 2, 3])
        await consumer.seek("new")
        await settle()
        await second.put(4)
        await gets(client, [1, 2, 3, 4])
        await second.queue.configure(lease_s=7)
        await until(lambda: first.queue.options.lease_s == 7)
        await second.queue.delete()
        await settle()
        assert first.queue.options.lease_s == 30
        await second.put(5)
        await settle()
        assert client.jobs == [1, 2, 3, 4], "the deletion has detached it"


async def test_what_another_node_redrives_comes_and_what_it_cancels_does_not() -> None:
    async with guest() as (first, second, client):
        await first.put(1)
        await gets(client, [1])
        client.reply(1, '[{"nack": "no", "final": true}]')
        async with asyncio.timeout(DEADLINE_S):
            while not await second.queue.dead_letters():
                await asyncio.sleep(0.001)
        assert await second.queue.redrive() == 1
        await gets(client, [1, 1])
        client.reply(1)
        await first.put(2, id="later", delay_s=0.2)
        assert await second.queue.cancel("later")
        await second.put(3, delay_s=0.2)
        await until(lambda: len(client.jobs) > 2)
        assert client.jobs == [1, 1, 3]


async def test_an_owner_that_nothing_is_attached_to_gives_the_consumer_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "_LINGER_S", 0.02)
    async with sites(2) as (_, (first, second)):
        client = await first.client()
        await client.cut()
        nodes = hub_of(second.io).services.store.nodes
        assert nodes is not None
        async with asyncio.timeout(DEADLINE_S):
            while await nodes.claim_consumer(QUEUE, "default") != nodes.name:
                await asyncio.sleep(0.001)


async def test_every_node_knows_what_is_in_flight() -> None:
    async with sites(3, order="none", prefetch=2) as (_, here):
        one, two = await here[0].client(), await here[1].client()
        await here[2].put(*range(5))
        await until(lambda: len(one.jobs) == len(two.jobs) == 2)
        for site in here:
            info = await site.info()
            assert (info.in_flight, info.attached, info.waiting) == (4, 2, 5)
            assert (await site.queue.info()).in_flight == 4
            assert [one.in_flight for one in await site.queue.consumers()] == [4]
            assert [one.in_flight for one in await site.io.queue_infos()] == [4]


@pytest.mark.parametrize("order", ["strict", "key", "none"])
async def test_the_first_socket_to_come_chooses_the_order_whichever_node_owns_the_consumer(order: str) -> None:
    async with guest(order=order, prefetch=2) as (first, _, client):
        await first.put(1, 2, 3)
        await gets(client, [1] if order == "strict" else [1, 2])


async def test_another_order_is_refused_on_every_node() -> None:
    async with sites(2) as (_, (first, second)):
        await first.client()
        client = Worker(second.io)
        second.consume["order"] = "none"
        await client.connect("other")
        with pytest.raises(waypost.ConfigurationError, match="strict"):
            await second.socket_of(client).consume(QUEUE, order="none")
        # It was not attached: nothing is sent to it.
        await first.put(1)
        await settle()
        assert client.jobs == [1], "only as the other consumer"


# -- an owner that stands still --------------------------------------------------------------------------------------


def stand_still(nodes: Nodes, name: str) -> Callable[[], None]:
    """Let nothing pass between a node and the host, as if the node's loop stood still; returns what ends that."""
    link = nodes.links[name]
    assert link.other is not None
    sides = link, link.other
    for side in sides:
        side.pause()

    def go_on() -> None:
        for side in sides:
            side.resume()

    return go_on


@pytest.mark.parametrize("order", ["strict", "key", "none"])
@pytest.mark.parametrize("wakes", ["before the next one has asked", "later"])
async def test_an_owner_that_stands_still_is_replaced_and_goes_on_as_a_guest(
    order: str, wakes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenure, "_HANDS_S", 0.1 if wakes == "later" else DEADLINE_S)
    async with sites(2, order=order, prefetch=1) as (nodes, here):
        there, other = await here[0].client(), await here[1].client()
        await settle()
        assert owner(here) is here[0]
        for number in range(6):
            await here[1].put(number, key=str(number))
        await until(lambda: len(other.jobs) == 1)
        await settle()
        # In strict order only the newest one gets something, which is at the other node.
        (given,), held = other.jobs, list(there.jobs)
        go_on = stand_still(nodes, "n0")
        other.reply(given)
        await settle()
        nodes.host.free_consumers("n0")
        if wakes == "later":
            await until(lambda: hub_of(here[1].io).deliveries.runner(QUEUE, "default") is not None)
            await until(lambda: len(other.jobs) > 1)
            assert given not in other.jobs[1:], "its ack was on the way to the owner that stood still"
        # Nobody could ask for what is held there. In strict order the socket there is the newest one when it is back.
        may_double = {*held, *(other.jobs[-1:] if order == "strict" else ())} if wakes == "later" else set()
        go_on()
        await until(lambda: hub_of(here[0].io).deliveries.runner(QUEUE, "default") is None)
        async with asyncio.timeout(DEADLINE_S):
            while (await here[1].info()).waiting:
                for client in (there, other):
                    for _, arguments in list(client.to_acknowledge):
                        client.reply(arguments[1])
                await asyncio.sleep(0.001)
        await all_settled(here[1], 6)
        jobs = there.jobs + other.jobs
        assert {job for job in jobs if jobs.count(job) > 1} <= may_double
        # Both sockets go on, and the node may own the consumer again.
        await here[0].io.close()
        await here[1].put("last")
        await until(lambda: "last" in other.jobs)


async def test_an_owner_that_stands_still_goes_on_as_the_owner_if_nobody_else_wants_to() -> None:
    async with sites(2, order="none", prefetch=1) as (nodes, here):
        client = await here[0].client()
        await here[1].put(1, 2, 3)
        await client.gets(1)
        go_on = stand_still(nodes, "n0")
        nodes.host.free_consumers("n0")
        go_on()
        client.reply(1)
        await until(lambda: client.jobs == [1, 2])
        await until(lambda: has_owner(here[:1]))
        client.reply(2)
        await until(lambda: client.jobs == [1, 2, 3])
        client.reply(3)
        await all_settled(here[0], 3)


async def test_an_owner_without_takers_that_stands_still_owns_the_consumer_no_more() -> None:
    async with sites(2, order="none") as (nodes, here):
        client = await here[0].client()
        await settle()
        await client.cut()
        await here[0].io.disconnect_sockets()
        go_on = stand_still(nodes, "n0")
        nodes.host.free_consumers("n0")
        go_on()
        await settle()
        other = await here[1].client()
        assert owner(here) is here[1]
        await here[0].put(1)
        await gets(other, [1])


@pytest.mark.parametrize("hears_of", ["the loss", "the next owner"])
@pytest.mark.parametrize("order", ["strict", "key", "none"])
async def test_an_owner_that_lost_its_consumer_goes_on_as_a_guest_with_what_it_holds(
    order: str, hears_of: str
) -> None:
    async with sites(2, order=order, prefetch=2) as (nodes, here):
        first, second = await here[0].client(), await here[1].client()
        assert owner(here) is here[0]
        for number in range(6):
            await here[number % 2].put(number, key=str(number))
        await until(lambda: len(first.jobs) + len(second.jobs) >= (1 if order == "strict" else 4))
        await settle()
        # As the store does with a node that stands still.
        assert nodes.host._opening is not None
        if hears_of == "the loss":
            nodes.host._opening.queues._free(nodes.host._nodes["n0"], QUEUE, "default")
        else:
            del nodes.host._opening.queues._owners[QUEUE, "default"]
            hub_of(here[1].io).deliveries.freed(QUEUE, "default")
            await until(lambda: hub_of(here[0].io).deliveries.runner(QUEUE, "default") is None)
        await until(lambda: has_owner(here))
        await settle()
        for client in (first, second):
            client.auto_ack = True
            for _, arguments in list(client.to_acknowledge):
                client.reply(arguments[1])
        await all_settled(here[0], 6)
        assert sorted(first.jobs + second.jobs) == list(range(6)), "nothing came twice"


async def test_a_claim_of_long_ago_takes_nothing_from_the_owner() -> None:
    async with sites(2, order="none", prefetch=1) as (_, here):
        client = await here[0].client()
        await here[0].put(1, 2)
        await client.gets(1)
        runner = hub_of(here[0].io).deliveries.runner(QUEUE, "default")
        deliveries = hub_of(here[1].io).deliveries
        assert deliveries._owners is not None
        deliveries._owners.post.send("n0", (QUEUE, "default"), Owns())
        await settle()
        assert hub_of(here[0].io).deliveries.runner(QUEUE, "default") is runner
        client.auto_ack = True
        client.reply(1)
        await all_settled(here[0], 2)
        assert client.jobs == [1, 2]
