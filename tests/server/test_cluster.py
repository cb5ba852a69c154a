"""Several servers that ask and tell each other: three in one process, one that is frozen, and one that dies."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

import waypost
from tests.server.model_client import ModelClient, hub_of, running, until
from tests.support.nodes import Nodes, servers
from waypost.server.basics.targets import EVERYONE
from waypost.server.cluster.asking import Asking
from waypost.server.cluster.seam import FetchSockets, Found
from waypost.server.namespaces.channel import Channel


def prepare(io: waypost.Server) -> None:
    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: dict[str, str]) -> None:
        socket.data["here"] = True
        await socket.join(auth.get("token", "room"))


class Cluster:
    """Three servers, with a client each.

    Attributes:
        nodes: The host of their store.
        servers: The servers.
        clients: A client of each.
    """

    def __init__(self, nodes: Nodes, servers: Sequence[waypost.Server]) -> None:
        self.nodes = nodes
        self.servers = servers
        self.clients = [ModelClient(server) for server in servers]

    @property
    def sids(self) -> list[str]:
        return [client.sid or "" for client in self.clients]

    def freeze(self, name: str) -> None:
        """Let a server get nothing of the others for now."""
        self.nodes.links[name].pause()


@pytest.fixture(params=["journal", "no journal"])
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    options = {"recovery": None} if request.param == "no journal" else {}
    async with servers(3, prepare=prepare, drain_s=0.0, **options) as (nodes, ios):
        cluster = Cluster(nodes, ios)
        for client in cluster.clients:
            await client.connect()
        yield cluster
        for link in nodes.links.values():
            link.resume()


async def all_got(cluster: Cluster, *events: list[Any]) -> None:
    """Wait until all clients have got these events, and no others."""
    for client in cluster.clients:
        assert await client.wait_for(len(events)) == list(events)


def asking(server: waypost.Server) -> Asking:
    others = hub_of(server).services.others
    assert isinstance(others, Asking)
    return others


def pending(server: waypost.Server) -> int:
    return sum(len(member.out.acks) for member in hub_of(server).directory.core("/").index)


# -- what no journal carries --------------------------------------------------------------------------------


async def test_an_emit_without_a_journal_reaches_the_clients_of_all_servers(cluster: Cluster) -> None:
    one, two, three = cluster.servers
    await one.emit("a", b"bytes", {"deep": [1]})
    await two.to("room").emit("b")
    await three.volatile.emit("c")
    await one.to("another room").emit("d")
    first = cluster.clients[0]
    await until(lambda: len(first.events) == 3)
    assert [event[0] for event in first.events] == ["a", "b", "c"]
    for client in cluster.clients[1:]:
        await client.wait_for(3)
        assert client.events == first.events


async def test_all_clients_get_emits_of_all_servers_in_one_order(cluster: Cluster) -> None:
    async def emit(number: int) -> None:
        server = cluster.servers[number % 3]
        await (server.volatile if number % 5 == 4 else server).emit("event", number)

    for start in range(0, 60, 20):
        await asyncio.gather(*(emit(number) for number in range(start, start + 20)))
    stored = {number for number in range(60) if number % 5 != 4}
    await until(lambda: all(stored <= {number for _, number in client.events} for client in cluster.clients))
    # A volatile one is left out for a client that is not ready; but no client has it in another place.
    for client in cluster.clients:
        for other in cluster.clients:
            both = [event for event in other.events if event in client.events]
            assert both == [event for event in client.events if event in other.events]


def _note(events: list[tuple[str, int]], _: waypost.Socket, event: str, number: int) -> None:
    events.append((event, number))


async def test_one_order_for_all_holds_among_stored_and_volatile_events_without_waiting(cluster: Cluster) -> None:
    seen: list[list[tuple[str, int]]] = [[], [], []]
    for server, events in zip(cluster.servers, seen, strict=True):
        server.on_any_outgoing(partial(_note, events))

    async def mixture(server: waypost.Server, first: int) -> None:
        calls = []
        for number in range(first, first + 30):
            operator = server.volatile if number % 3 else server
            calls.append(operator.emit("volatile" if number % 3 else "stored", number))
        await asyncio.gather(*calls)

    await asyncio.gather(*(mixture(server, 100 * index) for index, server in enumerate(cluster.servers)))
    await until(lambda: all(len([one for one in events if one[0] == "stored"]) == 30 for events in seen))
    for events in seen:
        for other in seen:
            assert [one for one in events if one in other] == [one for one in other if one in events]
        for first in (0, 100, 200):
            mine = [number for _, number in events if first <= number < first + 30]
            assert mine == sorted(mine)


async def test_calls_that_nobody_awaited_keep_their_order_at_all_servers(cluster: Cluster) -> None:
    [io, *_] = cluster.servers
    calls = [
        io.volatile.emit("a"),
        io.emit("b"),
        io.in_("room").sockets_join("other"),
        io.to("other").emit("c"),
        io.in_("other").sockets_leave("room"),
        io.to("room").emit("nobody is there"),
        io.emit("d"),
        io.disconnect_sockets(),
        io.emit("too late"),
    ]
    await asyncio.gather(*calls)
    await until(lambda: all(client.disconnected_by_server for client in cluster.clients))
    await all_got(cluster, ["a"], ["b"], ["c"], ["d"])


async def test_a_socket_of_another_server_is_reached_by_its_id(cluster: Cluster) -> None:
    one, two, _ = cluster.servers
    await two.to(cluster.sids[0]).emit("you")
    await one.except_(cluster.sids[0]).emit("not you")
    assert await cluster.clients[0].wait_for(1) == [["you"]]
    assert await cluster.clients[1].wait_for(1) == [["not you"]]


async def test_a_socket_broadcasts_to_the_clients_of_all_servers_but_itself(cluster: Cluster) -> None:
    for server in cluster.servers:

        @server.event
        async def say(socket: waypost.Socket, text: str) -> None:
            await socket.broadcast.emit("said", text)
            await socket.to("room").emit("said to room", text)
            await socket.emit("thanks")

    cluster.clients[1].send('2["say","hello"]')
    assert await cluster.clients[1].wait_for(1) == [["thanks"]]
    for client in (cluster.clients[0], cluster.clients[2]):
        assert await client.wait_for(2) == [["said", "hello"], ["said to room", "hello"]]


async def test_a_join_of_a_socket_counts_for_the_emits_after_it(cluster: Cluster) -> None:
    io = cluster.servers[0]

    @io.event
    async def move(socket: waypost.Socket) -> None:
        before = asyncio.ensure_future(io.to("room").emit("before"))
        await asyncio.sleep(0)
        await socket.leave("room")
        await asyncio.gather(before, io.to("room").emit("after"))

    cluster.clients[0].send('2["move"]')
    assert await cluster.clients[1].wait_for(2) == [["before"], ["after"]]
    assert await cluster.clients[0].wait_for(1) == [["before"]]


async def test_a_server_that_is_stuck_misses_volatile_events_and_is_not_cut_off_for_them(cluster: Cluster) -> None:
    cluster.freeze("n1")
    large = "x" * 1_000_000
    for _ in range(80):  # more than may wait for a node
        await cluster.servers[0].to("nobody is there").volatile.emit("large", large)
    assert "n1" in cluster.nodes.host.nodes
    cluster.nodes.links["n1"].resume()
    await cluster.servers[0].emit("next")
    await all_got(cluster, ["next"])


async def test_what_is_local_concerns_the_sockets_of_one_server(cluster: Cluster) -> None:
    io = cluster.servers[1]
    await io.local.emit("a")
    await io.local.volatile.emit("b")
    await io.local.sockets_join("mine")
    await cluster.servers[0].to("mine").emit("c")
    assert list((await io.local.call("d")).answers) == [cluster.sids[1]]
    assert [socket.id for socket in await io.local.fetch_sockets()] == [cluster.sids[1]]
    await io.local.disconnect_sockets()
    assert await cluster.clients[1].wait_for(4) == [["a"], ["b"], ["c"], ["d"]]
    await cluster.servers[0].emit("e")
    assert await cluster.clients[0].wait_for(1) == await cluster.clients[2].wait_for(1) == [["e"]]


async def test_an_emit_of_a_server_that_is_cut_off_ends(cluster: Cluster) -> None:
    emits = [
        asyncio.ensure_future(operator.emit("nobody hears it"))
        for operator in (cluster.servers[0].volatile, cluster.servers[0].of("/x"))
    ]
    await asyncio.sleep(0)
    cluster.nodes.kill("n0")
    for emit in emits:
        with pytest.raises(waypost.StorageError):
            await emit


# -- fetch_sockets ------------------------------------------------------------------------------------------


async def test_sockets_of_all_servers_are_fetched(cluster: Cluster) -> None:
    io = cluster.servers[0]
    fetched = await io.in_("room").fetch_sockets()
    found = {(socket.id, socket.server) for socket in fetched}
    assert found == set(zip(cluster.sids, ("", "n1", "n2"), strict=True))
    assert not fetched.is_partial
    [remote] = [socket for socket in fetched if socket.server == "n1"]
    assert remote.data == {"here": True}
    assert remote.rooms == {"room", cluster.sids[1]}
    assert remote.handshake == cluster.clients[1].handshake
    assert await remote.call("question") is None
    await remote.emit("for you")
    await remote.join("x")
    assert {socket.id for socket in await io.in_("x").fetch_sockets()} == {remote.id}
    await remote.disconnect()
    await until(lambda: cluster.clients[1].disconnected_by_server)
    assert cluster.clients[1].events == [["question"], ["for you"]]
    assert cluster.clients[0].connected


async def test_a_fetch_sees_the_joins_that_were_called_before(cluster: Cluster) -> None:
    io = cluster.servers[2]
    for number in range(20):
        join = asyncio.ensure_future(io.sockets_join(f"room{number}"))
        await asyncio.sleep(0)
        assert len(await io.in_(f"room{number}").fetch_sockets()) == 3
        await join


async def test_many_sockets_come_in_pages(cluster: Cluster) -> None:
    there = cluster.servers[1]
    more = [ModelClient(there) for _ in range(450)]
    for client in more:
        client.open()
    await until(lambda: all(client.connected for client in more))
    question = asking(cluster.servers[0]).ask(["/"], FetchSockets(EVERYONE), 5)
    pages = [len(reply.value.sockets) async for reply in question if isinstance(reply.value, Found)]
    assert sorted(pages) == [1, 51, 200, 200]
    fetched = await cluster.servers[0].fetch_sockets()
    assert len({socket.id for socket in fetched}) == 453
    answering = hub_of(there)._neighbours._answering
    assert answering is not None
    assert not answering._pages


async def test_data_that_cannot_be_sent_is_left_out(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    [member] = hub_of(cluster.servers[1]).directory.core("/").index
    member.data["lock"] = object()
    assert isinstance(member, Channel)
    member.handshake = replace(member.handshake, from_middleware={"session": object()})
    fetched = await cluster.servers[0].fetch_sockets()
    assert [socket.data for socket in fetched if socket.server == "n1"] == [{}]
    assert "can't be sent to other servers" in caplog.text


async def test_a_server_that_does_not_answer_in_time_is_named(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waypost.server.emitting.remote_socket.ANSWER_TIMEOUT_S", 0.05)
    cluster.freeze("n1")
    fetched = await cluster.servers[0].fetch_sockets()
    assert fetched.missing_servers == ("n1",)
    assert fetched.is_partial
    assert {socket.id for socket in fetched} == {cluster.sids[0], cluster.sids[2]}
    assert not asking(cluster.servers[0])._asked


async def test_a_server_that_dies_is_not_waited_for(cluster: Cluster) -> None:
    cluster.freeze("n1")
    fetch = asyncio.ensure_future(cluster.servers[0].fetch_sockets())
    await asyncio.sleep(0)
    cluster.nodes.kill("n1")
    async with asyncio.timeout(3):  # less than a server has to answer
        assert (await fetch).missing_servers == ("n1",)
    assert not (await cluster.servers[0].fetch_sockets()).is_partial


# -- acks ---------------------------------------------------------------------------------------------------


async def test_a_broadcast_with_acks_counts_the_clients_of_all_servers(cluster: Cluster) -> None:
    one, two, three = cluster.clients
    three.auto_ack = False
    call = cluster.servers[0].timeout(0.1).call("question")
    seen = [sid async for sid, _ in call]
    answers = call.so_far()
    assert sorted(seen) == sorted(answers.answers) == sorted(filter(None, (one.sid, two.sid)))
    assert answers.missing == (three.sid,)
    assert answers.missing_servers == ()
    assert not answers.is_complete
    await until(lambda: pending(cluster.servers[2]) == 0)


async def test_answers_of_other_servers_come_one_by_one(cluster: Cluster) -> None:
    for client in cluster.clients:
        client.auto_ack = False
    call = cluster.servers[0].call("question")
    answers = call.__aiter__()
    first = asyncio.ensure_future(anext(answers))
    await until(lambda: all(client.to_acknowledge for client in cluster.clients))
    for client, server in zip(cluster.clients[::-1], "cba", strict=True):
        [(ack_id, _)] = client.to_acknowledge
        client.acknowledge(ack_id, f'["{server}"]')
        assert await first == (client.sid, server)
        first = asyncio.ensure_future(anext(answers))
    with pytest.raises(StopAsyncIteration):
        await first
    assert call.so_far().is_complete


async def test_clients_that_leave_or_whose_server_dies_are_not_waited_for(cluster: Cluster) -> None:
    for client in cluster.clients[1:]:
        client.auto_ack = False
    call = cluster.servers[0].timeout(60).call("question")
    gathered = asyncio.ensure_future(_answers(call))
    await until(lambda: all(client.to_acknowledge for client in cluster.clients[1:]))
    await until(lambda: len(call.so_far().missing) == 2)
    cluster.nodes.kill("n1")
    cluster.clients[2].send("1")
    answers = await gathered
    assert list(answers.answers) == [cluster.sids[0]]
    assert set(answers.left) == set(cluster.sids[1:])
    assert answers.missing == answers.missing_servers == ()


async def test_a_server_that_dies_before_it_has_asked_anybody_is_named(cluster: Cluster) -> None:
    cluster.freeze("n1")
    gathered = asyncio.ensure_future(_answers(cluster.servers[0].timeout(60).call("question")))
    await asyncio.sleep(0)
    cluster.nodes.kill("n1")
    answers = await gathered
    assert answers.missing_servers == ("n1",)
    assert set(answers.answers) == {cluster.sids[0], cluster.sids[2]}


async def test_a_call_that_is_cancelled_ends_everywhere(cluster: Cluster) -> None:
    for client in cluster.clients:
        client.auto_ack = False
    gathered = asyncio.ensure_future(_answers(cluster.servers[0].call("question")))
    await until(lambda: all(client.to_acknowledge for client in cluster.clients))
    gathered.cancel()
    await until(lambda: not any(pending(server) for server in cluster.servers))
    assert not asking(cluster.servers[0])._asked


async def test_a_server_that_has_asked_and_dies_is_answered_no_more(cluster: Cluster) -> None:
    for client in cluster.clients:
        client.auto_ack = False
    gathered = asyncio.ensure_future(_answers(cluster.servers[0].timeout(600).call("question")))
    await until(lambda: all(client.to_acknowledge for client in cluster.clients))
    cluster.nodes.kill("n0")
    await until(lambda: not any(pending(server) for server in cluster.servers[1:]))
    gathered.cancel()
    await asyncio.wait({gathered})


async def test_a_volatile_call_leaves_out_who_cannot_take_it_now(cluster: Cluster) -> None:
    cluster.clients[1].stop_reading()
    await cluster.servers[0].emit("is taken")
    await cluster.servers[0].emit("fills the line")
    answers = await cluster.servers[0].volatile.timeout(0.5).call("question")
    assert answers.missing == (cluster.sids[1],)
    cluster.clients[1].read_on()
    assert await cluster.clients[1].wait_for(2) == [["is taken"], ["fills the line"]]


async def test_an_event_with_acks_keeps_its_place_among_emits(cluster: Cluster) -> None:
    io = cluster.servers[0]
    first = asyncio.ensure_future(io.emit("a"))
    call = asyncio.ensure_future(_answers(io.call("b")))
    last = asyncio.ensure_future(io.emit("c"))
    assert (await call).is_complete
    await asyncio.gather(first, last)
    for client in cluster.clients[1:]:
        assert await client.wait_for(3) == [["a"], ["b"], ["c"]]


async def _answers(call: waypost.BroadcastCall) -> waypost.BroadcastAnswers:
    return await call


# -- server-side events -------------------------------------------------------------------------------------


async def test_server_side_events_reach_the_others_and_not_oneself(cluster: Cluster) -> None:
    received: list[str] = []
    for number, server in enumerate(cluster.servers):

        @server.on_server_side("news")
        async def news(text: str, number: int = number) -> str:
            received.append(f"{number}: {text}")
            return f"thanks from {number}"

    one, two, _ = cluster.servers
    answers = await one.server_side_call("news", "hello")
    assert answers.answers == {"n1": "thanks from 1", "n2": "thanks from 2"}
    assert answers.is_complete
    await two.server_side_emit("news", "back")
    await until(lambda: len(received) == 4)
    assert received == ["1: hello", "2: hello", "0: back", "2: back"]
    # A namespace's own, and nobody's.
    assert (await one.of("/x").server_side_call("news", "?")).missing == ("n1", "n2")


async def test_a_handler_that_fails_or_does_not_fit_is_no_answer(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    one, two, three = cluster.servers

    @two.on_server_side("fail")
    async def fail() -> None:
        raise ValueError("its own business")

    @three.on_server_side("fail")
    async def answer() -> object:
        return object()

    assert set((await one.server_side_call("fail")).missing) == {"n1", "n2"}
    assert "can't be sent" in caplog.text
    assert set((await one.server_side_call("fail", "too", "many")).missing) == {"n1", "n2"}

    @two.on_server_side("half")
    async def half(number: int) -> float:
        return number / 2

    answers = await one.server_side_call("half", 3)
    assert (answers.answers, answers.missing) == ({"n1": 1.5}, ("n2",))
    assert set((await one.server_side_call("half", "3")).missing) == {"n1", "n2"}
    with pytest.raises(waypost.EncodingFailed):
        await one.server_side_call("half", object())
    with pytest.raises(waypost.EncodingFailed):
        await one.server_side_emit("half", object())


# -- parents --------------------------------------------------------------------------------------------------


async def test_operators_of_a_parent_reach_children_that_only_other_servers_have(cluster: Cluster) -> None:
    parents = [server.of(re.compile("/tenant-.*")) for server in cluster.servers]
    clients = [ModelClient(cluster.servers[number], f"/tenant-{number}") for number in (1, 2)]
    for client in clients:
        await client.connect()
    parent = parents[0]
    await until(lambda: len(parent.children) == 2)
    await parent.emit("a")
    await parent.volatile.emit("b")
    await parent.sockets_join("room")
    await parent.to("room").emit("c")
    assert {socket.id for socket in await parent.fetch_sockets()} == {client.sid for client in clients}
    assert set((await parent.call("d")).answers) == {client.sid for client in clients}
    await parent.sockets_leave("room")
    await parent.to("room").emit("nobody is there")
    await parent.local.emit("nobody is here")
    await parent.emit("e")
    await parent.disconnect_sockets()
    await until(lambda: all(client.disconnected_by_server for client in clients))
    for client in clients:
        assert client.events == [["a"], ["b"], ["c"], ["d"], ["e"]]
    assert all(client.connected for client in cluster.clients)


# -- alone --------------------------------------------------------------------------------------------------


async def test_a_server_that_is_alone_waits_for_nobody() -> None:
    io = waypost.Server(drain_s=0.0)
    async with running(io):
        assert (await io.server_side_call("question")).answers == {}
        await io.server_side_emit("news")
        assert not (await io.fetch_sockets()).is_partial
        assert hub_of(io).services.bus is None


async def test_a_server_that_starts_again_has_its_others_again(cluster: Cluster) -> None:
    one, two, _ = cluster.servers
    await one.close()
    assert hub_of(one).services.bus is None
    async with running(one):
        client = ModelClient(one)
        await client.connect()
        await two.emit("hello")
        assert await client.wait_for(1) == [["hello"]]
        assert len(await one.fetch_sockets()) == 3


async def test_a_message_that_cannot_be_read_is_dropped(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    nodes = hub_of(cluster.servers[0]).services.store.nodes
    assert nodes is not None
    for topic in ("told", "ask", "answer"):
        for receiver in nodes.others:
            nodes.send(receiver, topic, b"\xc1 of another version")
    await cluster.servers[0].emit("next")
    await all_got(cluster, ["next"])
    assert caplog.text.count("can't be read") == 6


@pytest.mark.parametrize("name", ["connect", "connection", "new_namespace", "disconnect"])
async def test_reserved_names_are_refused(name: str) -> None:
    io = waypost.Server()
    with pytest.raises(waypost.EncodingFailed, match="reserved"):
        await io.server_side_emit(name)
    with pytest.raises(waypost.EncodingFailed, match="reserved"):
        await io.server_side_call(name)
    with pytest.raises(waypost.ConfigurationError, match="not reserved"):
        io.on_server_side(name, lambda: None)
    io.on_server_side("news", lambda: None)
    with pytest.raises(waypost.ConfigurationError, match="no second one"):
        io.on_server_side("news", lambda: None)
