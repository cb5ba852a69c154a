"""Namespaces, refusals, and why a connection ended, as both sides see it."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio

from tests.interop.conftest import Connect
from tests.interop.peer import MODES, Client, Peer, PeerError
from tests.support.server_process import ServerProcess
from tests.support.waiting import until_async

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]


class Reasons:
    """Asks the server why its sockets were disconnected."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def of(self, sid: str | None) -> str:
        """Wait until the server has seen that socket off, and return the reason it gives."""

        async def ask() -> dict[str, str]:
            [left] = await self._client.call("left")
            return dict(left)

        return (await until_async(ask, lambda left: sid in left, f"{sid} leaves"))[str(sid)]


@pytest_asyncio.fixture(loop_scope="module")
async def reasons(connect: Connect) -> Reasons:
    return Reasons(await connect(namespace="/control"))


async def test_two_namespaces_share_a_connection(connect: Connect, mode: str) -> None:
    main = await connect(mode)
    other = await connect(mode, namespace="/other", share=main)
    assert main.connects[0].engine_id == other.connects[0].engine_id
    assert main.connects[0].id != other.connects[0].id
    assert await main.call("echo", 1, b"2") == [1, b"2"]
    assert await other.call("echo", 1, b"2") == ["other", 1, b"2"]


async def test_leaving_one_namespace_leaves_the_other(connect: Connect, mode: str) -> None:
    main = await connect(mode)
    other = await connect(mode, namespace="/other", share=main)
    await other.disconnect()
    assert await other.disconnected() == "io client disconnect"
    assert await main.call("echo", 1) == [1]
    await other.resume()
    again = await other.connected(2)
    assert again.id != other.connects[0].id
    assert await other.call("echo", 1) == ["other", 1]
    assert main.disconnects == []


async def test_events_of_a_namespace_stay_in_it(connect: Connect, mode: str) -> None:
    main = await connect(mode)
    other = await connect(mode, namespace="/other", share=main)
    await other.call("publish", "for others")
    await main.call("announce", "for main")
    assert await other.gets("news") == [("for others",)]
    assert await main.gets("news") == [("for main",)]


async def test_namespaces_that_clients_make(connect: Connect, mode: str) -> None:
    control = await connect(namespace="/control")
    first = await connect(mode, namespace="/tenant-1")
    second = await connect(mode, namespace="/tenant-2", share=first)
    third = await connect(mode, namespace="/tenant-2")
    for client, name in ((first, "/tenant-1"), (second, "/tenant-2"), (third, "/tenant-2")):
        assert await client.call("where") == [name]
    await third.away()
    await control.call("tell_tenants", {"all": b"of you"})
    await third.resume()
    assert (await third.connected(2)).recovered
    for client in (first, second, third):
        assert await client.gets("news") == [({"all": b"of you"},)]


async def test_a_refused_event_is_answered(connect: Connect, mode: str) -> None:
    control = await connect(mode, namespace="/control")
    await control.call("guard")
    assert await control.call("left") == [{"error": "closed", "data": {"event": "left"}}]


async def test_a_handler_refuses_an_event_and_a_failure_is_not_acknowledged(
    connect: Connect, server: ServerProcess, mode: str
) -> None:
    server.tracebacks_allowed += 1
    control = await connect(mode, namespace="/control")
    assert await control.call("buy", 10) == [{"error": "sold out", "data": {"left": b"nine"}}]
    (misfit,) = await control.call("buy", "ten")
    assert misfit["data"]["parameter"] == "n"
    assert "expected int" in misfit["error"]
    with pytest.raises(PeerError, match="timed out"):
        await control.call("buy", 0, timeout_s=0.2)
    assert await control.call("buy", 3) == [3]


async def test_an_unknown_namespace_is_refused(connect: Connect, mode: str) -> None:
    main = await connect(mode)
    nowhere = await main.peer.client("", namespace="/nowhere", share=main)
    refusal = await nowhere.refused()
    assert refusal.message == "Invalid namespace"
    assert not refusal.active
    assert await main.call("echo", 1) == [1]
    assert main.disconnects == []


@pytest.mark.parametrize("because", ["a word", {"code": 7, "list": [1, None]}, None])
async def test_a_refusal_brings_its_data(
    peer: Peer, server: ServerProcess, connect: Connect, mode: str, because: Any
) -> None:
    client = await peer.client(server.url, transports=MODES[mode], auth={"refuse": because})
    refusal = await client.refused()
    assert refusal.message == "not you"
    assert refusal.data == {"because": because}
    assert client.connects == []
    await client.resume(auth={})
    await client.connected()
    assert await client.call("echo", 1) == [1]


async def test_a_refused_client_hears_nothing(peer: Peer, server: ServerProcess, connect: Connect, mode: str) -> None:
    member = await connect(mode)
    refused = await peer.client(server.url, namespace="/", share=None, auth={"refuse": 1})
    await refused.refused()
    await member.call("announce", "secret")
    await member.gets("news")
    assert refused.history == []
    with pytest.raises(PeerError):
        await refused.call("echo", 1, timeout_s=0.2)


async def test_the_client_disconnects(connect: Connect, reasons: Reasons, mode: str) -> None:
    client = await connect(mode)
    await client.disconnect()
    assert await client.disconnected() == "io client disconnect"
    assert await reasons.of(client.connects[0].id) == "client namespace disconnect"


@pytest.mark.parametrize("close", [False, True], ids=["namespace", "connection"])
async def test_the_server_disconnects(connect: Connect, reasons: Reasons, mode: str, close: bool) -> None:
    client = await connect(mode)
    await client.emit("kick", close)
    assert await client.disconnected() == "io server disconnect"
    assert await reasons.of(client.connects[0].id) == "server namespace disconnect"


async def test_the_server_disconnects_one_namespace(connect: Connect, mode: str) -> None:
    main = await connect(mode)
    other = await connect(mode, namespace="/other", share=main)
    await other.emit("kick")
    assert await other.disconnected() == "io server disconnect"
    assert await main.call("echo", 1) == [1]
    assert main.disconnects == []


async def test_the_client_closes_its_connection(connect: Connect, reasons: Reasons, mode: str) -> None:
    client = await connect(mode)
    await client.pause()
    await client.close_engine()
    assert await client.disconnected() == "forced close"
    assert await reasons.of(client.connects[0].id) == "transport close"


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_the_connection_is_cut(connect: Connect, reasons: Reasons, mode: str, how: str) -> None:
    client = await connect(mode)
    if mode == "upgrade":
        await client.upgraded()
    await client.pause()
    await client.cut("reset" if how == "reset" else "close")
    ended = "transport error" if mode == "polling" else "transport close"
    assert await client.disconnected() == ended
    assert await reasons.of(client.connects[0].id) in ("transport close", "transport error")


@pytest.mark.parametrize("goodbye", [True, False])
@pytest.mark.parametrize("gaps_ms", [(0,), (0, 0, 0), (1,), (2, 1), (30,), (5, 60)])
async def test_connecting_again_at_once_leaves_the_connection(
    connect: Connect, mode: str, gaps_ms: tuple[float, ...], goodbye: bool
) -> None:
    """What React's StrictMode does, with a connection that another namespace holds open."""
    main = await connect(mode)
    other = await connect(mode, namespace="/slow", share=main)
    await other.disconnect()
    await other.disconnected()
    await other.flicker(gaps_ms, goodbye=goodbye)
    await other.connected(2)
    [answer] = await other.call("who")
    assert answer == (await other.state()).id
    assert await main.call("in_slow") == [[answer]]
    assert main.disconnects == []
    assert main.connects[0].engine_id == (await main.state()).engine_id
