"""Addresses beside the service: probes, metrics and the HTTP API, in one process and with workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import waypost
from tests.support.server_process import ServerProcess, free_port
from tests.support.waiting import until, until_async
from waypost.cli import main
from waypost.serving.options import ServeOptions
from waypost.serving.sides import part_of, sides_of
from waypost.workers.front_desk import FrontDesk

KEY = "a-key-of-forty-three-characters-for-the-test"
KEYS = f'shop = {{sha256 = "{sha256(KEY.encode()).hexdigest()}", scopes = ["emit", "state:read"]}}\n'


async def ask(
    port: int, path: str, *, method: str = "GET", body: bytes = b"", key: str | None = None
) -> tuple[int, bytes]:
    """Ask an address of this machine; return the status and the body; the status is 0 if nobody answers."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return 0, b""
    try:
        authorization = "" if key is None else f"authorization: Bearer {key}\r\n"
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{authorization}"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        # In pieces, as a network brings them.
        for piece in (head[:9].encode(), head[9:].encode(), body[: len(body) // 2], body[len(body) // 2 :]):
            writer.write(piece)
            await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 90)
    except OSError:
        return 0, b""
    finally:
        writer.close()
    if not answer:
        return 0, b""
    top, _, rest = answer.partition(b"\r\n\r\n")
    return int(top.split(b" ")[1]), rest


class Site:
    """A server with addresses beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.other = free_port(), free_port()
        (folder / "keys.toml").write_text(KEYS)
        self.server: ServerProcess

    def serve(self, *words: str, options: Mapping[str, Any] | None = None) -> ServerProcess:
        serve = ("-m", "waypost", "serve", "tests.workers.app:io", "--port", "{port}")
        options = {"drain_s": 0.1, "mode_file": str(self.folder / "mode"), **(options or {})}
        self.server = ServerProcess((*serve, *words), self.folder / "log", options)
        return self.server


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    yield made
    await made.server.kill()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_each_address_answers_what_it_was_given_and_nothing_else(site: Site, workers: str) -> None:
    shared, metrics = f"127.0.0.1:{site.port}", f"127.0.0.1:{site.other}"
    server = site.serve(
        *("--workers", workers, "--health", shared, "--api", shared, "--metrics", metrics),
        *("--api-key-file", str(site.folder / "keys.toml")),
    )
    await server.start()
    client = waypost.Client(server.url)
    told: list[Any] = []
    client.on("told", told.append)
    await client.connect()
    ready = await until_async(lambda: ask(site.port, "/readyz"), lambda said: said[0] == 200, "it is ready")
    assert ready == (200, b"")
    assert await ask(site.port, "/livez?x=1") == (200, b"")
    assert (await ask(site.port, "/livez", method="POST"))[0] == 405
    for path in ("/metrics", "/", "/apix", "/socket.io/?EIO=4&transport=polling"):
        assert (await ask(site.port, path))[0] == 404, path
    for path in ("/readyz", "/api/state"):
        assert (await ask(site.other, path))[0] == 404, path
    status, page = await ask(site.other, "/metrics")
    assert status == 200
    assert b"waypost_build_info" in page
    for number in range(4):  # each worker in turn
        body = json.dumps({"event": "told", "args": [[number, "x" * 100_000]], "rooms": ["all"]}).encode()
        assert (await ask(site.port, "/api/emit", method="POST", body=body, key=KEY))[0] in (200, 202)
    await until(lambda: len(told) == 4, "the client has the events")
    assert [number for number, _ in told] == [0, 1, 2, 3]
    assert (await ask(site.port, "/api/state"))[0] == 401
    assert (await ask(site.port, "/api/state", key=KEY))[0] == 200
    await client.disconnect()
    await server.stop()
    server.check_log()


async def test_a_body_may_come_right_behind_its_head(site: Site) -> None:
    address = f"127.0.0.1:{site.port}"
    server = site.serve("--workers", "2", "--api", address, "--api-key-file", str(site.folder / "keys.toml"))
    await server.start()
    body = json.dumps({"event": "told", "args": ["x" * 1000]}).encode()
    fields = f"host: here\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json"
    fields = f"{fields}\r\ncontent-length: {len(body)}"
    for _ in range(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        # Two segments, as Python's own HTTP client sends them.
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        writer.write(f"POST /api/emit HTTP/1.1\r\n{fields}\r\n\r\n".encode())
        writer.write(body)
        async with asyncio.timeout(20):
            assert (await reader.readline()).split()[1] in (b"200", b"202")
        writer.close()
    await server.stop()
    server.check_log()


async def test_a_new_worker_serves_although_the_keys_can_t_be_read(site: Site) -> None:
    address, keys = f"127.0.0.1:{site.port}", site.folder / "keys.toml"
    server = site.serve("--workers", "2", "--api", address, "--health", address, "--api-key-file", str(keys))
    await server.start()
    keys.rename(site.folder / "away")
    for pid in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split():
        if b"\0worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(int(pid), signal.SIGKILL)
    await until_async(lambda: ask(site.port, "/api/state", key=KEY), lambda said: said[0] == 503, "nobody gets in")
    await until_async(lambda: ask(site.port, "/readyz"), lambda said: said[0] == 200, "new workers serve")
    assert b"keys_unreadable" in (await ask(site.port, "/api/state", key=KEY))[1]
    (site.folder / "away").rename(keys)
    await until_async(lambda: ask(site.port, "/api/state", key=KEY), lambda said: said[0] == 200, "the keys are read")
    await server.stop()
    assert "lets nobody in until its keys can be read" in server.log()


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_one_connection_asks_again_and_again(site: Site) -> None:
    server = site.serve("--workers", "2", "--health", f"127.0.0.1:{site.port}", "--metrics", f"127.0.0.1:{site.port}")
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    for path in ("/metrics", "/livez", "/metrics"):
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        assert b" 200 OK" in head
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.partition(b":")[2]))
    writer.close()
    await server.stop()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /livez\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nx: " + b"x" * 70_000, b"431"),
        (b"POST /readyz HTTP/1.1\r\n\r\n", b"405"),
        (b"HEAD /livez HTTP/1.0\r\n\r\n", b"200"),
    ],
)
async def test_a_parent_answers_what_is_no_probe(request_: bytes, status: bytes) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    desk = FrontDesk(lambda: True, lambda: False, list)
    async with desk.open({("health", "metrics"): [listener]}):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_)
        answer = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert (await ask(port, "/readyz"))[0] == 503
        assert (await ask(port, "/metrics"))[0] == 503  # no worker serves
    assert (await ask(port, "/livez"))[0] == 0


@pytest.mark.parametrize(
    ("host", "health", "api", "meets"),
    [
        ("127.0.0.1", "127.0.0.1:8000", None, "the service"),
        ("0.0.0.0", "127.0.0.1:8000", None, "the service"),
        ("127.0.0.1", "0.0.0.0:8000", None, "the service"),
        ("127.0.0.1", "localhost:8000", None, "the service"),
        ("::1", "[::]:8000", None, "the service"),
        ("127.0.0.1", "127.0.0.1:8001", "0.0.0.0:8001", "health"),
        ("127.0.0.1", "127.0.0.1:8001", "127.0.0.1:8001", None),
        ("127.0.0.1", "127.0.0.2:8000", None, None),
        ("0.0.0.0", "[::1]:8000", None, None),
        ("127.0.0.1", "127.0.0.1:0", None, None),
    ],
)
def test_what_can_t_be_listened_on_for_two_things_is_refused(
    host: str, health: str, api: str | None, meets: str | None
) -> None:
    def options() -> ServeOptions:
        return ServeOptions(host=host, health=health, api=api, api_key_file=None if api is None else "x")

    if meets is None:
        options()
        return
    with pytest.raises(waypost.ConfigurationError, match=f"does not meet that of {meets}"):
        options()


def test_equal_addresses_are_one() -> None:
    serve = ServeOptions(health="127.0.0.1:1", metrics="127.0.0.1:2", api="127.0.0.1:1", api_key_file="x")
    found = [(side.address, side.parts) for side in sides_of(serve)]
    assert found == [(("127.0.0.1", 1), ("health", "api")), (("127.0.0.1", 2), ("metrics",))]


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/livez", "health"),
        ("/readyz", "health"),
        ("/metrics", "metrics"),
        ("/metrics/", None),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api/queues/a%2Fb", "api"),
        ("/apis", None),
        ("//api", None),
        ("", None),
    ],
)
def test_a_path_has_a_part(path: str, part: str | None) -> None:
    assert part_of(path) == part


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--api", "127.0.0.1:1"], "--api='127.0.0.1:1': expected api_key_file beside it"),
        (["--api-key-file", "keys"], "--api-key-file='keys': expected api beside it"),
        (["--api", "127.0.0.1:1", "--api-key-file", "/nowhere"], "'/nowhere': expected a file that can be read"),
    ],
)
def test_an_api_has_keys(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "tests.serving.app:io", "--port", "0", *words]) == 2
    assert told in capsys.readouterr().err
