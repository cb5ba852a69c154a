"""The README's server runs with each of its clients, as they stand there, and what it says of JavaScript is so."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.docs.snippets import find
from tests.support.require import JS_DIR, require_node
from waypost.testing import serve

README = Path(__file__).parent.parent.parent / "README.md"
_URL = "http://127.0.0.1:8000"
_JAVASCRIPT = re.compile(r"^```js\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DEADLINE_S = 60


@asynccontextmanager
async def running(*command: str, cwd: Path) -> AsyncIterator[asyncio.StreamReader]:
    """Run a program as long as the context lasts, and give what it prints."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def lines(output: asyncio.StreamReader, count: int) -> set[str]:
    """Wait for the next lines of a program."""
    async with asyncio.timeout(_DEADLINE_S):
        return {(await output.readline()).decode() for _ in range(count)}


@pytest.fixture
async def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """Serve the README's server."""
    monkeypatch.chdir(tmp_path)  # the store is a file
    names: dict[str, Any] = {}
    exec(compile(find(README)[0].sources[0], "README.md", "exec", dont_inherit=True), names)
    async with serve(names["io"]) as site:
        yield site.url


def printed(program: str, url: str) -> str:
    """Return a program of the README for the server's real port."""
    assert _URL in program
    return program.replace(_URL, url)


async def test_the_client_in_python(url: str, tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(printed(find(README)[1].sources[0], url))
    async with running(sys.executable, "-u", "driver.py", cwd=tmp_path) as output:
        assert await lines(output, 2) == {"accepted\n", "load {'id': 13}\n"}


@pytest.mark.node
async def test_the_client_in_javascript(url: str, tmp_path: Path) -> None:
    node = require_node()
    (tmp_path / "node_modules").symlink_to(JS_DIR / "node_modules")
    (program,) = _JAVASCRIPT.findall(README.read_text())
    (tmp_path / "driver.mjs").write_text(printed(program, url))
    async with running(node, "driver.mjs", cwd=tmp_path) as output:
        assert await lines(output, 3) == {"accepted\n", "load { id: 12 }\n", "pick up { id: 12 }\n"}


_LISTENER = """
import { io } from "socket.io-client";

const say = (...values) => console.log(values.map((value) => typeof value).join(" "));
const socket = io(process.argv[2]);
socket.on("default", (items, page = 1) => say(page));
socket.on("rest", (...args) => say(...args));
socket.on("callback", (items, done) => say(done));
socket.on("named", (items, page) => say(items, page));
socket.on("asked", (items, done) => done(typeof done));
socket.emit("begin", (answer) => console.log("asked", answer));
"""


@pytest.mark.node
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["string", "object string", "string", "object number"]),
        ("?waypost-offsets=no", ["number", "object", "undefined", "object number"]),
    ],
)
async def test_what_a_handler_in_javascript_gets_of_the_offset(
    query: str, expected: list[str], tmp_path: Path
) -> None:
    io = waypost.Server()

    @io.event
    async def begin(socket: waypost.Socket) -> str:
        for event, args in (("default", ()), ("rest", ()), ("callback", ()), ("named", (2,))):
            await socket.emit(event, [], *args)
        return str(await socket.call("asked", []))

    node = require_node()
    (tmp_path / "node_modules").symlink_to(JS_DIR / "node_modules")
    (tmp_path / "listener.mjs").write_text(_LISTENER)
    async with serve(io) as site, running(node, "listener.mjs", site.url + query, cwd=tmp_path) as output:
        async with asyncio.timeout(_DEADLINE_S):
            said = [(await output.readline()).decode().strip() for _ in range(len(expected) + 1)]
    assert said == [*expected, "asked function"]
