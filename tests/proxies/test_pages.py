"""What a server behind a proxy knows of its clients: whose page it is, where it is from, and a browser's HTTP/2."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.clients.browsers import open_browser
from tests.clients.playing import MODES, SERVED, play
from tests.clients.programs import CLIENTS, build
from tests.proxies.proxy import Certificate, Proxy
from tests.support.server_process import ServerProcess

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

ANOTHER_ADDRESS = "127.0.0.2"


async def ask(proxy: Proxy, certificate: Certificate, transport: str, headers: dict[str, str]) -> int:
    """Make a handshake through a proxy from another address than its own, and return the status."""
    tls = certificate.context() if proxy.url.startswith("https") else True
    connector = aiohttp.TCPConnector(ssl=tls, local_addr=(ANOTHER_ADDRESS, 0))
    where = f"{proxy.url}/socket.io/?EIO=4&transport={transport}"
    async with aiohttp.ClientSession(connector=connector) as session:
        if transport == "polling":
            async with session.get(where, headers=headers) as answer:
                return answer.status
        try:
            async with session.ws_connect(where, headers=headers) as connection:
                await connection.receive_str()
                return 101
        except aiohttp.WSServerHandshakeError as refusal:
            return refusal.status


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_pages_of_the_site_are_admitted_and_others_refused(
    site: ServerProcess, proxy: Proxy, certificate: Certificate, transport: str
) -> None:
    welcome = 200 if transport == "polling" else 101
    assert await ask(proxy, certificate, transport, {"Origin": proxy.url}) == welcome
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    before = site.log_position()
    assert await ask(proxy, certificate, transport, {"Origin": "https://evil.example", **forged}) == 400
    told = "\n".join(site.log_since(before))
    assert f"refused a request from {ANOTHER_ADDRESS}: " in told
    assert f"its origin is https://evil.example, its Host header says 127.0.0.1:{proxy.port};" in told
    assert 'cors_allowed_origins=["https://evil.example"]' in told


async def test_a_page_without_tls_is_not_of_a_site_with_it(
    site: ServerProcess, proxy: Proxy, certificate: Certificate, secure: bool
) -> None:
    page = proxy.url.replace("https:", "http:")
    assert await ask(proxy, certificate, "polling", {"Origin": page}) == (400 if secure else 200)


async def test_a_host_without_its_port_gets_a_hint(
    site: ServerProcess, certificate: Certificate, secure: bool, tmp_path: Path
) -> None:
    proxy = Proxy("nginx", site.port, certificate, tmp_path, secure=secure, changes=(("$http_host", "$host"),))
    await proxy.start()
    try:
        before = site.log_position()
        assert await ask(proxy, certificate, "polling", {"Origin": proxy.url}) == 400
        told = "\n".join(site.log_since(before))
        assert f"its Host header says 127.0.0.1, without port {proxy.port}" in told
        assert "nginx: $http_host instead of $host" in told
    finally:
        await proxy.kill()


@pytest_asyncio.fixture(loop_scope="module")
async def played(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """The server of the client programs' scenario."""
    server = ServerProcess((*SERVED, str(tmp_path / "store.db")), tmp_path / "server.log")
    await server.start()
    yield server
    await server.stop()
    server.check_log()


def protocol_of(proxy: Proxy, certificate: Certificate) -> str | None:
    """Return which protocol a proxy chooses of those that browsers offer."""
    context = certificate.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        return connection.selected_alpn_protocol()


@pytest.mark.chromium
@pytest.mark.parametrize("mode", MODES)
async def test_a_browser_plays_the_scenario_over_http_2(
    played: ServerProcess, kind: str, certificate: Certificate, mode: str, tmp_path: Path
) -> None:
    await asyncio.to_thread(build, "js")
    for folder in ("proxy", "profile"):
        (tmp_path / folder).mkdir()
    proxy = Proxy(kind, played.port, certificate, tmp_path / "proxy", secure=True)
    await proxy.start()
    try:
        assert await asyncio.to_thread(protocol_of, proxy, certificate) == "h2"
        async with open_browser("Chromium", proxy.url, mode, "seven", tmp_path / "profile") as program:
            await play(played, program, "seven", CLIENTS[0].steps, does=CLIENTS[0])
    finally:
        await proxy.kill()
