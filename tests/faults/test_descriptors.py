"""Out of file descriptors: it is logged, once, and the server goes on when there are some again."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import pytest

from tests.support.raw import exchange, parse, request_bytes, target
from tests.support.server_process import ServerProcess
from tests.support.waiting import until, until_async

pytestmark = pytest.mark.asyncio

_LIMIT = 64


async def test_no_descriptors_left(tmp_path: Path) -> None:
    command = ("-c", f'ulimit -n {_LIMIT}; exec "$0" -m waypost serve tests.interop.app:io --port {{port}}')
    server = ServerProcess((*command, sys.executable), tmp_path / "server.log", program="bash")
    await server.start()
    try:
        connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2 * _LIMIT)]
        await until(lambda: "out of file descriptors" in server.log(), "it is logged")
        await asyncio.sleep(1.5)  # asyncio would say it again each second
        for connection in connections:
            connection.close()
        assert server.log().count("out of file descriptors") == 1
        assert "Traceback" not in server.log()
        assert "out of system resource" not in server.log()
        # Until the server has closed its ends, uvloop drops what comes: it accepts and closes it.
        answer = await until_async(lambda: exchange(server.port, request_bytes("GET", target())), bool, "it serves")
        assert parse(answer).status == 200
    finally:
        await server.stop()
