"""Official clients of every protocol that is spoken: 4.8, 4.0 and 3.1, and 2.5 over Engine.IO 3."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from tests.interop.conftest import Connect
from tests.interop.peer import MODES, Peer
from tests.interop.test_namespaces import Reasons
from tests.support.server_process import ServerProcess

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

# Before 4.6 clients know nothing of recovery, and would show the offset as one more argument.
SERVER_OPTIONS = {"allow_eio3": True, "recovery": None, "ping_interval_s": 0.15, "ping_timeout_s": 5}

ARGUMENTS: list[Any] = [1, "naïve ☃ 🜁", {"a": [b"\x00\xff", {"b": b""}]}, b"4", None, "\u2028\\n\n", True]


@pytest.fixture(params=["4", "4.0", "3", "2"])
def version(request: pytest.FixtureRequest) -> str:
    """Which client it is; ``"4"`` is the newest."""
    return str(request.param)


@pytest_asyncio.fixture(loop_scope="module")
async def reasons(connect: Connect) -> Reasons:
    return Reasons(await connect(namespace="/control"))


async def test_events_acks_and_binary_both_ways(connect: Connect, version: str, mode: str) -> None:
    client = await connect(mode, version=version, rules={"question": "echo"})
    for _ in range(2):
        assert await client.call("echo", *ARGUMENTS) == ARGUMENTS
        await client.emit("say", *ARGUMENTS)
        await client.hears("said", *ARGUMENTS)
        assert await client.call("ask", b"why", {"x": 1}) == [b"why", {"x": 1}]
        if mode == "upgrade":
            await client.upgraded()
    assert (await client.state()).transport == ("polling" if mode == "polling" else "websocket")
    assert client.disconnects == []


async def test_events_keep_their_order_over_the_upgrade(connect: Connect, version: str) -> None:
    client = await connect("upgrade", version=version)
    await client.burst("count", [0, 0, 1, 0, 5, 1, 0, 10, 0, 2, 5])
    await client.upgraded()
    await client.burst("count", [0])
    assert await client.call("counted") == [[*range(11), 0]]


async def test_many_events_in_one_payload(connect: Connect, version: str) -> None:
    client = await connect("polling", version=version)
    await client.burst("count", [0] * 100)
    assert await client.call("counted") == [list(range(100))]


async def test_the_heartbeat_keeps_the_connection(connect: Connect, version: str, mode: str) -> None:
    client = await connect(mode, version=version)
    await client.pinged(3)
    assert await client.call("echo", "alive") == ["alive"]
    assert client.disconnects == []


async def test_namespaces_on_one_connection(connect: Connect, version: str) -> None:
    main = await connect(version=version)
    other = await connect(version=version, namespace="/other", share=main)
    assert main.connects[0].engine_id == other.connects[0].engine_id
    assert main.connects[0].id != other.connects[0].id
    assert await main.call("echo", 1, b"2") == [1, b"2"]
    assert await other.call("echo", 1, b"2") == ["other", 1, b"2"]
    await other.disconnect()
    await other.disconnected()
    await other.resume()
    await other.connected(2)
    assert await other.call("echo", 3) == ["other", 3]
    assert main.disconnects == []


async def test_refusals(peer: Peer, server: ServerProcess, version: str) -> None:
    main = await peer.client(server.url, transports=MODES["websocket"], version=version)
    await main.connected()
    nowhere = await peer.client(server.url, namespace="/nowhere", share=main)
    refusal = await nowhere.refused()
    assert (refusal.message, refusal.data) == ("Invalid namespace", None)
    strict = await peer.client(server.url, namespace="/other", share=main, auth={"refuse": "this & that"})
    refusal = await strict.refused()
    assert refusal.message == (None if version == "2" else "not you")
    assert refusal.data == {"because": "this & that"}
    await peer.leave_all()


async def test_rooms(connect: Connect, version: str) -> None:
    inside, outside = await connect(version=version), await connect("polling", version=version)
    await inside.call("join", "cellar")
    await outside.call("publish", "cellar", "to the room", b"1")
    await inside.hears("news", "to the room", b"1")
    await outside.call("whisper", inside.connects[0].id, "to the id")
    await inside.hears("news", "to the id")
    await inside.call("leave", "cellar")
    await outside.call("publish", "cellar", "nobody")
    await outside.call("announce", "everybody")
    await inside.hears("news", "everybody")
    await outside.hears("news", "everybody")
    assert ("nobody",) not in inside.args_of("news")


async def test_the_server_disconnects(connect: Connect, version: str, mode: str, reasons: Reasons) -> None:
    for close, reason in ((False, "io server disconnect"), (True, "io server disconnect")):
        client = await connect(mode, version=version)
        sid = client.connects[0].id
        await client.pause()
        await client.emit("kick", close)
        assert await client.disconnected() == reason
        assert await reasons.of(sid) == "server namespace disconnect"


async def test_the_client_disconnects(connect: Connect, version: str, mode: str, reasons: Reasons) -> None:
    client = await connect(mode, version=version)
    await client.disconnect()
    assert await client.disconnected() == "io client disconnect"
    assert await reasons.of(client.connects[0].id) == "client namespace disconnect"


async def test_the_client_is_cut_off_and_comes_back(connect: Connect, version: str, mode: str) -> None:
    client = await connect(mode, version=version)
    await client.cut()
    await client.connected(2)
    assert await client.call("echo", "back") == ["back"]
