"""Python in the documents: finds it, runs it, and lets the document say what must hold then.

A fenced block of ``python`` in a page of docs/ is run as it stands, ``await`` at the top included. It finds
``waypost``, ``asyncio`` and a fresh server ``io``, unless it makes its own. What else it takes for granted, and what
must hold then, is said in comments right before and after the block, which readers don't see::

    <!-- given
    def total(*numbers):
        return sum(numbers)
    -->
    ```python
    @io.event
    async def add(socket, a, b):
        return total(a, b)
    ```
    <!-- check
    client = await connect()
    assert await client.call("add", 1, 2) == 3
    -->

``connect(**options)`` gives a `waypost.Client` that is connected to the block's ``app``, or its ``io``; ``url()``
gives where that is; ``cut(client)`` cuts a client's connection, as a tunnel does. More words after ``python`` on the
fence change that: ``continued`` goes on where the block before it ended; ``foreign`` is another library's code, which
is only compiled.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import socket
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest
import uvicorn

import waypost
from tests.server.model_client import hub_of
from waypost.server.namespaces.channel import Channel

__all__ = ["DATABASE", "Snippet", "find", "run"]

_FENCE = re.compile(
    r"(?:^<!-- given\n(?P<given>(?:(?!-->).)*)-->\s*)?"
    r"^(?P<indent> *)```python(?P<words>[^\n]*)\n(?P<code>.*?)^(?P=indent)```\n"
    r"(?:\s*<!-- check\n(?P<check>.*?)-->)?",
    re.MULTILINE | re.DOTALL,
)
_WORDS = {"continued", "foreign"}
DATABASE = "postgresql://waypost@db/shop"
"""The database that documents name."""


@dataclass(frozen=True)
class Snippet:
    """A block of Python in a document.

    Attributes:
        document: The document.
        line: Where the block begins.
        sources: What it takes for granted, the block itself, and what must hold then; each behind as many empty lines
            as stand before it in the document, so that a traceback names the document's own lines.
        words: What the fence says besides ``python``.
        before: The block that it continues.
    """

    document: Path
    line: int
    sources: tuple[str, ...]
    words: frozenset[str]
    before: Snippet | None

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"


def find(document: Path) -> list[Snippet]:
    """Find all blocks of Python in a document."""
    text = document.read_text()
    found: list[Snippet] = []
    for match in _FENCE.finditer(text):
        words = frozenset(match["words"].split())
        assert words <= _WORDS, f"{document}: {words - _WORDS}"
        line = text.count("\n", 0, match.start("code")) + 1
        before = found[-1] if "continued" in words else None
        sources = tuple(
            "\n" * text.count("\n", 0, match.start(part)) + textwrap.dedent(match[part])
            for part in ("given", "code", "check")
            if match[part]
        )
        found.append(Snippet(document, line, sources, words, before))
    return found


async def run(snippet: Snippet, database: str = "") -> None:
    """Run a block, those before it that it continues, and what its comment says must hold.

    Args:
        snippet: The block.
        database: The address of a database, which stands for the one that documents name.
    """
    if "foreign" in snippet.words:
        for source in snippet.sources:
            compile(source, str(snippet.document), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        return
    module = sys.modules["snippet"] = ModuleType("snippet")  # dataclasses look theirs up
    names = vars(module)
    names |= {"waypost": waypost, "asyncio": asyncio, "pytest": pytest, "io": waypost.Server(drain_s=0)}
    async with AsyncExitStack() as ends:
        stage = _Stage(names, ends)
        names |= {"connect": stage.connect, "url": stage.url, "cut": stage.cut}
        try:
            await _run_with(snippet, names, database)
        finally:
            await stage.leave()
            del sys.modules["snippet"]


async def _run_with(snippet: Snippet, names: dict[str, Any], database: str) -> None:
    if snippet.before is not None:
        await _run_with(snippet.before, names, database)
    for source in snippet.sources:
        source = source.replace(DATABASE, database)
        code = compile(source, str(snippet.document), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        await _execute(code, names)


async def _execute(code: CodeType, names: dict[str, Any]) -> None:
    result = eval(code, names)
    if inspect.isawaitable(result):
        await result


class _Stage:
    """Serves what a block made, once, and connects clients to it."""

    def __init__(self, names: dict[str, Any], ends: AsyncExitStack) -> None:
        self._names = names
        self._ends = ends
        self._port: int | None = None
        self._clients: list[waypost.Client] = []

    async def url(self) -> str:
        """Give the address of the block's application, which is served from now on."""
        if self._port is None:
            application = self._names.get("app", self._names["io"])
            self._port = await self._ends.enter_async_context(_serving(application))
        return f"http://127.0.0.1:{self._port}"

    async def connect(self, **options: Any) -> waypost.Client:
        """Connect a client with these options."""
        client = waypost.Client(await self.url(), **options)
        await client.connect()
        self._clients.append(client)
        return client

    def cut(self, client: waypost.Client) -> None:
        """Cut the connection of a client in the namespace ``/``."""
        (channel,) = (one for one in hub_of(self._names["io"]).directory.core("/").index if one.sid == client.id)
        assert isinstance(channel, Channel)
        channel._connection.abort("cut by the test")

    async def leave(self) -> None:
        """Let all clients leave, and close the server."""
        for client in self._clients:
            await client.disconnect()
        if isinstance(io := self._names["io"], waypost.Server):
            await io.close()


@asynccontextmanager
async def _serving(application: Any) -> AsyncIterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(application, ws="websockets-sansio", log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not task.done(), "the server did not start"
        await asyncio.sleep(0.005)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task
        listener.close()
