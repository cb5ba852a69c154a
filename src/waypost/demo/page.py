"""The demo in a browser: runs the supervised service, and opens its page."""

from __future__ import annotations

import asyncio
import signal
import sys
import webbrowser
from pathlib import Path

from waypost.demo.headless import play_headless
from waypost.demo.interruption import on_stop_signal
from waypost.demo.settings import Settings
from waypost.demo.site import STATIC
from waypost.demo.supervisor import Supervisor
from waypost.demo.terminal import Terminal, duration

__all__ = ["serve_page"]

_PORT = 8000


def serve_page(settings: Settings, *, open_browser: bool) -> int:
    """Run the service and its page until SIGINT or SIGTERM. Without a built page, play the story in the terminal.

    Args:
        settings: The demo's settings.
        open_browser: Whether to open the page in a browser.

    Returns:
        The exit code: 0 after a graceful stop.

    Raises:
        ServiceUnavailable: The service did not start.
    """
    terminal = Terminal(sys.stdout)
    if not (STATIC / "index.html").is_file():
        terminal.note(
            "The page is not built (`make web` builds it, with Node); this is the terminal version.", "bold"
        )
        return play_headless(settings)
    with settings.place() as directory:
        return asyncio.run(_serve(settings, directory, terminal, open_browser))


async def _serve(settings: Settings, directory: Path, terminal: Terminal, open_browser: bool) -> int:
    def started(run: int, pid: int, outage_s: float) -> None:
        ago = f", {duration(outage_s)} after the last one died" if run else ""
        terminal.tell("server", f"process {pid} takes connections{ago}")

    def died(code: int) -> None:
        terminal.tell("server", f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with {code}")

    supervisor = Supervisor(
        directory,
        port=_PORT if settings.port is None else settings.port,
        log_level=settings.log_level,
        on_start=started,
        on_death=died,
    )
    stopping = asyncio.Event()
    with on_stop_signal(stopping.set):
        async with supervisor:
            terminal.note(f"The demo is at {supervisor.url}; Ctrl+C ends it.", "bold")
            if open_browser:
                await asyncio.to_thread(webbrowser.open, supervisor.url)
            await stopping.wait()
            return await supervisor.stop()
