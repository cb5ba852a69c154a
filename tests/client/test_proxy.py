"""Proxies and TLS: what goes through them, and what is refused."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import waypost
from tests.support.require import skip_or_fail
from tests.support.waiting import until
from waypost.checking.constraints import Transport

_CHUNK_BYTES = 1 << 16


class Proxy:
    """An HTTP proxy that writes down what it is asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[str] = []
        self.authorizations: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # either side may go at any time
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(" ", 2)
        self.requests.append(f"{method} {target.partition('?')[0]}")
        self.authorizations += [line for line in head.splitlines() if line.lower().startswith("proxy-authorization")]
        host = target if method == "CONNECT" else target.partition("://")[2].partition("/")[0]
        name, _, port = host.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(name, int(port))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            far_writer.write(head.replace(f"http://{host}", "", 1).encode())
        there, back = (
            asyncio.ensure_future(_pump(reader, far_writer)),
            asyncio.ensure_future(_pump(far_reader, writer)),
        )
        await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        for task in (there, back):
            task.cancel()
        far_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()


@asynccontextmanager
async def proxying() -> AsyncIterator[Proxy]:
    proxy = Proxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    async with server:
        proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield proxy


@asynccontextmanager
async def over_tls(port: int, certificate: Path, *, asks: bool = False) -> AsyncIterator[int]:
    """Serve with TLS what a port serves without; ``asks`` for the client's certificate, which has to be the same."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    if asks:
        context.load_verify_locations(certificate.with_suffix(".crt"))
        context.verify_mode = ssl.CERT_REQUIRED

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        there, back = (
            asyncio.ensure_future(_pump(reader, far_writer)),
            asyncio.ensure_future(_pump(far_reader, writer)),
        )
        await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        for task in (there, back):
            task.cancel()
        far_writer.close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed, with its key."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
               "-keyout", str(path), "-out", str(path.with_suffix(".crt"))]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        skip_or_fail("openssl is not installed")
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path


TRANSPORTS = [["websocket"], ["polling"], ["polling", "websocket"]]


@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_all_goes_through_the_proxy(io: waypost.Server, url: str, transports: list[Transport]) -> None:
    async with proxying() as proxy:
        named = proxy.url.replace("://", "://user:secret@")
        async with waypost.Client(url, transports=transports, proxy=named) as client:
            assert await client.call("echo", b"x") == b"x"
            await until(lambda: client.transport == transports[-1], "the transport")
        assert {request.split(" ")[1] for request in proxy.requests} == {f"{url}/socket.io/"}
        assert len(proxy.authorizations) == len(proxy.requests)


@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_tls_goes_through_a_tunnel(port: int, transports: list[Transport], certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=certificate.with_suffix(".crt"))
    async with proxying() as proxy, over_tls(port, certificate) as secure:
        url = f"https://127.0.0.1:{secure}"
        async with waypost.Client(url, transports=transports, proxy=proxy.url, ssl=trusting) as client:
            assert await client.call("echo", b"x") == b"x"
        assert set(proxy.requests) == {f"CONNECT 127.0.0.1:{secure}"}


async def test_the_environment_names_the_proxy(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with proxying() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with waypost.Client(url) as client:
            assert await client.call("echo", 1) == 1
        assert proxy.requests
        proxy.requests.clear()
        async with waypost.Client(url, proxy=None) as client:
            assert await client.call("echo", 2) == 2
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with waypost.Client(url) as client:
            assert await client.call("echo", 3) == 3
        assert proxy.requests == []


@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_a_server_that_nobody_vouches_for_is_refused(
    port: int, transports: list[Transport], certificate: Path
) -> None:
    async with over_tls(port, certificate) as secure:
        with pytest.raises(waypost.ConnectFailed, match="certificate"):
            await waypost.Client(f"https://127.0.0.1:{secure}", transports=transports).connect()


async def test_a_certificate_for_another_name_is_refused(port: int, certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=certificate.with_suffix(".crt"))
    async with over_tls(port, certificate) as secure:
        with pytest.raises(waypost.ConnectFailed, match="localhost"):
            await waypost.Client(f"https://localhost:{secure}", ssl=trusting).connect()


@pytest.mark.parametrize("transports", TRANSPORTS)
async def test_a_client_shows_its_certificate(port: int, transports: list[Transport], certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=certificate.with_suffix(".crt"))
    async with over_tls(port, certificate, asks=True) as secure:
        client = waypost.Client(f"https://127.0.0.1:{secure}", transports=transports, ssl=trusting)
        with pytest.raises(waypost.ConnectFailed):
            await client.connect()
        trusting.load_cert_chain(certificate)
        async with client:
            assert await client.call("echo", b"x") == b"x"
            await until(lambda: client.transport == transports[-1], "the transport")


@pytest.mark.parametrize("secure", [False, True])
async def test_a_proxy_that_refuses_is_said(secure: bool) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(waypost.ConnectFailed, match="407") as caught:
            await waypost.Client(f"http{'s' * secure}://127.0.0.1:1", proxy=proxy).connect()
    assert caught.value.status == 407
