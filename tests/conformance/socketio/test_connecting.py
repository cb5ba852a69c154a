"""Connecting to namespaces, and how a connection to one ends.

Sources: Socket.IO protocol revision 5, "Connection to a namespace" and "Disconnection from a namespace"; Node's
socket.io 4.8.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

import waypost
from tests.conformance.site import Door, Site, connected, open_site
from tests.conformance.socketio.talk import joined, refusal, still_works
from tests.support.raw import OPENERS, Raw, RawPolling, RawWebSocket, request, target, websocket
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty(door: Door) -> AsyncIterator[Site]:
    """A server that waits for a CONNECT packet for a moment only."""
    async with open_site(door, connect_timeout_s=0.6) as site:
        yield site


class Gate:
    """A namespace whose middleware waits until it is told to go on."""

    def __init__(self, io: waypost.Server, name: str) -> None:
        self.name = name
        self.waiting = 0
        self.sockets: list[str] = []
        self.go = asyncio.Event()
        io.of(name).use(self._wait)
        io.of(name).on("connect", self._connect)

    async def _wait(self, socket: waypost.Socket) -> None:
        self.waiting += 1
        await self.go.wait()

    async def _connect(self, socket: waypost.Socket) -> None:
        self.sockets.append(socket.id)

    async def entered(self, count: int) -> None:
        await until(lambda: self.waiting == count, f"{count} clients wait in {self.name}")


async def test_the_answer_has_an_id_of_its_own_for_each_namespace(site: Site, transport: str) -> None:
    async with joined(site, transport) as (raw, first):
        second = await connected(raw, "/other,")
        assert len({first, second, raw.sid}) == 3, "the Engine.IO sid is a secret and never a socket's id"
        await still_works(raw)
        await still_works(raw, "/other,")
        assert [site.sockets[sid].namespace for sid in (first, second)] == ["/", "/other"]


async def test_the_handshake_is_the_connection_s_first_request(site: Site, transport: str) -> None:
    query, headers = {"transport": transport, "token": "a b", "who": "me"}, {"X-Who": "Me", "User-Agent": "raw"}
    where = target(**query).replace(" ", "%20")
    came_after = time.time() - 1
    if transport == "polling":
        opened = await request(site.port, "GET", where, headers)
        raw: RawPolling | RawWebSocket = RawPolling(site.port, json.loads(opened.body[1:]))
        sid = await connected(raw)
        handshake = site.sockets[sid].handshake
    else:
        async with websocket(site.port, query | {"token": "a%20b"}, headers) as connection:
            raw = RawWebSocket(connection, json.loads(str(await connection.recv())[1:]))
            sid = await connected(raw)
            handshake = site.sockets[sid].handshake
    assert handshake.url == where
    assert handshake.query == {"EIO": "4", "transport": transport, "token": "a b", "who": "me"}
    assert {name: handshake.headers[name] for name in ("x-who", "user-agent", "host")} == {
        "x-who": "Me",
        "user-agent": "raw",
        "host": handshake.headers["host"],
    }
    assert (handshake.address, handshake.secure, handshake.cross_origin) == ("127.0.0.1", False, False)
    assert came_after < handshake.time < time.time() + 1
    assert handshake.auth == {}


@pytest.mark.parametrize("namespace", ["", "/other,"])
async def test_a_payload_is_the_handshake_s_auth(site: Site, transport: str, namespace: str) -> None:
    async with OPENERS[transport](site.port) as raw:
        sid = await connected(raw, namespace + '{"token":"123","pid":7}')
        assert site.sockets[sid].handshake.auth == {"token": "123", "pid": 7}
        await raw.send(f"41{namespace}")
        sid = await connected(raw, namespace)
        assert site.sockets[sid].handshake.auth == {}


@pytest.mark.parametrize(
    "name", ["/nowhere", "/__proto__", "/constructor", "/other/", "/Other", "//", "/nowhere?a=b"]
)
async def test_an_unknown_namespace_is_refused_and_the_connection_stays(
    site: Site, transport: str, name: str
) -> None:
    async with joined(site, transport) as (raw, _):
        await raw.send(f"40{name},")
        assert await refusal(raw, f"{name},") == {"message": "Invalid namespace"}
        await still_works(raw)


async def test_a_name_without_its_comma_is_still_one(site: Site, transport: str) -> None:
    async with OPENERS[transport](site.port) as raw:
        await connected(raw, "/other")
        await still_works(raw, "/other,")


async def test_a_name_of_endless_length_closes_the_connection(site: Site, transport: str) -> None:
    async with OPENERS[transport](site.port) as raw:
        await raw.send("40/" + "x" * 900_000 + ",")
        assert await raw.closed()


@pytest.mark.parametrize("data", ['{"code":7}', "[1,null]", "0", '""', "false"])
async def test_a_refusal_brings_its_data_and_may_be_tried_again(site: Site, transport: str, data: str) -> None:
    async with OPENERS[transport](site.port) as raw:
        await raw.send(f'40{{"refuse":{data}}}')
        assert await refusal(raw) == {"message": "not you", "data": json.loads(data)}
        await connected(raw)
        await still_works(raw)


async def test_connects_that_race_make_one_socket(site: Site, transport: str) -> None:
    gate = Gate(site.io, f"/race-{transport}")
    async with joined(site, transport) as (raw, _):
        await raw.send(*[f"40{gate.name},"] * 3)
        await until(lambda: gate.waiting > 0, "a client waits")
        await still_works(raw)
        gate.go.set()
        packet = await raw.receive()
        await until(lambda: len(gate.sockets) == 1, "it is let in")
        assert str(packet).startswith(f'40{gate.name},{{"sid":"{gate.sockets[0]}"')
        await still_works(raw)
        assert gate.waiting <= 2
        assert len(gate.sockets) == 1


async def test_a_connect_for_a_namespace_it_is_in_begins_a_new_socket(site: Site, transport: str) -> None:
    async with joined(site, transport) as (raw, first):
        other = await connected(raw, "/other,")
        second = await connected(raw)
        assert len({first, second, other}) == 3
        assert await site.reason(first) == "client namespace disconnect"
        await still_works(raw)
        await still_works(raw, "/other,")


async def test_namespaces_are_entered_side_by_side(site: Site, transport: str) -> None:
    gate = Gate(site.io, f"/slow-{transport}")
    async with OPENERS[transport](site.port) as raw:
        await raw.send(f"40{gate.name},")
        await gate.entered(1)
        await connected(raw)
        await still_works(raw)
        gate.go.set()
        packet = await raw.receive()
        assert isinstance(packet, str)
        assert packet.startswith(f'40{gate.name},{{"sid":')


async def test_an_event_before_the_answer_closes_the_connection(site: Site, transport: str) -> None:
    gate = Gate(site.io, f"/early-{transport}")
    async with OPENERS[transport](site.port) as raw:
        await raw.send(f"40{gate.name},")
        await gate.entered(1)
        await raw.send(f'42{gate.name},["echo"]')
        assert await raw.closed()
        gate.go.set()
        await until(lambda: site.io.of(gate.name)._core.is_idle, "everything has ended")
        assert gate.sockets == []


async def test_a_connect_may_be_withdrawn(site: Site, transport: str) -> None:
    gate = Gate(site.io, f"/withdrawn-{transport}")
    async with joined(site, transport) as (raw, _):
        await raw.send(f"40{gate.name},")
        await gate.entered(1)
        await raw.send(f"41{gate.name},")
        await still_works(raw)
        gate.go.set()
        await until(lambda: site.io.of(gate.name)._core.is_idle, "everything has ended")
        assert gate.sockets == []
        await connected(raw, f"{gate.name},")
        assert len(gate.sockets) == 1


async def test_nothing_comes_before_the_answer(site: Site, transport: str) -> None:
    name = f"/eager-{transport}"

    @site.io.of(name).on("connect")
    async def connect(socket: waypost.Socket) -> None:
        await socket.join("room")
        await socket.emit("hello")
        await socket.broadcast.emit("hello")
        await site.io.of(name).to("room").emit("again")

    async with OPENERS[transport](site.port) as raw:
        await raw.send(f"40{name},")
        packets = [str(await raw.receive()) for _ in range(3)]
        assert packets[0].startswith(f"40{name},")
        assert packets[1:] == [f'42{name},["hello"]', f'42{name},["again"]']


# -- connections without a namespace -----------------------------------------------------------------------------


async def test_without_a_connect_packet_the_connection_is_closed(hasty: Site, transport: str) -> None:
    async with OPENERS[transport](hasty.port) as raw:
        assert await raw.closed()


async def test_a_refusal_does_not_stop_the_clock(hasty: Site, transport: str) -> None:
    async with OPENERS[transport](hasty.port) as raw:
        await raw.send('40{"refuse":1}', "40/nowhere,")
        await refusal(raw)
        await refusal(raw, "/nowhere,")
        assert await raw.closed()


async def test_middleware_that_takes_too_long_does_not_stop_the_clock(hasty: Site, transport: str) -> None:
    gate = Gate(hasty.io, f"/endless-{transport}")
    async with OPENERS[transport](hasty.port) as raw:
        await raw.send(f"40{gate.name},")
        assert await raw.closed()
        gate.go.set()
        await until(lambda: hasty.io.of(gate.name)._core.is_idle, "everything has ended")
        assert gate.sockets == []


async def test_the_clock_starts_again_when_the_last_namespace_was_left(hasty: Site, transport: str) -> None:
    async with joined(hasty, transport) as (raw, _):
        await connected(raw, "/other,")
        await asyncio.sleep(0.7)
        await raw.send("41")
        await still_works(raw, "/other,")
        await raw.send("41/other,")
        assert await raw.closed()


async def test_coming_back_in_time_stops_it(hasty: Site, transport: str) -> None:
    async with joined(hasty, transport) as (raw, _):
        await raw.send("41")
        await connected(raw)
        await asyncio.sleep(0.7)
        await still_works(raw)


# -- the end, and the words for it --------------------------------------------------------------------------------


async def test_a_client_leaves_one_namespace(site: Site, transport: str) -> None:
    async with joined(site, transport) as (raw, sid):
        other = await connected(raw, "/other,")
        await raw.send("41/other,")
        assert await site.reason(other) == "client namespace disconnect"
        await still_works(raw)
        assert sid not in site.left
        await raw.send("41")
        assert await site.reason(sid) == "client namespace disconnect"
        again = await connected(raw)
        assert again != sid


async def test_what_was_on_its_way_to_a_namespace_that_was_left_is_no_fault(site: Site, transport: str) -> None:
    async with joined(site, transport) as (raw, sid):
        await connected(raw, "/other,")
        await raw.send("41/other,", '42/other,["echo"]', "43/other,1[]", "41/other,")
        await still_works(raw)
        assert sid not in site.left


async def test_the_server_disconnects_one_namespace(site: Site, transport: str) -> None:
    async with joined(site, transport) as (raw, sid):
        other = await connected(raw, "/other,")
        await site.sockets[other].disconnect()
        assert await raw.receive() == "41/other,"
        assert await site.reason(other) == "server namespace disconnect"
        await still_works(raw)
        await site.sockets[sid].disconnect()
        assert await raw.receive() == "41"
        await connected(raw)


async def test_the_server_closes_the_whole_connection(site: Site, transport: str) -> None:
    async with joined(site, transport) as (raw, sid):
        other = await connected(raw, "/other,")
        await site.sockets[sid].disconnect(close=True)
        assert await site.reason(sid) == "server namespace disconnect"
        assert await site.reason(other) == "server namespace disconnect"
        assert [await raw.receive() for _ in range(2)] == ["41", "41/other,"]
        assert await raw.closed()


async def test_a_connect_handler_that_disconnects(site: Site, transport: str) -> None:
    name = f"/unwelcome-{transport}"
    reasons: list[str] = []

    @site.io.of(name).on("connect")
    async def connect(socket: waypost.Socket) -> None:
        await socket.disconnect()

    @site.io.of(name).on("disconnect")
    async def disconnect(socket: waypost.Socket, reason: str) -> None:
        reasons.append(reason)

    async with joined(site, transport) as (raw, _):
        await raw.send(f"40{name},")
        assert str(await raw.receive()).startswith(f"40{name},")
        assert await raw.receive() == f"41{name},"
        await until(lambda: reasons == ["server namespace disconnect"], "the disconnect handler")
        await still_works(raw)


async def _close_packet(raw: Raw) -> None:
    await raw.send("1")


async def _bad_engine_packet(raw: Raw) -> None:
    await raw.send("2")


async def _bad_payload(raw: Raw) -> None:
    await raw.send("9")


async def _bad_message(raw: Raw) -> None:
    await raw.send("4abc")


async def _lost(raw: Raw) -> None:
    if isinstance(raw, RawPolling):
        poll = asyncio.ensure_future(raw.poll())
        await asyncio.sleep(0.05)
        poll.cancel()
    else:
        raw.connection.transport.abort()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("how", "reasons"),
    [
        (_close_packet, {"transport close"}),
        (_bad_engine_packet, {"transport error"}),
        (_bad_payload, {"parse error"}),
        (_bad_message, {"forced close"}),
        (_lost, {"transport close", "transport error"}),
    ],
)
async def test_reasons_of_a_connection_that_ends(site: Site, transport: str, how: Any, reasons: set[str]) -> None:
    async with joined(site, transport) as (raw, sid):
        other = await connected(raw, "/other,")
        await how(raw)
        assert {await site.reason(sid), await site.reason(other)} <= reasons


async def test_reason_of_a_silent_client(door: Door, transport: str) -> None:
    async with open_site(door, ping_interval_s=0.1, ping_timeout_s=0.1) as site, joined(site, transport) as (_, sid):
        assert await site.reason(sid) == "ping timeout"


async def test_reason_of_a_server_that_stops(door: Door, transport: str) -> None:
    async with open_site(door) as site, joined(site, transport) as (raw, sid):
        closing = asyncio.create_task(site.io.close())
        assert await site.reason(sid) == "server shutting down"
        assert await raw.closed()
        await closing
