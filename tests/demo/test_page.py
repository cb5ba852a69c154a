"""The demo's page in a real Chromium, with the official client, a real database and a real kill -9."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.support.require import require_chromium, skip_or_fail
from tests.support.server_process import ServerProcess
from tests.support.waiting import until
from waypost.demo.site import STATIC

pytestmark = [pytest.mark.long, pytest.mark.chromium, pytest.mark.asyncio(loop_scope="module")]

ARTEFACTS = Path(__file__).parent.parent / "artefacts"
ADDRESS = re.compile(r"The demo is at (http://127\.0\.0\.1:\d+)")
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def running_demo(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `waypost demo`, and end it at the end, whatever happened."""
    command = [sys.executable, "-m", "waypost", "demo", "--no-browser", "--port", "0"]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest_asyncio.fixture(loop_scope="module")
async def demo(tmp_path: Path) -> AsyncIterator[str]:
    """The demo's address; it must end gracefully, and must not have logged a traceback."""
    if not (STATIC / "index.html").is_file():
        skip_or_fail("the demo's page is not built; run `make web`")
    log = tmp_path / "demo.log"
    with running_demo(log) as process:
        await until(lambda: bool(ADDRESS.search(log.read_text())) or process.poll() is not None, "the demo listens")
        found = ADDRESS.search(log.read_text())
        assert found is not None, log.read_text()
        yield found[1]
        process.terminate()
        await until(lambda: process.poll() is not None, "the demo has ended")
        assert process.returncode == 0, log.read_text()
        assert "Traceback" not in log.read_text()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One for all tests: each page of `new_page` is a profile of its own."""
    chromium = require_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page that must not run into an error of its own."""
    page = await browser.new_page(viewport={"width": 1280, "height": 1150})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    await page.close()
    assert errors == []


async def shows(page: Page, **texts: str | int) -> None:
    """Wait until the elements with these test ids show these texts."""
    for name, text in texts.items():
        await expect(page.get_by_test_id(name.replace("_", "-"))).to_have_text(str(text), timeout=10_000)


async def send(page: Page, parcels: int) -> None:
    """Send parcels, and wait until the server has accepted the last of them."""
    sent = int(await page.get_by_test_id("sent").inner_text())
    for _ in range(parcels):
        await page.get_by_test_id("send").click()
    await shows(page, sent=sent + parcels, shop_state=f"P-{sent + parcels:03} accepted")


async def arrivals(page: Page, way: str) -> list[str]:
    """Return the texts in a column of the table of parcels, in the order of sending."""
    return (await page.locator(f'[data-way="{way}"]').all_inner_texts())[::-1]


async def test_offline_three_pickups_kill_online_three_parcels(page: Page, demo: str) -> None:
    await page.goto(demo)
    await expect(page.get_by_test_id("phone-state")).to_contain_text("is connected")
    first_pid = await page.get_by_test_id("pid").inner_text()

    await page.get_by_test_id("online").click()
    await expect(page.get_by_test_id("phone-state")).to_contain_text("in a tunnel")
    await send(page, 3)
    await shows(page, delivered=0, waiting=3)

    await page.get_by_test_id("kill").click()
    await shows(page, restarts=1, server_state="Up again")
    assert await page.get_by_test_id("pid").inner_text() != first_pid
    await shows(page, delivered=0, waiting=3)

    await page.get_by_test_id("online").click()
    await shows(page, delivered=3, waiting=0, recovered="true")
    for way in ("queue", "board"):
        texts = await arrivals(page, way)
        assert len(texts) == 3
        assert all("waited for the driver" in text and "survived kill -9" in text for text in texts), texts
    await shows(page, sent=3, lost=0, doubled=0)
    await expect(page.get_by_test_id("summary")).to_contain_text("All 3 parcels have arrived, once each and in order")

    ARTEFACTS.mkdir(exist_ok=True)
    await page.screenshot(path=ARTEFACTS / "demo-page.png", full_page=True)


async def test_goes_on_after_a_kill_with_everyone_online(page: Page, demo: str) -> None:
    await page.goto(demo)
    await send(page, 2)
    await shows(page, delivered=2)
    await page.get_by_test_id("kill").click()
    for _ in range(3):
        await page.get_by_test_id("send").click()
    await shows(page, restarts=1, sent=5, delivered=5, waiting=0, lost=0, doubled=0, recovered="true")


async def test_offline_while_the_server_is_down(page: Page, demo: str) -> None:
    # Offline ends a reconnection that is under way, and online has to start one that goes on until there is a server.
    await page.goto(demo)
    await send(page, 1)
    await page.get_by_test_id("kill").click()
    await page.get_by_test_id("online").click()
    await shows(page, restarts=1)
    await send(page, 2)
    await page.get_by_test_id("kill").click()
    await page.get_by_test_id("online").click()
    await shows(page, restarts=2, delivered=3, waiting=0, lost=0, doubled=0)
    await page.get_by_test_id("kill").click()
    await send(page, 1)
    await shows(page, restarts=3, delivered=4, waiting=0, lost=0, doubled=0)


async def test_plays_the_story(page: Page, demo: str) -> None:
    await page.goto(demo)
    await page.get_by_test_id("play").click()
    await expect(page.get_by_test_id("play")).to_have_text("Play it again", timeout=25_000)
    await shows(page, sent=11, delivered=11, waiting=0, lost=0, doubled=0, restarts=1)


async def test_two_tabs_do_not_share_parcels(page: Page, browser: Browser, demo: str) -> None:
    other = await browser.new_page()
    await page.goto(demo)
    await other.goto(demo)
    await send(page, 2)
    await send(other, 1)
    await shows(page, delivered=2, waiting=0, lost=0, doubled=0)
    await shows(other, delivered=1, waiting=0, lost=0, doubled=0)
    await other.close()


async def test_a_broken_promise_is_shown(page: Page, tmp_path: Path) -> None:
    """A page that always showed zero would prove nothing."""
    log = tmp_path / "server.log"
    server = ServerProcess(("-m", "waypost", "serve", "tests.demo.faulty_service:app", "--port", "{port}"), log)
    await server.start()
    try:
        await page.goto(server.url)
        await expect(page.get_by_test_id("phone-state")).to_contain_text("is connected")
        for _ in range(5):
            await send(page, 1)
        await shows(page, sent=5, delivered=4, lost=1, doubled=1)
        await expect(page.get_by_test_id("summary")).to_contain_text("1 lost, 1 doubled, 1 out of order")
    finally:
        await asyncio.shield(server.kill())
