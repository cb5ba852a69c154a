"""Bytes of the store's file change while the server is stopped, and official clients come back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.interop.peer import MODES, Peer
from tests.interop.publishing import ROOM
from tests.recovery.clients import Clients, came_back, come_back, numbers, publish, reason
from tests.recovery.conftest import SHORT_HEARTBEAT, Launch
from tests.support.server_process import ServerProcess

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

MARK = "the-event-that-is-to-be-damaged"


async def change(server: ServerProcess, path: Path, mark: str) -> None:
    """Stop a server, change ten bytes of its file, and start it again."""
    await server.stop()
    content = bytearray(path.read_bytes())
    start = content.find(mark.encode())
    assert start >= 0
    for index in range(start, start + 10):
        content[index] ^= 0x15
    await asyncio.to_thread(path.write_bytes, content)
    await server.start()


async def test_clients_that_missed_a_damaged_event_are_told(peer: Peer, launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    server = await launch(store=str(path), **SHORT_HEARTBEAT)
    clients = Clients(peer, server)
    speaker = await clients.connect()
    behind = [await clients.listen(mode) for mode in MODES]
    ahead = [await clients.listen(mode) for mode in MODES]
    await publish(speaker, 0, 2)
    for client in (*behind, *ahead):
        await client.hears("news", 1)
    for client in behind:
        await client.away()
    await speaker.call("publish", ROOM, MARK)
    await publish(speaker, 3, 5)
    for client in ahead:
        await client.hears("news", 4)
        await client.away()
    await publish(speaker, 5, 7)
    await change(server, path, MARK)
    # Whom the event was for can't be told either.
    await speaker.connected(2)
    assert speaker.connects[-1].recovered or await reason(speaker) == "damaged"
    for client in ahead:
        await come_back(client)
    for client in behind:
        await come_back(client, recovered=False)
        assert await reason(client) == "damaged"
    await publish(speaker, 7, 9)
    for client in (*behind, *ahead):
        await client.hears("news", 8)
    # No gate stays shut, and nothing was shown that was not sent.
    assert [numbers(client) for client in behind] == [[0, 1, 7, 8]] * len(behind)
    assert [numbers(client) for client in ahead] == [[0, 1, MARK, 3, 4, 5, 6, 7, 8]] * len(ahead)
    # The next absence is one like any other.
    for client in behind:
        await client.away()
    await publish(speaker, 9, 11)
    for client in behind:
        await come_back(client)
        await client.hears("news", 10)


async def test_a_client_whose_session_is_damaged_is_told(peer: Peer, launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    server = await launch(store=str(path), **SHORT_HEARTBEAT)
    clients = Clients(peer, server)
    speaker, listener = await clients.connect(), await clients.listen()
    await publish(speaker, 0, 2)
    await listener.hears("news", 1)
    sid = listener.connects[-1].id
    assert sid is not None
    await listener.away()
    await publish(speaker, 2, 4)
    await change(server, path, sid)
    await came_back(speaker, 2)
    await come_back(listener, recovered=False)
    assert await reason(listener) == "damaged"
    await publish(speaker, 4, 6)
    await listener.hears("news", 5)
    assert numbers(listener) == [0, 1, 4, 5]
