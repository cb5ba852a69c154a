"""TLS, unix sockets, the log of requests, and starting anew with changed code: real processes, with workers too."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import pytest_asyncio

import waypost
from tests.support.require import require_openssl
from tests.support.server_process import ServerProcess, free_port
from tests.support.waiting import until, until_async
from waypost.cli import main
from waypost.errors import ConfigurationError
from waypost.server.connections.addresses import TrustedProxies
from waypost.transports.unix_listener import unix_listener
from waypost.transports.wire import Wire
from waypost.workers.code_watch import changes

TRANSPORTS: list[list[Literal["polling", "websocket"]]] = [["polling"], ["websocket"], ["polling", "websocket"]]
EACH = [pytest.param("1"), pytest.param("2", marks=[pytest.mark.long, pytest.mark.timeout(300)])]


class Server(ServerProcess):
    """`waypost serve` that need not listen on a port."""

    def __init__(self, log: Path, *words: str) -> None:
        super().__init__(("-m", "waypost", "serve", "tests.serving.app:io", "--port", "{port}", *words), log)

    async def start(self) -> None:
        self._spawn()
        await until(lambda: "listening on" in self._since(self._offset) or not self.alive(), "it listens", 60)
        assert self.alive(), self.log()


@pytest_asyncio.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., Server]]:
    """Return what makes a server with words; it is killed at the end."""
    made: list[Server] = []

    def make(*words: str) -> Server:
        made.append(Server(tmp_path / "log", *words))
        return made[-1]

    yield make
    for one in made:
        await one.kill()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and its certificate for 127.0.0.1."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path)]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [require_openssl(), "req", "-x509", *key, *names, "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.mark.parametrize("workers", EACH)
async def test_tls(serve: Callable[..., Server], certificate: Path, workers: str) -> None:
    server = serve("--certfile", str(certificate), "--workers", workers)
    await server.start()
    url = f"https://127.0.0.1:{server.port}"
    assert f"listening on {url} " in server.log()
    trusted = ssl.create_default_context(cafile=certificate)
    for transports in TRANSPORTS:
        # Polls reach each of two workers, and are forwarded to the one that has the session.
        client = waypost.Client(url, transports=transports, ssl=trusted)
        await client.connect()
        assert await client.call("origin") == ["127.0.0.1", True]
        await client.disconnect()
    await server.stop()
    server.check_log()


async def over_unix(path: Path, request: str, body: str = "") -> str:
    """Send a request over a unix socket, as a proxy does for a client; return the body of the answer."""
    reader, writer = await asyncio.open_unix_connection(path)
    head = f"{request} HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 203.0.113.7\r\nx-forwarded-proto: https\r\n"
    writer.write(f"{head}connection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    top, _, content = answer.decode().partition("\r\n\r\n")
    assert " 200 " in top.partition("\r\n")[0], answer
    return content


@pytest.mark.parametrize("workers", EACH)
async def test_a_unix_socket(serve: Callable[..., Server], tmp_path: Path, workers: str) -> None:
    path = tmp_path / "waypost.sock"
    server = serve("--uds", str(path), "--proxy", "unix", "--workers", workers)
    for _ in range(2):  # the second start finds the socket of the first, which was killed
        await server.start()
        polling = "/socket.io/?EIO=4&transport=polling"
        session = json.loads((await over_unix(path, f"GET {polling}"))[1:])["sid"]
        assert await over_unix(path, f"POST {polling}&sid={session}", "40") == "ok"
        polled = ""
        while '40{"sid"' not in polled:
            polled = await over_unix(path, f"GET {polling}&sid={session}")
        assert await over_unix(path, f"POST {polling}&sid={session}", '420["origin"]') == "ok"
        while "430[" not in polled:
            polled = await over_unix(path, f"GET {polling}&sid={session}")
        assert '430[["203.0.113.7",true]]' in polled
        assert f"listening on http+unix:{path} " in server.log()
        await server.kill()
    assert path.exists()
    await server.start()
    await server.stop()
    assert not path.exists()
    server.check_log()


def test_a_unix_socket_that_is_served_is_not_taken(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with unix_listener("uds", path, 0o666) as listener:
        listener.listen()
        with pytest.raises(
            ConfigurationError, match=r"^uds=.*: expected the path of a socket that can be made; .*use"
        ):
            unix_listener("uds", path, 0o666).__enter__()
        assert os.stat(path).st_mode & 0o777 == 0o666
    assert not os.path.exists(path)
    Path(path).write_text("a file")
    with pytest.raises(ConfigurationError):
        unix_listener("uds", path, 0o666).__enter__()
    assert Path(path).read_text() == "a file"


@pytest.mark.parametrize(
    ("trusted", "peer", "headers", "address", "is_secure"),
    [
        (["unix"], "", {"x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "https"}, "203.0.113.7", True),
        (["unix"], "", {"x-forwarded-for": "1.1.1.1, 203.0.113.7"}, "203.0.113.7", False),
        (["unix", "203.0.113.7"], "", {"x-forwarded-for": "1.1.1.1, 203.0.113.7"}, "1.1.1.1", False),
        (["unix"], "", {}, "", False),
        (["unix"], "", {"x-forwarded-for": "nonsense"}, "", False),
        (["unix"], "127.0.0.1", {"x-forwarded-for": "1.1.1.1", "x-forwarded-proto": "https"}, "127.0.0.1", False),
        (["127.0.0.1"], "", {"x-forwarded-for": "1.1.1.1", "x-forwarded-proto": "https"}, "", False),
    ],
)
def test_a_proxy_on_a_unix_socket_is_believed_if_it_is_trusted(
    trusted: list[str], peer: str, headers: dict[str, str], address: str, is_secure: bool
) -> None:
    proxies = TrustedProxies(trusted)
    assert proxies.address(peer, headers) == address
    assert proxies.is_secure(peer, headers, "http") is is_secure


async def test_each_request_is_logged_and_no_session_id(serve: Callable[..., Server]) -> None:
    server = serve("--access-log", "--log-format", "json")
    await server.start()
    for transports in TRANSPORTS[:2]:
        client = waypost.Client(server.url, transports=transports)
        await client.connect()
        await client.call("origin")
        await client.disconnect()
    await until(lambda: server.log().count('"waypost.access"') >= 5, "requests are logged")
    await server.stop()
    logged = [line for line in map(json.loads, server.log().splitlines()) if line["logger"] == "waypost.access"]
    told = [line["message"] for line in logged]
    assert any(one.startswith('127.0.0.1 "GET /socket.io/?') and '" 200 ' in one for one in told)
    assert any('"POST /socket.io/?' in one and "sid=***" in one for one in told)
    assert any("transport=websocket" in one and '" 101 ' in one for one in told)
    # A poll or POST that comes after the goodbye has another status.
    assert all(line["address"] == "127.0.0.1" and line["code"].isdecimal() for line in logged)
    assert "sid=***" in server.log()
    server.check_log()


def test_a_certificate_that_can_not_be_used_is_refused(
    tmp_path: Path, certificate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prose.pem").write_text("prose")
    locked = tmp_path / "locked.pem"
    key = [
        require_openssl(),
        "ec",
        "-in",
        str(certificate),
        "-aes256",
        "-passout",
        "pass:geheim",
        "-out",
        str(locked),
    ]
    subprocess.run(key, check=True, capture_output=True)
    for certfile, keyfile in (
        ("nowhere.pem", None),
        (str(tmp_path / "prose.pem"), None),
        (str(certificate), str(locked)),
    ):
        with pytest.raises(ConfigurationError, match=r"^certfile=.*: expected a certificate with its key"):
            Wire(certfile, keyfile).check()
    assert main(["serve", "tests.serving.app:io", "--port", "0", "--keyfile", "x"]) == 2
    assert "--keyfile='x': expected certfile beside it" in capsys.readouterr().err
    assert main(["check", "tests.serving.app:io", "--port", "0", "--certfile", "nowhere.pem"]) == 1
    assert "problem: certfile: certfile='nowhere.pem'" in capsys.readouterr().out


async def test_changed_files_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    (tmp_path / ".venv").mkdir()
    (tmp_path / "inner").mkdir()
    (tmp_path / "w.toml").write_text("1")
    seen = changes(tmp_path, tmp_path / "w.toml")

    async def after(change: Callable[[], object]) -> Path:
        step = asyncio.ensure_future(anext(seen))
        await asyncio.sleep(0.7)
        change()
        return await asyncio.wait_for(step, 30)

    def touch(path: Path, text: str) -> Callable[[], object]:
        return lambda: path.write_text(text)

    assert await after(touch(tmp_path / "inner" / "b.py", "1")) == tmp_path / "inner" / "b.py"
    (tmp_path / "prose.txt").write_text("1")
    (tmp_path / ".venv" / "c.py").write_text("1")
    assert await after(touch(tmp_path / "w.toml", "22")) == tmp_path / "w.toml"
    assert await after((tmp_path / "a.py").unlink) == tmp_path / "a.py"


def started(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start a command in a folder."""
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-m", "waypost", *words], cwd=folder, stdout=log, stderr=log)


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_changed_code_is_served_and_clients_recover(tmp_path: Path) -> None:
    # Not by the tests' nursery: what is looked at is a folder of its own.
    code = tmp_path / "shop.py"
    text = "import waypost\nio = waypost.Server(drain_s=0.1)\n@io.event\nasync def version(socket):\n    return {}\n"
    code.write_text(text.format(1))
    port = free_port()
    process = started(tmp_path, "serve", "shop:io", "--port", str(port), "--reload")

    def logged(word: str) -> bool:
        return word in (tmp_path / "log").read_text()

    try:
        await until(lambda: logged("listening on"), "it listens", 90)
        client = waypost.Client(f"http://127.0.0.1:{port}")
        await client.connect()
        assert await client.call("version") == 1
        code.write_text("a mistake")
        await until(lambda: logged("not reloaded"), "the mistake is told", 90)
        assert await client.call("version") == 1
        code.write_text(text.format(22))

        async def version() -> Any:
            try:
                return await client.call("version", timeout_s=10)
            except waypost.WaypostError:  # between the two
                return None

        await until_async(version, lambda found: found == 22, "the new code answers", 90)
        assert client.recovered
        await client.disconnect()
        process.terminate()
        await until(lambda: process.poll() is not None, "it has ended", 60)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
