"""An emitter beside a service of several workers: its events reach the clients of all of them, in one order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.support.server_process import ServerProcess
from tests.support.waiting import until
from waypost.cli import main

_WORKERS = 3


def _server(folder: Path, store: str, *more: str) -> ServerProcess:
    command = ("-m", "waypost", "serve", "tests.workers.app:io", "--port", "{port}", "--workers", str(_WORKERS))
    return ServerProcess((*command, "--store", store, *more), folder / "server.log", {"drain_s": 0.1})


async def _clients(url: str) -> list[tuple[waypost.Client, list[Any]]]:
    """Connect clients until each worker has one."""
    found: list[tuple[waypost.Client, list[Any]]] = []
    workers: set[int] = set()
    while len(workers) < _WORKERS:
        client, got = waypost.Client(url), list[Any]()
        client.on_any(lambda event, *args, got=got: got.append((event, *args)))
        await client.connect()
        workers.add((await client.call("where"))[0])
        found.append((client, got))
    return found


async def judge(url: str, emitter: waypost.Emitter) -> None:
    """Emit beside the workers, and check what their clients get."""
    clients = await _clients(url)
    (first, _), (last, _) = clients[0], clients[-1]
    await emitter.to("all").emit("one", b"\x00")
    await emitter.to("all").emit("one", b"\x00", id="x")
    await emitter.to("all").emit("one", b"\x00", id="x")
    await until(lambda: all(len(got) == 2 for _, got in clients), "all have the first two")
    await asyncio.gather(*(first.call("tell", number) for number in range(20)), _emit(emitter, 20))
    await emitter.to(str(last.id)).sockets_join("few")
    await emitter.to("few").emit("few")
    await emitter.except_("few").sockets_leave("all")
    await emitter.to("all").emit("end")
    await emitter.to("few").disconnect_sockets()
    await until(lambda: not last.connected, "the last client is disconnected")
    await until(lambda: clients[-1][1][-1:] == [("end",)], "the last client has all events")
    await until(lambda: all(len(got) >= 42 for _, got in clients), "all have their events")
    assert all(got == clients[0][1] for _, got in clients[:-1]), "one order for all"
    assert clients[-1][1] == [*clients[0][1], ("few",), ("end",)]
    assert clients[0][1][:2] == [("one", b"\x00")] * 2
    assert all(client.connected for client, _ in clients[:-1])
    for client, _ in clients:
        await client.close()


async def _emit(emitter: waypost.Emitter, times: int) -> None:
    for number in range(times):
        await emitter.to("all").emit("outside", number)


async def test_events_reach_the_clients_of_all_workers_through_the_file(tmp_path: Path) -> None:
    server = _server(tmp_path, str(tmp_path / "store.db"))
    await server.start()
    try:
        async with waypost.Emitter(tmp_path / "store.db") as emitter:
            await judge(server.url, emitter)
    finally:
        await server.stop()


async def test_events_reach_the_clients_of_all_workers_through_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    server = _server(tmp_path, "memory:", "--emitter-socket", str(path))
    await server.start()
    try:
        assert path.stat().st_mode & 0o777 == 0o600
        async with waypost.Emitter(f"unix:{path}") as emitter:
            await judge(server.url, emitter)
            assert await emitter.queue("q").emit("x", id="7") == "7"
            with pytest.raises(waypost.EncodingFailed):
                await emitter.emit("x", object())
    finally:
        await server.stop()
    assert not path.exists()


async def test_a_service_that_is_gone_and_comes_back_is_told(tmp_path: Path) -> None:
    path = tmp_path / "s"
    emitter = waypost.Emitter(f"unix:{path}")
    with pytest.raises(waypost.ConfigurationError, match="--emitter-socket"):
        await emitter.emit("x")
    server = _server(tmp_path, "memory:", "--emitter-socket", str(path))
    await server.start()
    try:
        await emitter.emit("x")
        await server.kill()
        with pytest.raises(waypost.StorageError):
            await emitter.emit("x", id="1")
        await server.start()
        # What the earlier one has left behind is replaced.
        await emitter.emit("x", id="1")
        await emitter.close()
    finally:
        await server.stop()


def test_one_process_has_no_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "tests.workers.app:io", "--emitter-socket", str(tmp_path / "s")]) == 2
    assert "--workers 2" in capsys.readouterr().err
