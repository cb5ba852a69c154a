"""The README's server and its client in Python run together, as they stand there."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.docs.snippets import find
from waypost.testing import serve

README = Path(__file__).parent.parent.parent / "README.md"


async def test_the_client_gets_what_its_own_call_puts_into_its_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the store is a file
    server, client = (snippet.sources[0] for snippet in find(README))
    names: dict[str, Any] = {}
    exec(compile(server, "README.md", "exec", dont_inherit=True), names)
    loaded: asyncio.Queue[Any] = asyncio.Queue()
    async with serve(names["io"]) as site:
        source = client.replace("https://example.com", site.url)
        assert source != client
        code = compile(source, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        running = asyncio.ensure_future(eval(code, {"waypost": waypost, "load": loaded.put_nowait}))
        try:
            assert await asyncio.wait_for(loaded.get(), 10) == {"id": 12}
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
