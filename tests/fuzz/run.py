"""A run: a real server under fire, proper clients beside it, and what must hold throughout."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzz.attacks import Attacker
from tests.support.raw import OPENERS, Raw, join
from tests.support.server_process import ServerProcess

_ATTACKERS = 16
_ANSWER_S = 20.0
_LOOK_S = 0.25
_MOST_GROWTH_BYTES = 256 << 20
_WARM_UP_S = 1.5

OPTIONS = {
    "drain_s": 0,
    "connect_timeout_s": 2,
    "ping_interval_s": 1,
    "ping_timeout_s": 20,
    "upgrade_timeout_s": 1,
    "post_timeout_s": 1,
    "allow_eio3": True,
    "allow_jsonp": True,
    "cookie": "io",
    "cors_allowed_origins": "*",
}


@dataclass
class Report:
    """What came of a run.

    Attributes:
        seed: What it can be repeated with, but for the timing.
        attacks: How many attacks there were.
        answers: How many acks the proper clients got.
        problems: What was wrong; empty when all was well.
        last: The last bytes that were sent by each attacker, if something was wrong.
    """

    seed: int
    attacks: int
    answers: int
    problems: list[str]
    last: list[list[bytes]]

    def __str__(self) -> str:
        head = f"fuzz seed {self.seed}: {self.attacks} attacks, {self.answers} acks, {len(self.problems)} problems"
        sent = [f"attacker {number} sent {data!r}" for number, all_ in enumerate(self.last) for data in all_]
        return "\n".join([head, *self.problems, *sent])


async def run(seed: int, seconds: float, log: Path) -> Report:
    """Attack a server for so long.

    Args:
        seed: What decides on the input.
        seconds: How long.
        log: The file that gets the server's log.
    """
    attackers: list[Attacker] = []
    witnesses: list[Witness] = []
    problems: list[str] = []
    async with _server(log, problems) as server:
        attackers = [Attacker(server.port, Random(f"{seed} {number}")) for number in range(_ATTACKERS)]
        witnesses = [Witness(transport) for transport in OPENERS]
        deadline = time.monotonic() + seconds
        tasks = [asyncio.create_task(_until(deadline, attacker)) for attacker in attackers]
        tasks += [asyncio.create_task(witness.run(server.port, deadline)) for witness in witnesses]
        tasks.append(asyncio.create_task(_watch(server, deadline, problems)))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        problems += [f"{result!r}" for result in results if isinstance(result, BaseException)]
    return Report(
        seed,
        sum(attacker.count for attacker in attackers),
        sum(witness.answers for witness in witnesses),
        problems,
        [list(attacker.last) for attacker in attackers] if problems else [],
    )


class Witness:
    """A proper client, which must be answered all the time.

    Args:
        transport: What it connects over.

    Attributes:
        answers: How many acks it got.
    """

    def __init__(self, transport: str) -> None:
        self.answers = 0
        self._transport = transport

    async def run(self, port: int, deadline: float) -> None:
        """Ask and be answered until the deadline; raises if it is not."""
        async with OPENERS[self._transport](port) as raw:
            await join(raw)
            while time.monotonic() < deadline:
                async with asyncio.timeout(_ANSWER_S):
                    await self._ask(raw)

    async def _ask(self, raw: Raw) -> None:
        await raw.send(f'42{self.answers}["echo",{self.answers}]')
        while (packet := await raw.receive()) != f"43{self.answers}[{self.answers}]":
            # What others say to everyone is no answer.
            assert isinstance(packet, bytes) or packet.startswith(('42["said"', '451-["said"')), packet
        self.answers += 1
        await asyncio.sleep(0.02)


async def _until(deadline: float, attacker: Attacker) -> None:
    while time.monotonic() < deadline:
        await attacker.attack()


async def _watch(server: ServerProcess, deadline: float, problems: list[str]) -> None:
    """Look at the server's memory; the first moments show what it needs when it is warm."""
    await asyncio.sleep(_WARM_UP_S)
    warm = most = server.memory_bytes()
    while time.monotonic() < deadline and server.alive():
        most = max(most, server.memory_bytes())
        await asyncio.sleep(_LOOK_S)
    if most - warm > _MOST_GROWTH_BYTES:
        problems.append(f"memory grew from {warm >> 20} to {most >> 20} MiB")


@asynccontextmanager
async def _server(log: Path, problems: list[str]) -> AsyncIterator[ServerProcess]:
    server = ServerProcess(("-m", "waypost", "serve", "tests.fuzz.app:io", "--port", "{port}"), log, OPTIONS)
    await server.start()
    try:
        yield server
        if not server.alive():
            problems.append(f"the server died:\n{server.log()[-4000:]}")
        else:
            await server.stop()
        try:
            server.check_log()
        except AssertionError as problem:
            problems.append(str(problem)[-4000:])
    finally:
        await server.kill()
