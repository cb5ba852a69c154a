"""Questions between real workers: what they answer while one of them is stopped, stuck, or killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.waiting import until_async
from tests.workers.test_serving import Site, of_each

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    yield made
    await made.server.kill()


async def test_a_worker_that_is_stopped_is_named_and_one_that_is_killed_is_not_waited_for(site: Site) -> None:
    await site.server.start()
    (_, asking), (there, other) = (await of_each(site)).items()
    asked, may_answer = asyncio.Event(), asyncio.Event()

    @other.event
    async def question() -> None:
        asked.set()
        await may_answer.wait()

    asking.on("question", lambda: "yes")
    assert await asking.call("who") == [sorted([asking.id or "", other.id or ""]), 0]
    assert await asking.call("ask", 2) == [[asking.id], 1, 0, 0]
    may_answer.set()
    numbers = partial(asking.call, "numbers")
    await until_async(numbers, lambda told: told == [2, [1, 1], 2], "both workers have told their numbers")
    os.kill(there, signal.SIGSTOP)
    try:
        # It has 5 s to answer.
        assert await asking.call("who", timeout_s=50) == [[asking.id], 1]
        asked.clear()
        may_answer.clear()
        answers = asyncio.ensure_future(asking.call("ask", 60, timeout_s=70))
        await asyncio.sleep(0)
    finally:
        os.kill(there, signal.SIGCONT)
    await asked.wait()
    os.kill(there, signal.SIGKILL)
    # Its client has left, if the worker had told whom it asked before it died; otherwise nobody heard of that worker.
    # Nobody waits for the 60 s.
    assert await asyncio.wait_for(answers, 50) in ([[asking.id], 0, 1, 0], [[asking.id], 0, 0, 1])
    await until_async(numbers, lambda told: told[0] == 2, "its client has come back to another worker")
    may_answer.set()
    for client in (asking, other):
        await client.close()
