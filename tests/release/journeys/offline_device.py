"""A device boots without a network, is switched off, boots again, and connects when the server is there.

It needs nothing but the installed package.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_DEADLINE_S = 60
_LISTENING = re.compile(r"listening on http://127\.0\.0\.1:\d+")

_SERVER = """
import waypost

io = waypost.Server(store="measured.db")


@io.on("connect")
async def connect(socket, auth):
    await socket.consume(f"device:{auth['device']}")


@io.event
async def measured(socket, number):
    print("measured", number, flush=True)
    if number == 4:
        await io.queue("device:7").emit("sleep", 60)
"""

_DEVICE = """
import asyncio
import sys

import waypost


async def main():
    url, *numbers = sys.argv[1:]
    client = waypost.Client(url, auth={"device": 7}, outbox="device.db", reconnection_delay_max_s=1)
    orders = client.events("sleep")
    await client.connect(wait=False)  # returns at once, with a network or without
    for number in numbers:
        await client.emit("measured", int(number))  # on the device's disk now
    print("kept", await client.outbox.count(), flush=True)
    async for order in orders:
        print("ordered to sleep for", order.arg, flush=True)
        await order.ack()
        break
    await client.outbox.drained()
    await client.close()


asyncio.run(main())
"""


def main() -> None:
    """Run the device and then the server in the current directory."""
    Path("measuring.py").write_text(_SERVER, encoding="utf-8")
    Path("device.py").write_text(_DEVICE, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with _running("device.py", url, "1", "2") as device:
        assert _line(device) == "kept 2"
        device.kill()  # switched off, without having seen a network
    with _running("device.py", url, "3", "4") as device:
        assert _line(device) == "kept 4"
        with _running("-m", "waypost", "serve", "measuring:io", "--port", str(port)) as server:
            while not _LISTENING.search(_line(server)):
                pass
            handled = [_line(server) for _ in range(4)]
            assert handled == [f"measured {number}" for number in (1, 2, 3, 4)], handled
            assert _line(device) == "ordered to sleep for 60"
            assert device.wait(_DEADLINE_S) == 0
            server.terminate()
            assert server.wait(_DEADLINE_S) == 0


@contextlib.contextmanager
def _running(*program: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, *program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"{process.args!r} ended"
    return line.rstrip("\n")


if __name__ == "__main__":
    main()
