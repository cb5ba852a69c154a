"""Servers behind proxies, for every proxy, over TLS with HTTP/2 and over plain HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.proxies.proxy import PROXIES, Certificate, Proxy
from tests.support.server_process import HEARTBEAT, ServerProcess

OPTIONS = {"drain_s": 0.2, **HEARTBEAT, "trusted_proxies": ["127.0.0.1"]}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """The certificate of the site."""
    return Certificate.make(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(params=PROXIES)
def kind(request: pytest.FixtureRequest) -> str:
    """Which proxy."""
    return str(request.param)


@pytest.fixture(params=[True, False], ids=["tls", "plain"])
def secure(request: pytest.FixtureRequest) -> bool:
    """Whether clients come over TLS and, if they can, HTTP/2."""
    return bool(request.param)


@pytest_asyncio.fixture(loop_scope="module")
async def site(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """The server behind the proxy, with an SQLite store; it may be killed."""
    server = ServerProcess.waypost(tmp_path / "server.log", str(tmp_path / "store.db"), OPTIONS)
    await server.start()
    yield server
    await server.stop()
    server.check_log()


@pytest_asyncio.fixture(loop_scope="module")
async def proxy(
    site: ServerProcess, kind: str, secure: bool, certificate: Certificate, tmp_path: Path
) -> AsyncIterator[Proxy]:
    """The proxy before it, configured as docs/serving.md says."""
    (tmp_path / "proxy").mkdir()
    proxy = Proxy(kind, site.port, certificate, tmp_path / "proxy", secure=secure)
    await proxy.start()
    yield proxy
    await proxy.kill()
