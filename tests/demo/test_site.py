"""What is served beside Socket.IO: the page's files, the state, and the kill that only the page may ask for."""

from __future__ import annotations

import json
import os
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from waypost.demo.site import Site
from waypost.demo.supervision import Supervision


@dataclass
class Answer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes


async def ask(site: Site, method: str, path: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await site({"type": "http", "method": method, "path": path, "headers": list(headers)}, receive, send)
    start, body = sent
    return Answer(start["status"], dict(start["headers"]), body["body"])


@pytest.fixture
def static(tmp_path: Path) -> Path:
    directory = tmp_path / "static"
    (directory / "assets").mkdir(parents=True)
    (directory / "index.html").write_text("<h1>page</h1>")
    (directory / "assets" / "page.js").write_text("start()")
    (tmp_path / "secret.txt").write_text("secret")
    return directory


@pytest.fixture
def site(static: Path) -> Site:
    return Site(None, lambda: "store: test", static)


async def test_serves_the_page(site: Site) -> None:
    page = await ask(site, "GET", "/")
    assert (page.status, page.body, page.headers[b"content-type"]) == (200, b"<h1>page</h1>", b"text/html")
    script = await ask(site, "GET", "/assets/page.js")
    assert (script.status, script.body) == (200, b"start()")
    assert b"javascript" in script.headers[b"content-type"]


@pytest.mark.parametrize(
    "path", ["/nothing", "/../secret.txt", "/assets/../../secret.txt", "//secret.txt", "/assets"]
)
async def test_serves_nothing_else(site: Site, path: str) -> None:
    assert (await ask(site, "GET", path)).status == 404


async def test_says_how_to_build_the_page(tmp_path: Path) -> None:
    answer = await ask(Site(None, str, tmp_path), "GET", "/")
    assert answer.status == 503
    assert b"make web" in answer.body


async def test_tells_the_state(static: Path) -> None:
    site = Site(Supervision(3), lambda: "store: test", static)
    answer = await ask(site, "GET", "/demo/state")
    assert json.loads(answer.body) == {"pid": os.getpid(), "run": 3, "store": "store: test"}


async def test_is_not_killed_without_a_supervisor(site: Site) -> None:
    assert (await ask(site, "POST", "/demo/kill", [(b"x-waypost-demo", b"kill")])).status == 403


async def test_is_not_killed_by_another_sites_page(static: Path) -> None:
    site = Site(Supervision(0), str, static)
    assert (await ask(site, "POST", "/demo/kill", [(b"content-type", b"text/plain")])).status == 403


async def test_refuses_other_methods(site: Site) -> None:
    assert (await ask(site, "DELETE", "/")).status == 405
