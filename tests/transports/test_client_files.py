"""The official client beside the server: headers, revalidation, compression, and the wheel that has it."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.support.require import require_node, skip_or_fail
from tests.support.server_process import REPOSITORY
from tests.transports.asgi_client import ask, serving
from waypost.transports.client_files import FOLDER, ClientFiles, client_file

_FILES = [f"socket.io.{middle}js{end}" for middle in ("", "min.", "esm.min.", "msgpack.min.") for end in ("", ".map")]
_SCRIPT = b"console.log('the client');" * 100


@pytest.fixture
def io(tmp_path: Path) -> waypost.Server:
    """A server whose client is a file of this test's."""
    for name in _FILES:
        (tmp_path / name).write_bytes(_SCRIPT)
    io = waypost.Server(drain_s=0.0, cors_allowed_origins="*")
    io._asgi._client_files = ClientFiles(tmp_path)
    return io


@pytest.mark.parametrize("name", _FILES)
async def test_all_files_are_served(io: waypost.Server, name: str) -> None:
    answer = await ask(io, "", path=f"/socket.io/{name}", headers={"Origin": "https://a.example"})
    assert (answer.status, answer.body) == (200, _SCRIPT)
    kind = "application/json" if name.endswith(".map") else "text/javascript; charset=utf-8"
    assert answer.headers["content-type"] == kind
    assert answer.headers["cache-control"] == "public, max-age=0"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_what_has_not_changed_is_not_sent_again(io: waypost.Server) -> None:
    path = "/socket.io/socket.io.js"
    tag = (await ask(io, "", path=path)).headers["etag"]
    for header in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = await ask(io, "", path=path, headers={"If-None-Match": header})
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
    assert (await ask(io, "", path=path, headers={"If-None-Match": '"other"'})).status == 200


async def test_it_is_compressed_for_those_who_take_it(io: waypost.Server) -> None:
    path = "/socket.io/socket.io.min.js"
    plain = await ask(io, "", path=path)
    packed = await ask(io, "", path=path, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert packed.headers["etag"] != plain.headers["etag"]
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding, Origin"
    again = {"Accept-Encoding": "gzip", "If-None-Match": packed.headers["etag"]}
    assert (await ask(io, "", path=path, headers=again)).status == 304


async def test_heads_have_no_body_and_other_methods_are_refused(io: waypost.Server) -> None:
    head = await ask(io, "", path="/socket.io/socket.io.js", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(_SCRIPT))
    assert (await ask(io, "", path="/socket.io/socket.io.js", method="POST")).status == 405


@pytest.mark.parametrize(
    ("path", "root_path", "name"),
    [
        ("/socket.io/socket.io.js", "", "socket.io.js"),
        ("/app/socket.io/socket.io.js", "/app", "socket.io.js"),
        ("/socket.io/socket.io.js", "/socket.io", "socket.io.js"),
        ("/socket.io.js", "/socket.io", "socket.io.js"),
        ("/socket.io.js", "", None),
        ("/other/socket.io.js", "", None),
        ("/socket.io/package.json", "", None),
        ("/socket.io/../socket.io.js", "", None),
        ("/socket.io/..%2fsecret", "", None),
        ("/socket.io//etc/passwd", "", None),
        ("/socket.io/socket.io.js/", "", None),
        ("/socket.io/", "", None),
    ],
)
def test_only_these_files_at_this_path(path: str, root_path: str, name: str | None) -> None:
    assert client_file(path, root_path, "/socket.io/") == name


async def test_it_can_be_turned_off(tmp_path: Path) -> None:
    io = waypost.Server(drain_s=0.0, serve_client=False)
    assert (await ask(io, "", path="/socket.io/socket.io.js")).body == b"Not Found"


async def test_without_a_build_the_answer_says_what_to_do(tmp_path: Path) -> None:
    io = waypost.Server(drain_s=0.0)
    io._asgi._client_files = ClientFiles(tmp_path)
    answer = await ask(io, "", path="/socket.io/socket.io.js")
    assert answer.status == 404
    assert b"make web" in answer.body


def test_the_wheel_has_them() -> None:
    project: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    artifacts = project["tool"]["hatch"]["build"]["artifacts"]
    assert f"{FOLDER.relative_to(REPOSITORY)}/**" in artifacts


@pytest.mark.node
async def test_node_loads_what_is_served() -> None:
    node = require_node()
    if not (FOLDER / "socket.io.js").is_file():
        skip_or_fail("the client's files are not built; run `make web`")
    io = waypost.Server(drain_s=0.0)
    async with serving(io):
        script = (await ask(io, "", path="/socket.io/socket.io.min.js")).body
    check = "const m = {exports: {}}; new Function('module', 'exports', require('fs').readFileSync(0, 'utf8'))"
    check += "(m, m.exports); const s = m.exports.io('http://x', {autoConnect: false});"
    check += "console.log(typeof m.exports.Manager, typeof s.emit);"
    assert (await asyncio.to_thread(output, [node, "-e", check], script)).split() == [b"function", b"function"]


def output(command: list[str], given: bytes) -> bytes:
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout
