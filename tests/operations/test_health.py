"""Probes: ``io.health()``, ``waypost serve --health`` and ``waypost health``."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.support.server_process import ServerProcess, free_port
from tests.support.waiting import until_async
from waypost import cli
from waypost.errors import ConfigurationError
from waypost.storage.trouble import Trouble

KEY = "a-key-of-some-length"
BEARER = [(b"authorization", b"Bearer " + KEY.encode())]


async def ask(
    app: Any, path: str, headers: list[tuple[bytes, bytes]] | None = None, *, method: str = "GET", root: str = ""
) -> tuple[int, bytes]:
    """Send a request to an ASGI application; return the status and the body."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {"type": "http", "method": method, "path": root + path, "root_path": root, "headers": headers or []}
    await app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


def fetch(url: str) -> int | None:
    """Return the status of a URL; ``None`` if nobody answers there."""
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except OSError:
        return None


async def test_a_server_is_ready_from_its_start_to_its_stop_and_lives_all_the_time() -> None:
    io = waypost.Server()
    probe = io.health()
    said = [await ask(probe, "/readyz")]
    await io.start()
    said.append(await ask(probe, "/readyz"))
    assert io.state().connections == 0
    await io.close()
    said.append(await ask(probe, "/readyz"))
    assert said == [(503, b""), (200, b""), (503, b"")]
    assert await ask(probe, "/livez") == (200, b"")


async def test_a_mounted_probe_answers_below_its_mount_and_nothing_else() -> None:
    probe = waypost.Server().health()
    assert await ask(probe, "/livez", root="/health") == (200, b"")
    assert await ask(probe, "/livez", method="HEAD") == (200, b"")
    assert (await ask(probe, "/"))[0] == 404
    assert (await ask(probe, "/livez", method="POST"))[0] == 405


async def test_details_need_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    io = waypost.Server()
    await io.start()
    full = Trouble("full", 2.5, "there is no space")
    monkeypatch.setattr(io._hub.services.store, "troubles", lambda: (full,))
    for probe, headers in (
        (io.health(), BEARER),
        (io.health(key=KEY), []),
        (io.health(key=KEY), [(b"authorization", b"Bearer " + KEY.encode() + b"x")]),
        (io.health(key=KEY), [(b"authorization", KEY.encode())]),
    ):
        assert await ask(probe, "/readyz", headers) == (503, b"")
    status, body = await ask(io.health(key=KEY), "/readyz", BEARER)
    assert status == 503
    trouble = {"code": "full", "since_s": 2.5, "text": "there is no space"}
    assert json.loads(body) == {"ready": False, "phase": "running", "troubles": [trouble]}
    await io.close()


@pytest.mark.parametrize("key", ["", "short", "with spaces in the key", "ключ-ключ-ключ-ключ", 5])
def test_a_weak_key_is_refused_and_not_shown(key: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        waypost.Server().health(key=key)
    assert "16 printable ASCII characters" in str(caught.value)
    assert not key or str(key) not in str(caught.value).replace("16", "")


async def test_probes_are_answered_while_the_store_is_opened_and_while_it_is_closed(tmp_path: Path) -> None:
    store, go = tmp_path / "store.db", tmp_path / "go"
    before = waypost.Server(store=store)
    await before.start()
    port = free_port()
    command = ("-m", "waypost", "serve", "tests.operations.waiting_app:io", "--port", "{port}", "--store", str(store))
    server = ServerProcess((*command, "--health", f"127.0.0.1:{port}"), tmp_path / "log", {"go": str(go)})
    url = f"http://127.0.0.1:{port}"
    said: list[int | None] = []

    async def next_other() -> int | None:
        """Ask until the answer of /readyz is another one than the last."""

        async def probe() -> int | None:
            return await asyncio.to_thread(fetch, f"{url}/readyz")

        last = said[-1] if said else None
        said.append(await until_async(probe, lambda status: status != last, f"another answer than {last}"))
        return said[-1]

    starting = asyncio.create_task(server.start())
    try:
        # The server waits for the end of the one that has the file.
        assert await next_other() == 503
        assert await asyncio.to_thread(fetch, f"{url}/livez") == 200
        assert await asyncio.to_thread(cli.main, ["health", url]) == 1
        await before.close()
        assert await next_other() == 200
        await starting
        assert await asyncio.to_thread(cli.main, ["health", url]) == 0
        stopping = asyncio.create_task(server.stop())
        assert await next_other() == 503
        assert await asyncio.to_thread(fetch, f"{url}/livez") == 200
        go.touch()
        await stopping
        assert await next_other() is None
        assert await asyncio.to_thread(cli.main, ["health", url]) == 1
        server.check_log()
    finally:
        go.touch()
        await before.close()
        starting.cancel()
        await server.kill()


@pytest.mark.parametrize("words", [["ftp://localhost"], ["localhost:80"], ["http://localhost", "--timeout", "nan"]])
def test_a_command_line_that_names_no_server_is_wrong_usage(words: list[str]) -> None:
    try:
        code: Any = cli.main(["health", *words])
    except SystemExit as ended:
        code = ended.code
    assert code == 2


@pytest.mark.parametrize("address", ["8001", ":8001", "::1:8001", "localhost", "localhost:99999"])
def test_an_address_that_is_none_is_wrong_usage(address: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", "tests.operations.waiting_app:io", "--health", address])
    assert ended.value.code == 2
