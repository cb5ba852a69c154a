"""How far a client got counts on all servers: heartbeats, replays, and events that it can't take."""

from __future__ import annotations

import asyncio

import pytest

import waypost
from tests.cluster.nodes import cluster
from tests.cluster.test_hopping import Diaries, hop, told
from tests.server.model_client import hub_of, only_channel, until
from waypost.server.recovery import stuck
from waypost.server.recovery.stuck import MOST_TRIES


async def test_a_heartbeat_proves_only_what_its_server_has_seen() -> None:
    async with cluster(2) as nodes:
        client = nodes.client(1)
        await client.connect()
        await nodes.servers[0].emit("news", 1)
        await client.wait_for(1)
        nodes.freeze(1)
        await nodes.servers[0].emit("news", 2)
        session = only_channel(nodes.servers[1]).session
        assert session is not None
        session.heartbeat_sent()
        session.heartbeat_answered()
        journal = hub_of(nodes.servers[0]).directory.core("/").feed.journal
        assert journal is not None
        while not (await journal.sessions(1))[0].proven:
            await asyncio.sleep(0)
        nodes.kill(1)
        await hop(nodes, client, 0)
        assert client.recovered
        assert await client.wait_for(2) == [["news", 1], ["news", 2]]


async def test_a_client_that_is_ahead_of_the_server_that_it_comes_to() -> None:
    async with cluster(2) as nodes:
        client = nodes.client(0)
        await client.connect()
        nodes.freeze(1)
        for number in range(3):
            await nodes.servers[0].emit("news", number)
        await client.wait_for(3)
        await client.cut()
        nodes.send_to(client, 1)
        client.open()
        for _ in range(50):
            await asyncio.sleep(0)
        nodes.thaw(1)
        await until(lambda: client.connected)
        assert client.recovered
        assert await client.wait_for(3) == [["news", 0], ["news", 1], ["news", 2]]


async def test_what_a_heartbeat_has_proven_is_not_replayed_by_another_server() -> None:
    async with cluster(2) as nodes:
        client = nodes.client(0)
        await client.connect()
        await nodes.servers[0].emit("news", 1)
        await client.wait_for(1)
        await nodes.servers[1].to("nobody").emit("news", 2)
        await nodes.servers[0].to("nobody").emit("news", 3)
        session = only_channel(nodes.servers[0]).session
        assert session is not None
        session.heartbeat_sent()
        session.heartbeat_answered()
        await hop(nodes, client, 1)
        await nodes.servers[1].emit("news", 4)
        assert await client.wait_for(2) == [["news", 1], ["news", 4]]
        journal = hub_of(nodes.servers[1]).directory.core("/").feed.journal
        assert journal is not None
        [stored] = await journal.sessions(10)
        assert stored.proven == 3


async def test_a_client_that_goes_on_in_the_middle_of_a_replay() -> None:
    async with cluster(3, max_buffered_bytes=8 << 10) as nodes:
        client = nodes.client(0)
        await client.connect()
        await client.cut()
        for number in range(60):
            await nodes.servers[number % 3].emit("news", number, "x" * 1000)
        for number in (1, 2, 0, 1):
            nodes.send_to(client, number)
            before = len(client.events)
            await client.connect()
            assert client.recovered
            if number:
                await until(lambda before=before: len(client.events) > before)  # type: ignore[misc]
                client.stop_reading()
                await asyncio.sleep(0)
                client.vanish()
                client.read_on()
            else:
                client.vanish()
        nodes.send_to(client, 0)
        await client.connect()
        events = await client.wait_for(60)
        assert [event[1] for event in events] == list(range(60))
        assert len(client.offsets) == len(set(client.offsets))


async def test_an_event_that_a_client_can_not_take_is_counted_over_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stuck, "_SHORTEST_S", 0.0)
    undeliverable: list[tuple[int, waypost.EventUndeliverable]] = []
    ended: list[tuple[int, str]] = []

    def make(number: int) -> waypost.Server:
        io = waypost.Server(drain_s=0.0)
        io.hooks.event_undeliverable(lambda one: undeliverable.append((number, one)))

        @io.on("session_expired")
        async def expired(session: waypost.EndedSession) -> None:
            ended.append((number, session.socket_id))

        return io

    async with cluster(2, make) as nodes:
        client = nodes.client(0)
        await client.connect()
        await client.cut()
        before = client.sid
        assert before
        await nodes.servers[0].emit("too large", "x" * 100)
        for times in range(MOST_TRIES):
            nodes.send_to(client, times % 2)
            client.is_deaf = True
            await client.connect()
            assert client.recovered
            channel = only_channel(nodes.servers[times % 2])
            await until(lambda: channel.out.first is not None and channel.out.first.seconds_out() is not None)  # noqa: B023
            if times < MOST_TRIES - 1:
                client.vanish()
        # This end is noticed at once. Otherwise it would be at the next attempt, which the server puts off then.
        await client.cut()
        client.is_deaf = False
        nodes.send_to(client, MOST_TRIES % 2)
        await client.connect()
        assert client.answer["reason"] == "undeliverable"
        assert client.sid != before
        await until(lambda: bool(ended))
        assert ended == [(MOST_TRIES % 2, before)]
        assert [(number, one.event) for number, one in undeliverable] == [(MOST_TRIES % 2, "too large")]


async def test_a_connect_handler_ends_before_the_client_connects_elsewhere() -> None:
    diaries = Diaries()
    entering = diaries.gate("connect")
    async with cluster(2, diaries.make) as nodes:
        client = nodes.client(0)
        entering.set()
        await client.connect()
        await client.cut()
        await until(lambda: (0, "disconnect.") in diaries.told)
        diaries.told.clear()
        entering.clear()
        client.open()
        await until(lambda: diaries.told == [(0, "connect")])
        client.vanish()
        nodes.send_to(client, 1)
        client.open()
        for _ in range(100):
            await asyncio.sleep(0)
        assert diaries.told == [(0, "connect")]
        entering.set()
        await until(lambda: client.connected)
        assert diaries.told == told((0, "connect"), (0, "disconnect"), (1, "connect"))


async def test_an_offset_that_was_made_up_ends_no_session_of_a_store_that_was_open_all_the_time() -> None:
    async with cluster(1) as nodes:
        liar, honest = nodes.client(0), nodes.client(0)
        for client in (liar, honest):
            await client.connect()
        await nodes.servers[0].emit("news", 1)
        await honest.wait_for(1)
        async with cluster(1, beside=nodes) as later:
            await liar.cut()
            liar.offset = "madeup.1000"
            later.send_to(liar, 0)
            await liar.connect()
            assert liar.answer["reason"] == "generation"
            await honest.cut()
            later.send_to(honest, 0)
            await honest.connect()
            assert honest.recovered
