"""Workers of a queue that are official clients in Node, each in a process of its own; see js/worker.js."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.require import JS_DIR, require_node
from tests.support.waiting import until

__all__ = ["JsWorker"]


class JsWorker:
    """One worker.

    Attributes:
        said: What it has said, in order.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.said: list[dict[str, Any]] = []
        self._process = process

    @classmethod
    @asynccontextmanager
    async def start(cls, url: str, **options: Any) -> AsyncIterator[JsWorker]:
        """Start a worker that connects to ``url``; it ends with the context."""
        process = await asyncio.create_subprocess_exec(
            require_node(), "worker.js", url, json.dumps(options), cwd=JS_DIR,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        worker = cls(process)
        listening = asyncio.get_running_loop().create_task(worker._listen())
        try:
            yield worker
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await listening

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.said.append(json.loads(line))

    def count(self, what: str) -> int:
        """Return how often it has said something."""
        return sum(one["what"] == what for one in self.said)

    def runs(self, what: str = "started") -> Counter[int]:
        """Return how often it has said something of each job."""
        return Counter(one["number"] for one in self.said if one["what"] == what)

    async def says(self, what: str, times: int) -> None:
        """Wait until it has said something so often."""
        await until(lambda: self.count(what) >= times, f"the worker says {what!r} {times} times: {self.said[-20:]}")
