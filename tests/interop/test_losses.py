"""Messages live though nothing acknowledges them, as long as nothing failed: pages that are left, kills, lost lines.

And what no connection can carry does not block the others for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

import waypost
from tests.demo.test_page import CHROMIUM_ARGUMENTS
from tests.interop.peer import MODES, Client, Peer
from tests.server.model_client import running
from tests.support.link import Link
from tests.support.require import require_chromium
from tests.support.server_process import ServerProcess
from tests.support.waiting import DEADLINE_S

pytestmark = [pytest.mark.long, pytest.mark.node, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

PAGES = 20
KILLS = 22
LARGE_BYTES = 10_000_000
# Of each try of the large message so much arrives.
PASSED_BYTES = 1_000_000

# Its handler has the callback, and never calls it.
PAGE = """
([url, transports]) => new Promise((resolve, reject) => {
    const socket = io(url, { transports, auth: { inbox: "ann" } });
    socket.on("note", (text, padding, acknowledge) => {
        window.acknowledge = acknowledge;
        // Over polling its next poll is on its way when the page is left, as with a user who leaves.
        const isReady = () => transports.length === 1 || socket.io.engine.transport.name === "websocket";
        const look = () => setTimeout(() => isReady() ? resolve(text) : look(), 100);
        look();
    });
    socket.on("connect_error", reject);
})
"""


def make_server(folder: Path, **options: Any) -> ServerProcess:
    """Make a server with an inbox for each user, in a file."""
    arguments = ("-m", "waypost", "serve", "tests.interop.losing_app:io", "--port", "{port}", "--store")
    return ServerProcess((*arguments, str(folder / "store.db")), folder / "server.log", options)


@pytest_asyncio.fixture(loop_scope="module")
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    server = make_server(tmp_path)
    await server.start()
    yield server
    await server.stop()
    server.check_log()


@pytest_asyncio.fixture(loop_scope="module")
async def clerk(peer: Peer, server: ServerProcess) -> AsyncIterator[Client]:
    """A client that writes messages and looks what became of them."""
    client = await peer.client(server.url, transports=MODES["websocket"])
    await client.connected()
    yield client
    await peer.leave_all()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    chromium = require_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        yield browser
        await browser.close()


async def look(clerk: Client, user: str = "ann") -> dict[str, Any]:
    [seen] = await clerk.call("look", user)
    assert isinstance(seen, dict)
    return seen


async def looks_so(clerk: Client, condition: Callable[[dict[str, Any]], bool], user: str = "ann") -> dict[str, Any]:
    """Wait until a user's inbox is in some state."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition(seen := await look(clerk, user)):
            await asyncio.sleep(0.02)
    return seen


@pytest.mark.chromium
@pytest.mark.parametrize("mode", ["polling", "websocket", "upgrade"])
async def test_a_page_opened_twenty_times_and_left_before_its_ack_loses_nothing(
    mode: str, peer: Peer, server: ServerProcess, clerk: Client, browser: Browser
) -> None:
    await clerk.call("write", "ann", "first", 0)
    await clerk.call("write", "ann", "second", 0)
    page = await browser.new_page()
    for _ in range(PAGES):
        await page.goto(server.url)
        await page.add_script_tag(url=f"{server.url}/socket.io/socket.io.js")
        assert await page.evaluate(PAGE, [server.url, list(MODES[mode])]) == "first"
        await page.goto("about:blank")
        seen = await looks_so(clerk, lambda seen: seen["attached"] == 0 or seen["in_flight"] == 0 or seen["dead"])
        assert seen["dead"] == []
    await page.close()
    reader = await peer.client(server.url, transports=MODES["websocket"], auth={"inbox": "ann"}, rules={"*": "ack"})
    assert [text for text, _ in await reader.gets("note", 2)] == ["first", "second"]
    await looks_so(clerk, lambda seen: seen["waiting"] == 0)


async def test_the_oldest_messages_of_connected_users_outlive_22_kills(peer: Peer, server: ServerProcess) -> None:
    users = ["ann", "bob", "cat"]
    clerk = await peer.client(server.url, transports=MODES["websocket"])
    await clerk.connected()
    for user in users:
        await clerk.call("write", user, "first", 0)
    readers = [
        await peer.client(server.url, transports=MODES["websocket"], auth={"inbox": user}, rules={"*": "hold"})
        for user in users
    ]
    for kill in range(KILLS):
        for reader in readers:
            await reader.gets("note", kill + 1)
        # What is in hand for a moment is noted, if anything is.
        await asyncio.sleep(0.1)
        await server.restart("kill")
    for reader, user in zip(readers, users, strict=True):
        received = (await reader.gets("note", KILLS + 1))[-1]
        assert received[0] == "first"
        assert (await look(clerk, user))["dead"] == []
        await reader.ack(reader.received["note"][-1])
        await looks_so(clerk, lambda seen: seen["waiting"] == 0, user)
    await peer.leave_all()


async def test_what_a_slow_line_can_not_carry_is_undeliverable_and_the_next_message_comes(
    peer: Peer, server: ServerProcess, clerk: Client
) -> None:
    await clerk.call("write", "ann", "too large", LARGE_BYTES)
    await clerk.call("write", "ann", "small", 0)
    async with Link.to(int(server.url.rpartition(":")[2]), delay_s=lambda: 0.02) as link:
        link.listens = True
        reader = await peer.client(
            link.url, transports=MODES["websocket"], auth={"inbox": "ann"}, rules={"*": "ack"}, reconnectionDelay=50
        )
        breaks = 0
        async with asyncio.timeout(120):
            while not (texts := [text for text, _ in reader.args_of("note")]):
                if len(link.heard) > PASSED_BYTES:
                    breaks += 1
                    link.heard.clear()
                    link.cut()
                await asyncio.sleep(0.02)
        assert texts == ["small"]
        assert breaks == 5
        seen = await looks_so(clerk, lambda seen: seen["waiting"] == 0)
        await reader.disconnect()
    assert seen["dead"] == [["too large", "undeliverable"]]


@pytest.mark.parametrize(
    ("max_attachments", "connections", "reason"),
    [(10, 1, "max_attachments allows 10"), (50, 6, "undeliverable")],
    ids=["the server refuses it", "the client's parser refuses it"],
)
async def test_a_message_of_an_older_store_that_official_parsers_refuse_does_not_block_the_next(
    max_attachments: int, connections: int, reason: str, peer: Peer, tmp_path: Path
) -> None:
    async with running(waypost.Server(store=tmp_path / "store.db", drain_s=0, max_attachments=50)) as older:
        await older.queue("inbox:ann").emit("note", "too many", [b"x"] * 11)
        await older.queue("inbox:ann").emit("note", "next", "")
    server = make_server(tmp_path, max_attachments=max_attachments)
    await server.start()
    reader = await peer.client(
        server.url, transports=MODES["websocket"], auth={"inbox": "ann"}, rules={"*": "ack"}, reconnectionDelay=50
    )
    assert await reader.gets("note", 1) == [("next", "")]
    assert len(reader.connects) == connections
    seen = await looks_so(reader, lambda seen: seen["waiting"] == 0)
    [[text, why]] = seen["dead"]
    assert text == "too many"
    assert reason in why
    await peer.leave_all()
    await server.stop()
