"""The official clients of a measurement: a process of Node's that is told what to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from bench.cluster.contenders import JS

__all__ = ["Clients", "clients_of"]

_LINE_LIMIT = 1 << 26


class Clients:
    """Some official clients in a process of their own, which hop to the next node at each reconnection."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def tell(self, command: str, **arguments: Any) -> Any:
        """Have them do something; returns what they say."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": command, **arguments}).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the clients' process has ended")
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(f"{command}: {answer['error']}")
        return answer

    async def connect(self, count: int) -> None:
        """Connect them all."""
        connected = await self.tell("connect")
        if connected != count:
            raise RuntimeError(f"{connected} of {count} clients have connected")

    async def call(self, event: str, argument: Any, *, timeout_s: float) -> Any:
        """Let the first one ask the server; returns the answer."""
        return await self.tell("call", event=event, argument=argument, seconds=timeout_s)


@asynccontextmanager
async def clients_of(count: int, urls: Sequence[str]) -> AsyncIterator[Clients]:
    """Start a process with some clients, and connect them."""
    process = await asyncio.create_subprocess_exec(
        *("node", str(JS / "client.js"), str(count), *urls),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_LIMIT,
    )
    try:
        clients = Clients(process)
        await clients.connect(count)
        yield clients
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
