"""Official clients of every protocol at two servers on one store: what concerns many reaches those of both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

import waypost
from tests.interop.peer import MODES, Client, Peer, Rule
from tests.support.nodes import Nodes, join
from waypost.transports.uvicorn_runner import bind, running

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]


def sid_of(client: Client) -> str:
    sid = client.connects[0].id
    assert sid is not None
    return sid


@dataclass
class Site:
    """Two servers, and clients of the newest and the oldest protocol at each.

    Attributes:
        servers: The servers.
        new: A client of the newest protocol at each server.
        old: A client over Engine.IO 3 at each server.
    """

    servers: list[waypost.Server]
    new: list[Client]
    old: list[Client]

    @property
    def clients(self) -> list[Client]:
        return [*self.new, *self.old]

    async def all_hear(self, event: str, *args: object) -> None:
        for client in self.clients:
            await client.hears(event, *args)


def _prepare(io: waypost.Server) -> None:
    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        await socket.join("room")

    @io.event
    async def say(socket: waypost.Socket, text: str) -> None:
        await socket.broadcast.emit("said", text)

    @io.event
    async def whisper(socket: waypost.Socket, sid: str, text: str) -> None:
        await socket.to(sid).emit("whispered", text)


# Before 4.6 clients know nothing of recovery. Over Engine.IO 3 they get no offset in either case.
@pytest_asyncio.fixture(loop_scope="module", params=["journal", "no journal"])
async def site(request: pytest.FixtureRequest, peer: Peer, mode: str) -> AsyncIterator[Site]:
    options: dict[str, Any] = {"recovery": None} if request.param == "no journal" else {}
    nodes, site = Nodes(), Site([], [], [])
    async with AsyncExitStack() as stack:
        stack.push_async_callback(nodes.host.close)
        for number in range(2):
            io = waypost.Server(drain_s=0.0, allow_eio3=True, **options)
            join(nodes, io, f"n{number}")
            _prepare(io)
            url = await stack.enter_async_context(running(io, io, bind("127.0.0.1", 0)))
            site.servers.append(io)
            for clients, version in ((site.new, "4"), (site.old, "2")):
                rules: dict[str, Rule] = {"question": [f"{version} of {number}"], "held": "hold"}
                client = await peer.client(url, transports=MODES[mode], version=version, rules=rules)
                await client.connected()
                clients.append(client)
        yield site
        await peer.leave_all()


async def test_emits_of_each_server_reach_the_clients_of_both_in_one_order(site: Site) -> None:
    for number in range(20):
        await site.servers[number % 2].emit("news", number, b"\x00")
    for client in site.clients:
        assert await client.gets("news", 20) == [(number, b"\x00") for number in range(20)]
    await site.servers[0].except_([sid_of(client) for client in site.new]).emit("old ones")
    await site.servers[1].to("room").emit("last")
    await site.all_hear("last")
    assert [len(client.args_of("old ones")) for client in site.clients] == [0, 0, 1, 1]


async def test_volatile_events_reach_the_clients_of_both(site: Site) -> None:
    # A client that polls takes one only while its poll is open.
    for client in site.clients:
        number = 0
        while not client.args_of("blink"):
            number += 1
            await site.servers[0].to(sid_of(client)).volatile.emit("blink", number)
            await client.call("say", "ping")
    await site.servers[1].emit("last")
    await site.all_hear("last")


async def test_sockets_speak_to_the_clients_of_the_other_server(site: Site) -> None:
    for client, others in ((site.new[0], site.new[1]), (site.old[0], site.new[1]), (site.new[1], site.old[0])):
        await client.emit("whisper", sid_of(others), "you")
        await others.hears("whispered", "you")
    await site.old[1].emit("say", "hello")
    for client in (*site.new, site.old[0]):
        await client.hears("said", "hello")
    assert site.old[1].args_of("said") == []


async def test_rooms_are_joined_and_left_at_both(site: Site) -> None:
    [io, other] = site.servers
    await io.in_([sid_of(client) for client in (site.new[1], site.old[1], site.old[0])]).sockets_join("some")
    assert len(await other.in_("some").fetch_sockets()) == 3
    await other.to("some").emit("to some")
    await other.in_(sid_of(site.old[0])).sockets_leave("some")
    await io.to("some").emit("to fewer")
    await io.emit("last")
    await site.all_hear("last")
    assert [len(client.args_of("to some")) for client in site.clients] == [0, 1, 1, 1]
    assert [len(client.args_of("to fewer")) for client in site.clients] == [0, 1, 0, 1]


async def test_acks_are_collected_from_both(site: Site) -> None:
    answers = await site.servers[0].timeout(20).call("question", b"now?")
    assert answers.is_complete
    expected = {
        sid_of(client): f"{version} of {number}"
        for clients, version in ((site.new, "4"), (site.old, "2"))
        for number, client in enumerate(clients)
    }
    assert answers.answers == expected
    held = await site.servers[1].timeout(0.3).call("held")
    assert sorted(held.missing) == sorted(expected)


async def test_sockets_are_disconnected_at_both(site: Site) -> None:
    await site.servers[0].emit("last words")
    await site.servers[0].disconnect_sockets()
    for client in site.clients:
        assert await client.disconnected() == "io server disconnect"
        assert client.args_of("last words") == [()]
    assert len(await site.servers[1].fetch_sockets()) == 0
