"""The server's part in the scenario that the client programs play; see programs/README.md."""

from __future__ import annotations

from collections.abc import Sequence

import waypost
from tests.clients.programs import Kind, Lines
from tests.support.server_process import ServerProcess
from tests.support.waiting import until_async

__all__ = ["MODES", "SERVED", "play"]

MODES = ("polling", "websocket", "upgrade")
SERVED = ("-m", "waypost", "serve", "tests.clients.app:io", "--port", "{port}", "--store")
"""The server's command line, without its store."""


async def _settled(controller: waypost.Client, name: str) -> None:
    await until_async(
        lambda: controller.call("waiting", name), lambda left: left == 0, f"all jobs of {name} acknowledged"
    )


async def play(server: ServerProcess, program: Lines, name: str, steps: Sequence[str], *, does: Kind) -> None:
    """Go through the first connect, events and jobs, and a kill of the server; nothing is lost or comes twice.

    Args:
        server: The server, which plays its part by tests/clients/app.py.
        program: What the client's program prints.
        name: The client's room and queue.
        steps: The lines that its first connect brings.
        does: What the client can do.
    """
    await program.connected(1)
    await program.says(steps)
    async with waypost.Client(server.url) as controller:
        await controller.call("publish_bytes", name)
        for number in (1, 2, 3):
            await controller.call("publish", name, number)
            if does.acknowledges:
                await controller.call("enqueue", name, number)
        await program.says(["bytes", *(f"news {number}" for number in (1, 2, 3))])
        if does.acknowledges:
            await program.says([f"job {number}" for number in (1, 2, 3)])
            await _settled(controller, name)
    await server.kill()
    await server.start()
    async with waypost.Client(server.url) as controller:
        if does.acknowledges:
            await controller.call("enqueue", name, 4)
        if does.recovers:
            await controller.call("publish", name, 4)
        await program.connected(2)
        await controller.call("publish", name, 5)
        await program.says(["news 5", *(["news 4"] if does.recovers else [])])
        if does.acknowledges:
            await program.says(["job 4"])
            await _settled(controller, name)
    assert program.numbers("news") == ([1, 2, 3, 4, 5] if does.recovers else [1, 2, 3, 5])
    assert program.numbers("job") == ([1, 2, 3, 4] if does.acknowledges else [])
