"""Clients and servers that are killed with SIGKILL: nothing is lost, and nothing is handled twice."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable
from pathlib import Path

import waypost
from tests.client.outbox_child import EVENTS, read
from tests.support.link import Link
from tests.support.server_process import REPOSITORY, ServerProcess
from tests.support.waiting import until

KILLS = 4


async def start(what: str, url: str, directory: Path) -> asyncio.subprocess.Process:
    """Start a client in a process of its own; its journal is called like what it does."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.client.outbox_child", what, url, directory / "client.db", directory / what),
        cwd=REPOSITORY,
    )


async def kill_when(process: asyncio.subprocess.Process, condition: Callable[[], bool]) -> None:
    """Kill a client some time after a condition holds; fail if it has ended by itself."""
    await until(lambda: process.returncode is not None or condition(), "something to kill")
    await asyncio.sleep(random.uniform(0, 0.02))
    assert process.returncode is None
    process.kill()
    await process.wait()


async def test_a_killed_client_loses_nothing_and_repeats_nothing(
    io: waypost.Server, url: str, tmp_path: Path
) -> None:
    handled: list[int] = []

    @io.event
    async def order(socket: waypost.Socket, number: int) -> None:
        handled.append(number)
        await asyncio.sleep(0.002)  # so that some wait when the client is killed

    journal = tmp_path / "emit"
    for n in range(KILLS):
        process = await start("emit", url, tmp_path)
        await kill_when(process, lambda n=n: len(read(journal, "begun")) > n * 30 + 10)  # type: ignore[misc]
    process = await start("emit", url, tmp_path)
    assert await process.wait() == 0
    # What a kill interrupted within `emit` may be in the file or not.
    unsure = set(read(journal, "begun")) - set(read(journal, "emitted"))
    assert len(unsure) <= KILLS
    assert handled == [number for number in range(EVENTS) if number not in unsure or number in handled]


async def test_a_killed_server_handles_each_event_once(tmp_path: Path) -> None:
    journal = tmp_path / "handled"
    server = ServerProcess(
        (
            "-m",
            "waypost",
            "serve",
            "tests.client.outbox_app:io",
            "--port",
            "{port}",
            "--store",
            f"{tmp_path}/store.db",
        ),
        tmp_path / "server.log",
        {"journal": str(journal)},
    )
    await server.start()
    options = {"reconnection_delay_s": 0.02, "reconnection_delay_max_s": 0.05}
    async with waypost.Client(server.url, outbox=tmp_path / "client.db", **options) as client:  # type: ignore[arg-type]
        for number in range(EVENTS):
            await client.emit("order", number)
            if number % 50 == 25:
                await server.restart("kill")
        await client.outbox.drained()
    await server.kill()
    server.check_log()
    expected = 0
    handled: dict[int, str] = {}
    for life in journal.read_text().split("started 0\n"):
        for n, line in enumerate(life.splitlines()):
            _, handled_number, message_id = line.split()
            # The last one of a life may not have been stored when the kill came: then it is run again, first of all.
            if n == 0 and int(handled_number) == expected - 1:
                assert handled[expected - 1] == message_id
                continue
            assert int(handled_number) == expected
            handled[expected] = message_id
            expected += 1
    assert expected == EVENTS == len(set(handled.values()))


async def test_a_killed_client_does_not_handle_a_message_again(io: waypost.Server, port: int, tmp_path: Path) -> None:
    journal = tmp_path / "handle"

    io.off("connect")

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: object) -> None:
        await socket.consume("jobs", prefetch=1)

    for number in range(KILLS + 1):
        await io.queue("jobs").emit("job", number)
    # Acknowledgements are so long on their way that the kill overtakes them.
    async with Link.to(port, lambda: 0.3) as link:
        for n in range(KILLS):
            process = await start("handle", link.url, tmp_path)
            await until(lambda n=n: n in read(journal, "handled"), "the next message")  # type: ignore[misc]
            await asyncio.sleep(0.1)  # it is on disk now that it was handled
            process.kill()
            link.cut()
            await process.wait()
    process = await start("handle", f"http://127.0.0.1:{port}", tmp_path)
    await until(lambda: KILLS in read(journal, "handled"), "the last message")
    process.kill()
    await process.wait()
    assert read(journal, "handled") == [*range(KILLS + 1)]
