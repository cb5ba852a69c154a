"""Connections whose TLS is in the worker: their bytes are forwarded to the worker of the session."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

import waypost
from tests.server.model_client import hub_of
from tests.support.mesh import Worker, serving_nodes, serving_workers
from tests.support.raw import WAIT_S, parse, request_bytes, target
from tests.support.require import require_openssl
from tests.support.waiting import until
from tests.transports.handover.test_handing_over import answer, kept

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and its certificate for 127.0.0.1."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path)]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [require_openssl(), "req", "-x509", *key, *names, "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def trusted(certificate: Path) -> ssl.SSLContext:
    """What clients trust."""
    return ssl.create_default_context(cafile=certificate)


async def say_who(websocket: WebSocket) -> None:
    """Another WebSocket of the application, which compresses or not."""
    await websocket.accept()
    assert websocket.client is not None
    await websocket.send_text(f"{websocket.url.scheme} {websocket.client.host}:{websocket.client.port}")
    await websocket.close()


def application(io: waypost.Server) -> Starlette:
    return Starlette(routes=[WebSocketRoute("/who", say_who), Mount("/socket.io", io)])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def linked(certificate: Path) -> AsyncIterator[list[Worker]]:
    """Three workers in this process."""
    files: dict[str, Any] = {"ssl_certfile": str(certificate), "ssl_keyfile": str(certificate)}
    async with serving_workers(3, application, **files) as workers:
        yield workers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def far(certificate: Path) -> AsyncIterator[list[Worker]]:
    """Three nodes in this process, each on another machine as far as they know."""
    files: dict[str, Any] = {"ssl_certfile": str(certificate), "ssl_keyfile": str(certificate)}
    async with serving_nodes(3, application, **files) as nodes:
        yield nodes


@pytest.fixture(params=["one machine", "several machines"])
def workers(request: pytest.FixtureRequest, linked: list[Worker], far: list[Worker]) -> list[Worker]:
    """Three of them."""
    return linked if request.param == "one machine" else far


@contextlib.asynccontextmanager
async def line(worker: Worker, trusted: ssl.SSLContext) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port, ssl=trusted)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


class Line:
    """One connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, method: str, where: str, body: bytes | None = None) -> bytes:
        self.writer.write(kept(method, where, body))
        return await answer(self.reader)


async def opened(line: Line) -> str:
    """Open a session and join the main namespace."""
    sid = str((await line.ask("GET", target())).partition(b'"sid":"')[2].partition(b'"')[0].decode())
    assert await line.ask("POST", target(sid=sid), b"40") == b"ok"
    assert (await line.ask("GET", target(sid=sid))).startswith(b"40")
    return sid


async def test_polling_of_all_workers_over_one_connection(workers: list[Worker], trusted: ssl.SSLContext) -> None:
    async with contextlib.AsyncExitStack() as ends:
        lines = [await ends.enter_async_context(line(worker, trusted)) for worker in workers]
        sids = [await opened(one) for one in lines]
        assert [sid[-2:] for sid in sids] == [".1", ".2", ".3"]
        for turn in range(3):
            for number, sid in enumerate(sids, 1):
                assert await lines[0].ask("POST", target(sid=sid), b'42%d["worker"]' % turn) == b"ok"
                assert await lines[0].ask("GET", target(sid=sid)) == b"43%d[%d]" % (turn, number)
        assert workers[0].passed[2] >= 1
        large = b'421["size","%s"]' % (b"x" * 900_000)
        assert await lines[0].ask("POST", target(sid=sids[1]), large) == b"ok"
        assert await lines[0].ask("GET", target(sid=sids[1])) == b"431[900000]"
        large = b'421["echo","%s"]' % (b"x" * 900_000)
        assert await lines[0].ask("POST", target(sid=sids[2]), large) == b"ok"
        assert await lines[0].ask("GET", target(sid=sids[2])) == b"43" + large[2:].replace(b'"echo",', b"")


async def test_an_upgrade_keeps_where_the_client_comes_from(workers: list[Worker], trusted: ssl.SSLContext) -> None:
    home, other, _ = workers
    async with line(home, trusted) as one:
        sid = await opened(one)
        where = f"wss://127.0.0.1:{other.port}" + target(transport="websocket", sid=sid)
        async with connect(where, ssl=trusted, compression=None) as connection:
            await connection.send("2probe")
            assert await connection.recv() == "3probe"
            assert await one.ask("GET", target(sid=sid)) == b"6"
            await connection.send("5")
            for size in (1, 900_000):
                await connection.send('421["size","' + "x" * size + '"]')
                assert await connection.recv() == f"431[{size}]"
            engine = hub_of(home.io).engine
            kept = engine.get(sid)
            assert kept is not None
            assert kept.transport == "websocket"
            assert kept.handshake.secure
            assert kept.handshake.address == "127.0.0.1"
        await until(lambda: engine.get(sid) is None, "its end reaches the worker")


async def test_a_new_session_elsewhere_knows_address_and_tls(linked: list[Worker], trusted: ssl.SSLContext) -> None:
    leaving, _, third = linked
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaving.handover, "is_leaving", lambda: True)
        patch.setattr(leaving.handover._links["2"], "is_leaving", True)
        async with line(leaving, trusted) as one:
            sid = await opened(one)
            assert sid.endswith(".3")
            session = hub_of(third.io).engine.get(sid)
            assert session is not None
            assert session.handshake.secure
            assert session.handshake.address == "127.0.0.1"
        where = f"wss://127.0.0.1:{leaving.port}/who?EIO=4"
        for compression in (None, "deflate"):
            async with connect(where, ssl=trusted, compression=compression) as connection:
                host, port = connection.local_address[:2]
                assert await connection.recv() == f"wss {host}:{port}"


async def test_a_client_that_leaves_and_one_that_reads_slowly(workers: list[Worker], trusted: ssl.SSLContext) -> None:
    home, other, _ = workers
    async with line(home, trusted) as one, line(other, trusted) as away:
        sid = await opened(one)
        large = b'421["echo","%s"]' % (b"x" * 900_000)
        assert await one.ask("POST", target(sid=sid), large) == b"ok"
        away.writer.write(kept("GET", target(sid=sid)))
        await asyncio.sleep(0.05)
        assert len(await answer(away.reader)) > 900_000
        away.writer.write(kept("GET", target(sid=sid)))
        engine = hub_of(home.io).engine
        session = engine.get(sid)
        assert session is not None
        await until(lambda: session._session._poll_open, "the poll waits")
        away.writer.transport.abort()
        await until(lambda: engine.get(sid) is None, "the session ends")


async def test_a_worker_that_is_gone(certificate: Path, trusted: ssl.SSLContext) -> None:
    files: dict[str, Any] = {"ssl_certfile": str(certificate), "ssl_keyfile": str(certificate)}
    async with serving_workers(2, **files) as (home, other), line(home, trusted) as one, line(other, trusted) as two:
        sid = await opened(one)
        assert await two.ask("POST", target(sid=sid), b'421["worker"]') == b"ok"
        home.handover.close()
        async with line(other, trusted) as third:
            third.writer.write(request_bytes("GET", target(sid=sid)))
            async with asyncio.timeout(WAIT_S):
                refused = parse(await third.reader.read())
            assert (refused.status, refused.code) == (400, 1)
