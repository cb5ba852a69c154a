"""Waypost under plain uvicorn, in front of another ASGI application, and inside Starlette and FastAPI."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.interop.peer import MODES, Peer
from tests.support.raw import request
from tests.support.server_process import ServerProcess

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

# uvicorn alone waits for open polls for as long as they last, and tells the application nothing of it.
_UVICORN_OPTIONS = ("--timeout-graceful-shutdown", "1", "--no-access-log")

# As docs/serving.md says; the others have uvicorn's own WebSocket.
_DIRECT = ("--ws", "waypost:DirectWebSocket", "--ws-per-message-deflate", "false")

APPLICATIONS = {"plain": (), "in_front": _DIRECT, "in_starlette": (), "in_fastapi": _DIRECT}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=APPLICATIONS)
async def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ServerProcess]:
    log: Path = tmp_path_factory.mktemp("uvicorn") / "server.log"
    application = f"tests.interop.frameworks:{request.param}"
    command = ("-m", "uvicorn", application, "--port", "{port}", *_UVICORN_OPTIONS, *APPLICATIONS[request.param])
    server = ServerProcess(command, log)
    server.stop_code = -signal.SIGTERM
    await server.start()
    yield server
    await server.stop()
    server.check_log()


async def test_echo(peer: Peer, served: ServerProcess, mode: str) -> None:
    client = await peer.client(served.url, transports=MODES[mode])
    await client.connected()
    assert await client.call("echo", 1, {"b": b"\x00"}) == [1, {"b": b"\x00"}]
    if mode == "upgrade":
        await client.upgraded()
        assert await client.call("echo", "after the upgrade") == ["after the upgrade"]
    assert (await client.gets("echoed"))[0] == (1, {"b": b"\x00"})
    await peer.leave_all()


async def test_only_uvicorns_own_websocket_logs_who_comes(peer: Peer, served: ServerProcess) -> None:
    client = await peer.client(served.url, transports=MODES["websocket"])
    await client.connected()
    is_direct = served.runs("waypost:DirectWebSocket")
    assert ("[accepted]" in served.log()) is not is_direct
    await peer.leave_all()


async def test_recovery(peer: Peer, served: ServerProcess, mode: str) -> None:
    client = await peer.client(served.url, transports=MODES[mode])
    speaker = await peer.client(served.url)
    await client.connected()
    if mode == "upgrade":
        await client.upgraded()
    await client.away()
    await speaker.call("echo", "missed")
    await client.resume()
    assert (await client.connected(2)).recovered
    assert await client.gets("echoed") == [("missed",)]
    await peer.leave_all()


async def test_the_other_routes_still_answer(served: ServerProcess) -> None:
    answer = await request(served.port, "GET", "/hello")
    if served.runs("frameworks:plain"):
        assert answer.status == 404
    else:
        assert (answer.status, answer.body) == (200, b"hello")


async def test_clients_do_not_hold_up_a_stop(peer: Peer, served: ServerProcess) -> None:
    clients = {mode: await peer.client(served.url, transports=transports) for mode, transports in MODES.items()}
    for client in clients.values():
        await client.connected()
    # A client whose WebSocket dies just before the upgrade's end no longer polls, and notices only by its heartbeat.
    await clients["upgrade"].upgraded()
    served.check_log()
    await served.restart("stop")
    served.skip_log()  # uvicorn logs it as an error when it cancels an open poll
    for client in clients.values():
        await client.connected(2)
        assert await client.call("echo", 1) == [1]
    await peer.leave_all()
