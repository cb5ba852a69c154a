"""Acks that come over a new connection before its CONNECT: they count if the session recovers, and cut nobody."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.server.model_client import HANDSHAKE
from tests.server.queues.client import Site, Worker, quiet, site
from waypost.errors import MalformedPacket
from waypost.protocol.revision import Revision4


def open_with(client: Worker, frames: list[str | bytes]) -> None:
    """Open a new connection, send frames over it, and only then CONNECT."""
    client.connection = client.hub.engine.open("websocket", HANDSHAKE, Revision4())
    for frame in frames:
        client.connection.receive(frame)
    client.connected = client.recovered = False
    client.reading = asyncio.get_running_loop().create_task(client._read(client.connection))
    client.send("0" + json.dumps({"pid": client.pid, "token": "default"}))


def binary_ack(ack_id: int, attachment: bytes) -> list[str | bytes]:
    return [f'461-{ack_id}[{{"_placeholder":true,"num":0}}]', attachment]


async def with_jobs_in_hand(here: Site, jobs: int) -> tuple[Worker, list[int]]:
    client = await here.client()
    await here.put(*range(jobs))
    await client.gets(jobs)
    await client.cut()
    return client, [ack_id for ack_id, _ in client.to_acknowledge]


async def test_binary_acks_before_connect_count_when_the_session_recovers() -> None:
    async with site(order="none") as here:
        client, ack_ids = await with_jobs_in_hand(here, 3)
        open_with(client, [*binary_ack(ack_ids[0], b"done"), f"43{ack_ids[1]}[]", *binary_ack(ack_ids[2], b"done")])
        await here.settled()
        assert client.recovered
        assert (await here.info()).acknowledged == 3
        assert client.jobs == [0, 1, 2]
        assert here.io.state().counters.unexpected_acks == 0


@pytest.mark.parametrize("attachments", [1, 10])
async def test_early_acks_that_are_too_large_are_counted_and_cut_nobody(attachments: int) -> None:
    async with site() as here:
        client, ack_ids = await with_jobs_in_hand(here, 1)
        places = ",".join(f'{{"_placeholder":true,"num":{number}}}' for number in range(attachments))
        parts = [b"x" * (90_000 // attachments)] * attachments
        open_with(client, [f"46{attachments}-{ack_ids[0]}[{places}]", *parts])
        assert client.connection is not None
        early = client.connection.receiver._early_acks  # type: ignore[attr-defined]
        assert not early._held
        await client.gets(2)
        assert client.connected
        assert here.io.state().counters.unexpected_acks == 1
        client.reply(0)
        await here.settled()


async def test_as_many_early_acks_count_as_a_client_may_have_in_hand() -> None:
    async with site(order="none", prefetch=50) as here:
        client, ack_ids = await with_jobs_in_hand(here, 50)
        open_with(client, [f"43{ack_id}[]" for ack_id in ack_ids])
        await here.settled()
        assert client.jobs == list(range(50))


async def test_early_acks_of_a_session_that_does_not_recover_are_ignored() -> None:
    async with site() as here:
        client, ack_ids = await with_jobs_in_hand(here, 1)
        client.pid = "another"
        open_with(client, [f"43{ack_ids[0]}[]"])
        await quiet()
        assert client.connected
        assert here.io.state().counters.unexpected_acks == 1
        assert (await here.info()).waiting == 1


async def test_a_binary_event_before_connect_ends_its_connection_still() -> None:
    async with site() as here:
        client = Worker(here.io)
        client.connection = client.hub.engine.open("websocket", HANDSHAKE, Revision4())
        with pytest.raises(MalformedPacket):
            client.connection.receive('451-["event",{"_placeholder":true,"num":0}]')
