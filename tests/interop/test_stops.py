"""SIGTERM while functions run: they finish and keep their acks, clients are served meanwhile, the process ends."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import waypost
from tests.support.server_process import ServerProcess
from tests.support.waiting import until, until_async

pytestmark = pytest.mark.asyncio

# Not by the tests' nursery: how a process of its own ends is what these tests are about.
_COMMAND = ("-X", "utf8", "-m", "waypost", "serve", "tests.interop.stop_app:io", "--port", "{port}")
_SOON_S = 12.0
"""A function of a minute keeps the process for far longer than this, if it keeps it."""


class Site:
    """A server that can be stopped, and what its functions have noted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.journal = folder / "journal"
        self.journal.touch()
        self.server = self._process({})

    def _process(self, options: dict[str, Any]) -> ServerProcess:
        options = {"drain_s": 0.1, **options}
        command = (*_COMMAND, "--store", str(self._folder / "store.db"))
        return ServerProcess(command, self._folder / "server.log", options)

    async def start(self, **options: Any) -> waypost.Client:
        """Start the server with options, and connect a client."""
        self.server = self._process(options)
        await self.server.start()
        client = waypost.Client(self.server.url, reconnection=False)
        await client.connect()
        return client

    async def begin(self, client: waypost.Client, queue: str, message: str, seconds: float) -> None:
        """Have a function begin with a message that takes some seconds."""
        await client.call("put", queue, message, str(self.journal), seconds)
        await self.notes(f"begun {message} attempt 1")

    def lines(self) -> list[str]:
        return self.journal.read_text().splitlines()

    async def notes(self, line: str) -> None:
        await until(lambda: line in self.lines(), f"{line!r} in {self.lines()}")

    def terminate(self) -> float:
        """Send SIGTERM; returns when."""
        os.kill(self.server.pid, signal.SIGTERM)
        return time.monotonic()

    async def stops(self) -> None:
        """Wait until the server waits for its functions."""
        await until(lambda: "stopping; waiting for the functions" in self.server.log(), "the server stops")

    async def ended(self) -> float:
        """Wait until the process has ended, as it should; returns when."""
        await until(lambda: not self.server.alive(), f"the process has ended: {self.server.log()}")
        assert self.server.exit_code == 0, self.server.log()
        return time.monotonic()

    async def waiting(self, client: waypost.Client, queue: str, count: int) -> None:
        await until_async(lambda: client.call("look", queue), lambda seen: seen == count, f"{count} in {queue}")


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    yield made
    await made.server.kill()
    made.server.check_log()


async def test_functions_finish_and_clients_are_served_meanwhile(site: Site) -> None:
    client = await site.start()
    await site.begin(client, "threads", "in a thread", 2)
    await site.begin(client, "tasks", "in a task", 2)
    site.terminate()
    await site.stops()
    # No more functions begin, and sockets get their messages.
    got: asyncio.Queue[str] = asyncio.Queue()

    @client.on("work")
    async def work(text: str, seconds: float) -> None:
        await got.put(text)

    assert await client.call("echo", 1) == 1
    newcomer = waypost.Client(site.server.url, reconnection=False)
    await newcomer.connect()
    await client.call("put", "threads", "later", str(site.journal), 0)
    await client.call("consume", "inbox")
    await newcomer.call("put", "inbox", "for a socket", "handed out", 0)
    assert await asyncio.wait_for(got.get(), 30) == "handed out"
    assert not [line for line in site.lines() if line.startswith("done")]
    await site.ended()
    assert sorted(site.lines()) == [
        "begun in a task attempt 1",
        "begun in a thread attempt 1",
        "done in a task attempt 1",
        "done in a thread attempt 1",
    ]
    client = await site.start()
    await site.notes("done later attempt 1")
    for queue in ("threads", "tasks", "inbox"):
        await site.waiting(client, queue, 0)
    assert len(site.lines()) == 6
    await client.disconnect()


async def test_a_function_that_takes_too_long_is_counted_and_keeps_no_process(site: Site) -> None:
    client = await site.start(stop_timeout_s=0.5)
    await site.begin(client, "threads", "endless", 60)
    await site.begin(client, "threads", "endless too", 60)
    await site.begin(client, "tasks", "cancelled", 60)
    await site.begin(client, "threads of the loop", "endless as well", 60)
    began = site.terminate()
    assert await site.ended() - began < _SOON_S
    assert "did not finish before the stop" in site.server.log()
    await site.start(stop_timeout_s=0)
    for message in ("endless", "endless too", "cancelled", "endless as well"):
        await site.notes(f"begun {message} attempt 2")


async def test_a_second_signal_waits_for_no_function(site: Site) -> None:
    client = await site.start(stop_timeout_s=60)
    await site.begin(client, "threads", "endless", 60)
    site.terminate()
    await site.stops()
    assert await client.call("echo", 1) == 1
    began = site.terminate()
    await until(lambda: not site.server.alive(), "the process has ended")
    assert time.monotonic() - began < _SOON_S
    assert site.server.exit_code == 128 + signal.SIGTERM
    await site.start(stop_timeout_s=0)
    await site.notes("begun endless attempt 2")


@pytest.mark.long
async def test_a_function_in_a_thread_that_takes_longer_than_handlers_keeps_its_ack(site: Site) -> None:
    client = await site.start()
    await site.begin(client, "threads", "long", 8)
    site.terminate()
    await site.ended()
    client = await site.start()
    await site.waiting(client, "threads", 0)
    assert site.lines() == ["begun long attempt 1", "done long attempt 1"]
    await client.disconnect()


async def test_a_slow_event_of_a_client_is_finished_too(site: Site) -> None:
    client = await site.start()
    answer = asyncio.create_task(client.call("slow_event", str(site.journal), 1.5))
    await site.notes("begun event")
    site.terminate()
    await site.ended()
    assert site.lines() == ["begun event", "done event"]
    with pytest.raises(waypost.WaypostError):
        await answer
