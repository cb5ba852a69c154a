"""The scenario in a browser without a driver: a page that plays it, and a small site that the page reports to."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlencode

from aiohttp import web

from tests.clients.programs import PROGRAMS, Lines
from tests.support.require import skip_or_fail

__all__ = ["BROWSERS", "open_browser"]

_CHROMIUM = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--ignore-certificate-errors",
)
_FIREFOX = ("--headless", "--no-remote", "--new-instance")
BROWSERS = {
    "Chromium": ("chromium", _CHROMIUM, "--user-data-dir="),
    "Firefox": ("firefox-esr", _FIREFOX, "--profile"),
}
"""Each browser's program, its arguments, and how it is told where its profile is."""


async def _serve(lines: Lines) -> tuple[web.AppRunner, int]:
    files = PROGRAMS / "js"

    async def page(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(files / "page.html")

    async def scenario(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(files / "scenario.mjs", headers={"Content-Type": "text/javascript"})

    async def client(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(files / "node_modules/socket.io-client/dist/socket.io.js")

    async def report(request: web.Request) -> web.Response:
        lines.add(await request.text())
        return web.Response()

    application = web.Application()
    application.add_routes(
        [
            web.get("/", page),
            web.get("/scenario.mjs", scenario),
            web.get("/client.js", client),
            web.post("/report", report),
        ]
    )
    runner = web.AppRunner(application, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port: int = runner.addresses[0][1]
    return runner, port


def _profile_arguments(option: str, profile: Path) -> list[str]:
    return [f"{option}{profile}"] if option.endswith("=") else [option, str(profile)]


@asynccontextmanager
async def open_browser(browser: str, url: str, mode: str, name: str, profile: Path) -> AsyncIterator[Lines]:
    """Play the scenario in a browser, and end it at the end; skip the test where there is none.

    Args:
        browser: One of `BROWSERS`.
        url: Where the server is.
        mode: The transports.
        name: The client's room and queue.
        profile: An empty folder for the browser.
    """
    program, arguments, profile_option = BROWSERS[browser]
    if shutil.which(program) is None:
        skip_or_fail(f"{browser} is not installed")
    lines = Lines()
    runner, port = await _serve(lines)
    page = f"http://127.0.0.1:{port}/?{urlencode({'url': url, 'mode': mode, 'name': name})}"
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        *_profile_arguments(profile_option, profile),
        page,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield lines
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await runner.cleanup()
