"""The first queue: what waits is delivered in order until it is acknowledged, whatever becomes of connections."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.server.model_client import DEADLINE_S, ModelClient, running, until


@pytest.fixture(params=["memory", "sqlite"])
def io(request: pytest.FixtureRequest, tmp_path: Path) -> waypost.Server:
    spec = "memory:" if request.param == "memory" else str(tmp_path / "store.db")
    server = waypost.Server(store=spec, drain_s=0.0)

    @server.on("connect")
    async def connect(socket: waypost.Socket, auth: dict[str, Any]) -> None:
        await socket.consume("jobs", consumer=auth.get("token", "default"))

    return server


def jobs(client: ModelClient) -> list[Any]:
    return [event[1] for event in client.events if event[0] == "job"]


async def settled(io: waypost.Server, consumer: str = "default") -> int:
    return (await io.queue("jobs").get_consumer(consumer).info()).offset


async def wait_until_settled(io: waypost.Server, position: int, consumer: str = "default") -> None:
    async with asyncio.timeout(DEADLINE_S):
        while await settled(io, consumer) < position:
            await asyncio.sleep(0)


async def test_what_waited_comes_first_then_live(io: waypost.Server) -> None:
    async with running(io):
        for number in range(100):
            await io.queue("jobs").emit("job", number)
        client = ModelClient(io)
        await client.connect()
        await client.wait_for(100)
        for number in range(100, 110):
            await io.queue("jobs").emit("job", number)
        await client.wait_for(110)
        assert jobs(client) == list(range(110))
        await wait_until_settled(io, 110)


async def test_next_message_waits_for_the_ack(io: waypost.Server) -> None:
    async with running(io):
        client = ModelClient(io)
        client.auto_ack = False
        await client.connect()
        await io.queue("jobs").emit("job", 1)
        await io.queue("jobs").emit("job", 2)
        await client.wait_for(1)
        assert await settled(io) == 0
        client.acknowledge(client.to_acknowledge[0][0])
        await client.wait_for(2)


async def test_lost_connection_redelivers_what_was_not_acknowledged(io: waypost.Server) -> None:
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        await io.queue("jobs").emit("job", 1)
        await client.wait_for(1)
        await wait_until_settled(io, 1)
        client.auto_ack = False
        await io.queue("jobs").emit("job", 2)
        await client.wait_for(2)
        await client.cut()
        client.auto_ack = True
        await client.connect()
        await client.wait_for(3)
        assert jobs(client) == [1, 2, 2]


async def test_stale_ack_of_an_earlier_connection_settles_nothing(io: waypost.Server) -> None:
    async with running(io):
        client = ModelClient(io)
        client.auto_ack = False
        await client.connect()
        await io.queue("jobs").emit("job", 1)
        await client.wait_for(1)
        await client.cut()
        await client.connect()
        await client.wait_for(2)
        (stale, _), (fresh, _) = client.to_acknowledge
        assert stale != fresh
        client.acknowledge(stale)
        assert await settled(io) == 0
        client.acknowledge(fresh)
        await wait_until_settled(io, 1)


async def test_newest_socket_of_a_consumer_is_served_and_the_older_steps_in_again(io: waypost.Server) -> None:
    async with running(io):
        older, newer = ModelClient(io), ModelClient(io)
        older.auto_ack = False
        await older.connect()
        await io.queue("jobs").emit("job", 1)
        await older.wait_for(1)
        await newer.connect()
        await newer.wait_for(1)
        older.auto_ack = True
        await newer.cut()
        await io.queue("jobs").emit("job", 2)
        await older.wait_for(2)
        assert (jobs(newer), jobs(older)) == ([1], [1, 2])


async def test_each_consumer_gets_everything(io: waypost.Server) -> None:
    async with running(io):
        one, two = ModelClient(io), ModelClient(io)
        await one.connect("phone")
        await two.connect("laptop")
        await io.queue("jobs").emit("job", 1)
        await one.wait_for(1)
        await two.wait_for(1)
        assert jobs(one) == jobs(two) == [1]


async def test_same_id_is_accepted_once(io: waypost.Server) -> None:
    async with running(io):
        assert await io.queue("jobs").emit("job", 1, id="p1") == waypost.Receipt("p1", 1, duplicate=False)
        assert await io.queue("jobs").emit("job", 1, id="p1") == waypost.Receipt("p1", 1, duplicate=True)
        client = ModelClient(io)
        await client.connect()
        await client.wait_for(1)


async def test_rejected_message_comes_again_and_blocks_those_behind_it(io: waypost.Server) -> None:
    async with running(io):
        client = ModelClient(io)
        client.auto_ack = False
        await client.connect()
        await io.queue("jobs").emit("job", 1)
        await io.queue("jobs").emit("job", 2)
        await client.wait_for(1)
        client.acknowledge(client.to_acknowledge[0][0], '[{"nack": "not now", "retry_in": 0}]')
        await client.wait_for(2)
        client.auto_ack = True
        client.acknowledge(client.to_acknowledge[1][0])
        await until(lambda: jobs(client) == [1, 1, 2])


async def test_binary_and_several_arguments_survive_the_queue(io: waypost.Server) -> None:
    async with running(io):
        await io.queue("jobs").emit("job", {"label": b"\x00\xff"}, "two", None)
        client = ModelClient(io)
        await client.connect()
        await client.wait_for(1)
        assert client.events == [["job", {"label": b"\x00\xff"}, "two", None]]


async def test_what_was_settled_does_not_come_again_after_a_restart(tmp_path: Path) -> None:
    spec = str(tmp_path / "store.db")
    got: list[Any] = []
    for lot in range(3):
        io = waypost.Server(store=spec, drain_s=0.0)

        @io.on("connect")
        async def connect(socket: waypost.Socket) -> None:
            await socket.consume("jobs")

        async with running(io):
            for number in range(5):
                await io.queue("jobs").emit("job", lot * 5 + number)
            client = ModelClient(io)
            await client.connect()
            await client.wait_for(5)
            got += jobs(client)
            await wait_until_settled(io, 5 * (lot + 1))
    assert got == list(range(15))
