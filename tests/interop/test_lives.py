"""What the application is told of an official client, over its cuts: one life after the other."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.interop.peer import MODES, Client, Peer
from tests.support.server_process import HEARTBEAT, WORKERS_VARIABLE, ServerProcess
from tests.support.waiting import DEADLINE_S

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

CUTS = 6
GRACE_S = 1.0


@pytest_asyncio.fixture(loop_scope="module")
async def site(peer: Peer, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """The server of lives_app.py, on disk."""
    workers = os.environ.get(WORKERS_VARIABLE, "1")
    command = ("-m", "waypost", "serve", "tests.interop.lives_app:io", "--port", "{port}", "--workers", workers)
    options = {"store": str(tmp_path / "store.db"), "drain_s": 0.2, "handler_grace_s": GRACE_S, **HEARTBEAT}
    server = ServerProcess(command, tmp_path / "server.log", options)
    await server.start()
    yield server
    await peer.leave_all()
    await server.stop()
    server.check_log()


async def told(control: Client, name: str) -> tuple[list[Any], bool]:
    """Return what the application was told of a client, and whether it takes it for online."""
    lines, is_online = await control.call("told", name)
    return lines, is_online


async def told_in_the_end(control: Client, name: str, last: Any) -> list[Any]:
    """Wait until the last thing that the application was told of a client is this; return all it was told."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        lines, _ = await told(control, name)
        if lines and lines[-1] == last:
            return lines
        assert time.monotonic() < deadline, lines
        await asyncio.sleep(0.05)


async def test_one_life_follows_the_other(peer: Peer, site: ServerProcess, mode: str) -> None:
    control = await peer.client(site.url, namespace="/control")
    client = await peer.client(site.url, transports=MODES[mode], auth={"name": "Ada"}, reconnectionDelay=1)
    number = 0
    for times in range(1, CUTS + 1):
        assert (await client.connected(times)).recovered is (times > 1)
        for _ in range(10):
            await client.emit("work", number)
            number += 1
        # The server has all of them, and is busy with the first.
        deadline = time.monotonic() + DEADLINE_S
        while number - 10 not in (await told(control, "Ada"))[0]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
        await client.cut("reset" if times % 2 else "close")
        await client.disconnected(times)
    await client.connected(CUTS + 1)
    await client.emit("work", number)
    lines = await told_in_the_end(control, "Ada", f"{number}.")
    # Each handler has ended before the next one began.
    assert [str(line) for line in lines[1::2]] == [f"{line}." for line in lines[::2]]
    handled = [int(line) for line in lines[::2] if isinstance(line, int)]
    assert handled == sorted(handled)
    assert handled[-1] == number
    moments = [line for line in lines[::2] if isinstance(line, str)]
    assert moments == ["connect", "disconnect"] * CUTS + ["connect"]
    assert (await told(control, "Ada"))[1], "it is online"


async def test_a_handler_that_never_returns(peer: Peer, site: ServerProcess) -> None:
    control = await peer.client(site.url, namespace="/control")
    client = await peer.client(site.url, transports=MODES["websocket"], auth={"name": "Ada"})
    await client.connected()
    await client.emit("hang")
    await client.gets("still here", 3)
    await client.away()
    await told_in_the_end(control, "Ada", "disconnect.")
    assert (await told(control, "Ada"))[1] is False
    await client.resume()
    assert (await client.connected(2)).recovered
    await client.emit("work", 7)
    lines = await told_in_the_end(control, "Ada", "7.")
    assert lines == ["connect", "connect.", "hang", "disconnect", "disconnect.", "connect", "connect.", 7, "7."]
    assert "the handler of 'hang' still runs" in site.log()
    # It writes on for its client, and no longer than that.
    before = len(client.received["still here"])
    await client.gets("still here", before + 3)
    await control.call("end_all")
    await client.wait_for(lambda: "io server disconnect" in client.disconnects, "its end")
    deadline = time.monotonic() + DEADLINE_S
    while "ended early" not in site.log():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_the_chat_of_the_docs_over_cuts(peer: Peer, site: ServerProcess, mode: str) -> None:
    client = await peer.client(
        site.url, transports=MODES[mode], namespace="/chat", auth={"name": "Ada"}, reconnectionDelay=1
    )
    for times in range(1, CUTS + 1):
        await client.connected(times)
        for number in range(10):
            await client.emit("say", f"{times}.{number}")
        await client.gets("said", len(client.received["said"]) + 1)
        await client.cut()
        await client.disconnected(times)
    await client.connected(CUTS + 1)
    await client.emit("say", "the end")
    await client.wait_for(lambda: ("Ada", "the end") in client.args_of("said"), "the end")
    said = [text for _, text in client.args_of("said")]
    assert said == sorted(said)
    # A KeyError would be a traceback in the log, which the fixture looks at.


async def test_a_client_sent_away_to_renew_its_token(peer: Peer, site: ServerProcess, mode: str) -> None:
    control = await peer.client(site.url, namespace="/control")
    client = await peer.client(site.url, transports=MODES[mode], auth={"name": "Ada"}, reconnectionDelay=1)
    await client.connected()
    await control.call("publish", 1)
    await client.gets("news")
    await client.emit("renew")
    assert await client.disconnected() == "io server disconnect"
    await control.call("publish", 2)
    await told_in_the_end(control, "Ada", "disconnect.")
    await asyncio.sleep(0.2)
    assert len(client.connects) == 1, "it stays away"
    await client.resume({"name": "Ada", "token": "new"})
    assert (await client.connected(2)).recovered
    await control.call("publish", 3)
    assert await client.gets("news", 3) == [(1,), (2,), (3,)]


async def test_the_session_of_a_client_that_is_away_is_ended(peer: Peer, site: ServerProcess) -> None:
    control = await peer.client(site.url, namespace="/control")
    client = await peer.client(site.url, transports=MODES["websocket"], auth={"name": "Ada"})
    before = await client.connected()
    await client.away()
    await control.call("end_all")
    await client.resume()
    after = await client.connected(2)
    assert not after.recovered
    assert after.id != before.id
