"""What probes are told, moment by moment: a start, a full disk, an engine that goes and comes back, a drain."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path

import pytest

import waypost
from tests.serving.test_sides import ask
from tests.support.postgres import PostgresServer
from tests.support.server_process import ServerProcess, free_port
from tests.support.small_disk import small_disk
from tests.support.waiting import until, until_async

EACH = [pytest.param("1"), pytest.param("2", marks=pytest.mark.long)]
PATIENCE_S = 90.0


class Watch:
    """Asks both probes all the time, as Kubernetes does more seldom.

    Attributes:
        said: The seconds since the beginning, and what ``/livez`` and ``/readyz`` answered; 0 for no answer.
    """

    def __init__(self, port: int) -> None:
        self.said: list[tuple[float, int, int]] = []
        self._port = port
        self._began = time.monotonic()

    async def run(self) -> None:
        while True:
            ready, _ = await ask(self._port, "/readyz")
            alive, _ = await ask(self._port, "/livez")
            self.said.append((time.monotonic() - self._began, alive, ready))
            await asyncio.sleep(0.05)

    async def sees(self, *ready: int) -> None:
        """Wait until ``/readyz`` has said these, one after the other."""
        await until(lambda: self.ready() == [*ready], f"/readyz said {ready}: {self}", PATIENCE_S)

    def ready(self) -> list[int]:
        """Return the answers of ``/readyz`` without repetitions, from the first one on."""
        said = [status for status, _ in groupby(ready for _, _, ready in self.said)]
        return said[1:] if said[:1] == [0] else said

    def check_alive(self) -> None:
        """Fail if ``/livez`` has said anything but 200 while there was somebody."""
        first = next(index for index, (_, alive, _) in enumerate(self.said) if alive)
        last = max(index for index, (_, alive, _) in enumerate(self.said) if alive)
        assert {alive for _, alive, _ in self.said[first : last + 1]} == {200}, str(self)

    def __str__(self) -> str:
        # One a second, and each change.
        rows = [next(group) for _, group in groupby(self.said, lambda one: (int(one[0]), one[1], one[2]))]
        return "\n".join(f"{at:6.1f} s  /livez {alive}  /readyz {ready}" for at, alive, ready in rows)


@asynccontextmanager
async def watching(port: int) -> AsyncIterator[Watch]:
    watch = Watch(port)
    asking = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        asking.cancel()
        print(watch)  # noqa: T201  # pytest shows it with a failure, and with -rP


@asynccontextmanager
async def emitting(url: str) -> AsyncIterator[None]:
    """Emit all the time, whether it is stored or not."""
    client = waypost.Client(url)
    await client.connect()

    async def run() -> None:
        while True:
            await client.call("emit", timeout_s=60)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(run())
    try:
        yield
        assert not task.done() or task.exception() is None
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.disconnect()


def make_server(tmp_path: Path, store: str, workers: str, port: int) -> ServerProcess:
    serve = ("-m", "waypost", "serve", "tests.operations.waiting_app:io", "--port", "{port}", "--store", store)
    more = ("--workers", workers, "--health", f"127.0.0.1:{port}")
    server = ServerProcess((*serve, *more), tmp_path / "log", {"go": str(tmp_path / "go")})
    server._environment["WAYPOST_STORE_WAIT_S"] = "300"
    return server


async def started(server: ServerProcess) -> None:
    """Wait until a server that somebody starts has said where it listens."""
    await until(lambda: "listening on" in server.log(), "the server listens", PATIENCE_S)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", EACH)
async def test_a_start_that_waits_then_a_full_disk_then_a_drain(tmp_path: Path, workers: str) -> None:
    directory, port = tmp_path / "disk", free_port()
    directory.mkdir()
    with small_disk(directory, 64 << 20) as disk:
        store = str(directory / "store.db")
        before = waypost.Server(store=store)
        await before.start()
        server = make_server(tmp_path, store, workers, port)
        server._spawn()
        try:
            async with watching(port) as watch:
                await watch.sees(503)
                # It waits for the end of the process that has the file.
                await before.close()
                await watch.sees(503, 200)
                await started(server)
                async with emitting(server.url):
                    disk.leave(4 << 20)
                    await watch.sees(503, 200, 503)
                    disk.free(server)
                    await watch.sees(503, 200, 503, 200)
                os.kill(server.pid, signal.SIGTERM)
                await watch.sees(503, 200, 503, 200, 503)
                (tmp_path / "go").touch()
                await watch.sees(503, 200, 503, 200, 503, 0)
                await until(lambda: not server.alive(), "the process has ended", PATIENCE_S)
                assert server.exit_code == 0
                watch.check_alive()
            server.check_log()
        finally:
            (tmp_path / "go").touch()
            await before.close()
            await server.kill()


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_an_engine_that_goes_away_and_comes_back(
    tmp_path: Path, own_postgres: PostgresServer, workers: str
) -> None:
    port = free_port()
    server = make_server(tmp_path, own_postgres.url(own_postgres.create_database()), workers, port)
    (tmp_path / "go").touch()
    server._spawn()
    try:
        async with watching(port) as watch:
            await until(lambda: 200 in watch.ready(), f"it is ready: {watch}", PATIENCE_S)
            await started(server)
            at = len(watch.ready())
            client = waypost.Client(server.url)
            await client.connect()
            await asyncio.to_thread(own_postgres.kill)
            await until(lambda: watch.ready()[at:] == [503], f"it is not ready: {watch}", PATIENCE_S)
            assert client.connected  # whoever is there stays
            await asyncio.to_thread(own_postgres.start)
            await until(lambda: watch.ready()[at:] == [503, 200], f"it is ready again: {watch}", PATIENCE_S)
            stored = await until_async(
                lambda: client.call("emit", timeout_s=30), bool, "an emit is stored", PATIENCE_S
            )
            assert stored
            assert client.connected
            await client.disconnect()
            await server.stop()
            await until(lambda: watch.ready()[-1] == 0, f"nobody is there: {watch}", PATIENCE_S)
            assert set(watch.ready()[:at]) <= {503, 200}
            watch.check_alive()
    finally:
        await server.kill()


@pytest.mark.parametrize(
    ("megabytes", "workers"),
    [
        pytest.param(24, "1"),
        pytest.param(4096, "1", marks=[pytest.mark.long, pytest.mark.timeout(3000)]),
        pytest.param(4096, "2", marks=[pytest.mark.long, pytest.mark.timeout(3000)]),
    ],
)
async def test_a_start_with_a_large_store_that_was_not_closed(tmp_path: Path, megabytes: int, workers: str) -> None:
    if shutil.disk_usage(tmp_path).free < 3 * megabytes << 20:
        pytest.skip("the disk is too small")
    store, port = tmp_path / "store.db", free_port()
    server = make_server(tmp_path, str(store), workers, port)
    (tmp_path / "go").touch()
    try:
        await server.start()
        client = waypost.Client(server.url)
        await client.connect()
        for _ in range(0, megabytes, 8):
            await client.call("fill", 8, 1 << 20, timeout_s=120)
        await client.disconnect()
        await server.kill()
        # The newest are in the log beside it, which the next start takes over.
        assert sum(file.stat().st_size for file in tmp_path.glob("store.db*")) >= megabytes << 20
        async with watching(port) as watch:
            await server.start()
            await until(lambda: watch.ready()[-1:] == [200], f"it is ready: {watch}", PATIENCE_S)
            assert watch.ready() in ([503, 200], [200]), str(watch)
            await server.stop()
            await until(lambda: watch.ready()[-1] == 0, f"nobody is there: {watch}", PATIENCE_S)
            watch.check_alive()
    finally:
        await server.kill()
        for file in tmp_path.glob("store.db*"):
            file.unlink()
