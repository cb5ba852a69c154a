"""Another program that changes queues beside a running server, which heeds it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from math import inf
from pathlib import Path

import pytest

import waypost
from tests.server.model_client import running
from tests.server.queues.client import QUEUE, Site
from tests.support.waiting import until
from waypost.protocol.socketio import encode_event
from waypost.server.queues.options import encode_settings
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import FromPosition, NewMessageRow
from waypost.storage.sqlite.visitor import SqliteVisitor


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(waypost.Server(store=str(tmp_path / "store.db"), drain_s=0), {})
    async with running(site.io):
        yield site


@pytest.fixture
async def visited(site: Site, tmp_path: Path) -> AsyncIterator[StoredQueue]:
    visitor = SqliteVisitor(tmp_path / "store.db")
    await visitor.open()
    yield visitor.queue(QUEUE)
    await visitor.close()


async def test_what_another_program_configures_holds_at_once(site: Site, visited: StoredQueue) -> None:
    client = await site.client()
    await site.put(1, 2)
    await client.gets(1)
    await visited.configure(None, encode_settings({"max_failures": 1}))
    await until(lambda: site.queue.options.max_failures == 1, "the options are read anew")
    client.reply(1, '[{"nack": "broken"}]')
    await client.gets(2)
    client.reply(2)
    await site.settled()
    assert [letter.args for letter in await site.queue.dead_letters()] == [[1]]
    await visited.configure(None, encode_settings({}))
    await until(lambda: site.queue.options == waypost.QueueOptions(), "the server's options hold again")


async def test_nothing_that_another_program_purged_is_delivered(site: Site, visited: StoredQueue) -> None:
    client = await site.client()
    await site.put(*range(10))
    await client.gets(1)
    assert await visited.purge(upto=8) == 8
    await client.gets(2)
    client.reply(8)
    client.reply(0)
    assert await client.gets(3) == [0, 8, 9]
    assert site.io.state().counters.unexpected_acks == 1
    client.reply(9)
    await site.settled()


async def test_consumers_that_another_program_moves_or_pauses(site: Site, visited: StoredQueue) -> None:
    client = await site.client(auto_ack=True)
    await site.queue.get_consumer("keeper").create()
    await site.put(*range(4))
    await client.gets(4)
    await site.settled()
    await visited.pause("default", until=inf)
    await visited.seek("default", FromPosition(3))
    runner = site.io._hub.deliveries.runner(QUEUE, "default")
    assert runner is not None
    await until(lambda: runner.row.waiting == 2, "it is moved")
    assert len(client.jobs) == 4
    await visited.pause("default", until=time.time())
    assert await client.gets(6) == [0, 1, 2, 3, 2, 3]


@pytest.mark.parametrize("settings", [b'{"max_failures": -1}', b'{"lease_s": "long"}', b'["no settings"]', b"\xff{"])
async def test_options_that_can_not_be_used_are_logged_and_the_queue_goes_on(
    site: Site, visited: StoredQueue, settings: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client = await site.client(auto_ack=True)
    await site.queue.configure(max_failures=3)
    await visited.configure(None, settings)
    await until(lambda: "can't be used" in caplog.text, "it is logged")
    assert site.queue.options.max_failures == 3
    await site.put(1)
    await client.gets(1)
    await visited.enqueue([NewMessageRow("m", _record(2))], deduplicate_s=0, on_commit=lambda _: None)
    await until(lambda: client.jobs == [1, 2], "what others do is heeded on")


async def test_no_ack_counts_for_a_queue_made_anew(site: Site, visited: StoredQueue) -> None:
    client = await site.client()
    await site.put(1)
    await client.gets(1)
    runner = site.io._hub.deliveries.runner(QUEUE, "default")
    assert runner is not None
    before = runner.row
    # Nothing of this reaches the server: as if the ack below were on its way already.
    site.io._hub.deliveries.due.stop()
    await visited.delete()
    await visited.add_consumer("default")
    await visited.enqueue([NewMessageRow("m", _record(2))], deduplicate_s=0, on_commit=lambda _: None)
    client.reply(1)
    await until(lambda: runner.row.generation != before.generation, "the server sees that it is another one")
    assert await client.gets(2) == [1, 2]
    assert (await site.info()).waiting == 1
    client.reply(2)
    await site.settled()


def _record(job: int) -> bytes:
    return encode_event("/", "job", [job]).to_record()
