"""One soak: a real server, the honest clients, the attackers beside them, and what each quarter showed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.soak.honest import Crowd, Quarter
from tests.support.server_process import ServerProcess

__all__ = ["Soak", "soak"]

_MOST_P99_MS = 250
_MOST_GROWTH = 1.05
_QUARTERS = 4
_OPTIONS = {"trusted_proxies": ["127.0.0.1"], "drain_s": 0.5}


@dataclass
class Soak:
    """What a soak showed.

    Attributes:
        quarters: What the honest clients saw, quarter by quarter.
        rss_bytes: The server's memory at the end of each quarter.
        attacks: What the attackers say of themselves.
    """

    quarters: list[Quarter]
    rss_bytes: list[int]
    attacks: str

    def problems(self) -> list[str]:
        """Return what must not be: events lost or doubled, calls that waited too long, memory that grows."""
        found = []
        for number, quarter in enumerate(self.quarters, 1):
            if quarter.lost or quarter.doubled:
                found.append(f"quarter {number}: {quarter.lost} lost, {quarter.doubled} doubled")
            if quarter.percentile_ms(0.99) > _MOST_P99_MS:
                found.append(f"quarter {number}: p99 {quarter.percentile_ms(0.99):.0f} ms, more than {_MOST_P99_MS}")
        if self.rss_bytes[-1] > self.rss_bytes[1] * _MOST_GROWTH:
            found.append(f"memory grew from {self.rss_bytes[1] >> 20} to {self.rss_bytes[-1] >> 20} MiB")
        return found


def _describe(number: int, quarter: Quarter, rss_bytes: int) -> str:
    return (
        f"quarter {number}: {len(quarter.waits_s)} calls, p50 {quarter.percentile_ms(0.5):.1f} ms, "
        f"p99 {quarter.percentile_ms(0.99):.1f} ms, longest {quarter.percentile_ms(1):.0f} ms, "
        f"{len(quarter.over_cuts_s)} more over a cut (longest {max(quarter.over_cuts_s, default=0):.1f} s), "
        f"{quarter.refused} refused, {quarter.lost} lost, {quarter.doubled} doubled, "
        f"{quarter.restarts} sessions begun anew, RSS {rss_bytes / (1 << 20):.1f} MiB"
    )


async def soak(
    seconds: float, seed: int, folder: Path, *, clients: int = 200, tell: Callable[[str], None] = print
) -> Soak:
    """Run honest clients and attackers beside each other.

    Args:
        seconds: How long, in four quarters.
        seed: What decides on everything but time.
        folder: Gets the store, and the server's log.
        clients: How many honest clients there are.
        tell: Gets a line for each quarter.

    Raises:
        AssertionError: The server ended, or logged a traceback that it should not have.
    """
    store = str(folder / "soak.db")
    command = ("-m", "waypost", "serve", "tests.soak.app:io", "--port", "{port}", "--store", store)
    server = ServerProcess(command, folder / "server.log", _OPTIONS)
    await server.start()
    found = Soak([], [], "")
    crowd = Crowd(server.port, clients, Random(seed))
    try:
        async with crowd.present():
            attackers = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.soak.attackers",
                str(server.port),
                str(seed),
                str(seconds),
                stdout=asyncio.subprocess.PIPE,
            )
            for number in range(1, _QUARTERS + 1):
                crowd.quarter = quarter = Quarter()
                await asyncio.sleep(seconds / _QUARTERS)
                assert server.alive(), f"the server has ended:\n{server.log()[-4000:]}"
                found.quarters.append(quarter)
                found.rss_bytes.append(server.memory_bytes())
                tell(_describe(number, quarter, found.rss_bytes[-1]))
            output, _ = await attackers.communicate()
            found.attacks = output.decode().strip()
            tell(f"attacks: {found.attacks}")
    finally:
        if server.alive():
            await server.stop()
    return found
