"""A server loses its store's file while it runs: what would be stored is refused within seconds.

The log says why, and clients are served as far as that goes without a store.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.disk_app import STORED
from tests.interop.peer import Client, Peer
from tests.interop.test_disks import make_server
from tests.support.waiting import until_async

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

QUEUE = "jobs"


async def refused(client: Client, problem: str) -> None:
    """Fail unless emits of both kinds are refused soon, and stay refused."""
    answer = await until_async(
        lambda: client.call("publish", 1, 10), lambda answer: answer != [STORED], "an emit is refused"
    )
    assert problem in answer[0], answer
    assert await client.call("publish", 1, 10) == answer
    assert await client.call("enqueue", QUEUE, 1, 10) == answer


def remove(store: Path) -> None:
    store.unlink()


def cut(store: Path) -> None:
    os.truncate(store, store.stat().st_size // 2)


def empty(store: Path) -> None:
    os.truncate(store, 0)


def replace(store: Path) -> None:
    other = store.with_name("other.db")
    other.write_bytes(store.read_bytes())
    other.rename(store)


def remove_log(store: Path) -> None:
    Path(f"{store}-wal").unlink()


def remove_index(store: Path) -> None:
    Path(f"{store}-shm").unlink()


def cut_log(store: Path) -> None:
    os.truncate(f"{store}-wal", 100)


@pytest.mark.parametrize(
    ("lose", "problem"),
    [
        (remove, "it was removed"),
        (cut, "it was cut short"),
        (empty, "it was cut short"),
        (replace, "another file was put in the place of it"),
        (remove_log, "-wal was removed"),
        (remove_index, "-shm was removed"),
        (cut_log, "-wal was cut short"),
    ],
)
async def test_a_file_that_is_lost_is_noticed(
    peer: Peer, tmp_path: Path, lose: Callable[[Path], None], problem: str
) -> None:
    store = tmp_path / "store.db"
    server = make_server(store, tmp_path / "server.log")
    await server.start()
    client = await peer.client(server.url, transports=["websocket"])
    for number in range(3):
        assert await client.call("publish", number, 100_000) == [STORED]
    lose(store)
    await refused(client, problem)
    assert await client.call("echo", "still here") == ["still here"]
    assert server.log().count("nothing more can be stored") == 1
    await peer.leave_all()
    await server.kill()
    server.check_log()


def link(store: Path) -> Path:
    """Give the store a second name."""
    other = store.with_name("other.db")
    os.link(store, other)
    return other


def remove_owner(store: Path) -> Path:
    Path(f"{store}-owner").unlink()
    return store


@pytest.mark.parametrize("another_way", [link, remove_owner])
async def test_a_second_server_ends_the_first_one(
    peer: Peer, tmp_path: Path, another_way: Callable[[Path], Path]
) -> None:
    store = tmp_path / "store.db"
    first = make_server(store, tmp_path / "first.log")
    await first.start()
    client = await peer.client(first.url, transports=["websocket"])
    assert await client.call("publish", 0, 10) == [STORED]
    second = make_server(another_way(store), tmp_path / "second.log")
    await second.start()
    other = await peer.client(second.url, transports=["websocket"])
    [answer] = await client.call("publish", 1, 10)
    assert "another server has opened it since" in answer, "its very next commit"
    assert await other.call("publish", 2, 10) == [STORED]
    assert await other.call("enqueue", QUEUE, 1, 10) == [STORED]
    # Its clients are sent away, as nothing reaches them here any more.
    await client.disconnected()
    await peer.leave_all()
    await first.stop()
    await second.stop()
    for server in (first, second):
        server.check_log()
