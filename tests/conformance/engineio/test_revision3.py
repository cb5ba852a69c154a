"""Engine.IO 3 and Socket.IO's protocol 4, to the byte, where ``allow_eio3`` lets them in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.conformance.site import Door, Site, open_site
from tests.support.raw import WAIT_S, Answer, request, target, websocket
from waypost.protocol.engineio import Frame
from waypost.protocol.engineio3 import decode_payload, encode_text_payload

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVER_OPTIONS = {"allow_eio3": True}
PLACEHOLDER = '{"_placeholder":true,"num":0}'
OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass
class Polling3:
    """A polling session of revision 3."""

    port: int
    sid: str

    async def poll(self) -> Answer:
        return await request(self.port, "GET", target(EIO="3", sid=self.sid))

    async def post(self, body: bytes, headers: dict[str, str] | None = None) -> Answer:
        return await request(self.port, "POST", target(EIO="3", sid=self.sid), headers, body)

    async def say(self, *frames: Frame) -> None:
        assert (await self.post(encode_text_payload(frames))).body == b"ok"


@asynccontextmanager
async def open_polling_3(port: int, **query: str) -> AsyncIterator[Polling3]:
    """Open a session; its socket in "/" is connected then."""
    answer = await request(port, "GET", target(EIO="3", **query))
    assert answer.status == 200
    opened = decode_payload(answer.body, max_packets=2)[0]
    polling = Polling3(port, json.loads(str(opened)[1:])["sid"])
    if b"2:40" not in answer.body:
        assert (await polling.poll()).body == b"2:40"
    yield polling


@asynccontextmanager
async def open_websocket_3(port: int, **query: str) -> AsyncIterator[tuple[ClientConnection, str]]:
    """Open a session; its socket in "/" is connected then."""
    async with websocket(port, {"EIO": "3", **query}) as connection:
        opened = str(await connection.recv())
        assert opened.startswith("0{")
        assert await connection.recv() == "40"
        yield connection, json.loads(opened[1:])["sid"]


async def test_the_open_packet_has_its_length_in_front(site: Site) -> None:
    answer = await request(site.port, "GET", target(EIO="3"))
    assert answer.headers["content-type"] == "text/plain; charset=UTF-8"
    length, _, rest = answer.body.decode().partition(":")
    opened = json.loads(rest[1 : int(length)])
    assert rest[0] == "0"
    assert opened["upgrades"] == ["websocket"]
    assert (opened["pingInterval"], opened["pingTimeout"]) == (25_000, 20_000)


async def test_it_is_connected_without_asking_and_knows_its_id(site: Site) -> None:
    async with open_polling_3(site.port) as polling:
        assert polling.sid in site.sockets


async def test_text_and_binary_in_payloads_of_text(site: Site) -> None:
    async with open_polling_3(site.port, b64="1") as polling:
        await polling.post('15:42["say","€😀"]'.encode())
        assert (await polling.poll()).body == '16:42["said","€😀"]'.encode()
        await polling.post(f'41:451-["say",{PLACEHOLDER}]10:b4AQIDBA=='.encode())
        answer = await polling.poll()
        assert answer.headers["content-type"] == "text/plain; charset=UTF-8"
        assert answer.body == f'42:451-["said",{PLACEHOLDER}]10:b4AQIDBA=='.encode()


async def test_binary_in_payloads_of_bytes(site: Site) -> None:
    async with open_polling_3(site.port) as polling:
        text = f'451-["say",{PLACEHOLDER}]'.encode()
        answer = await polling.post(b"\x00\x04\x01\xff" + text + b"\x01\x05\xff\x04\x01\x02\x03\x04", OCTETS)
        assert answer.body == b"ok"
        answer = await polling.poll()
        assert answer.headers["content-type"] == "application/octet-stream"
        text = f'451-["said",{PLACEHOLDER}]'.encode()
        assert answer.body == b"\x00\x04\x02\xff" + text + b"\x01\x05\xff\x04\x01\x02\x03\x04"


async def test_a_payload_without_binary_is_text(site: Site) -> None:
    async with open_polling_3(site.port) as polling:
        await polling.say('42["say"]')
        answer = await polling.poll()
        assert (answer.headers["content-type"], answer.body) == ("text/plain; charset=UTF-8", b'10:42["said"]')


async def test_binary_frames_have_a_type_byte(site: Site) -> None:
    async with open_websocket_3(site.port) as (connection, _):
        await connection.send(f'451-["say",{PLACEHOLDER}]')
        await connection.send(b"\x04\x01\x02")
        assert [await connection.recv() for _ in range(2)] == [f'451-["said",{PLACEHOLDER}]', b"\x04\x01\x02"]


async def test_binary_frames_in_base64(site: Site) -> None:
    async with open_websocket_3(site.port, b64="1") as (connection, _):
        await connection.send(f'451-["say",{PLACEHOLDER}]')
        await connection.send("b4AQI=")
        assert [await connection.recv() for _ in range(2)] == [f'451-["said",{PLACEHOLDER}]', "b4AQI="]


@pytest.mark.parametrize("body", [b"", b"4x", b"9:4x", b"\x00\x09\xff4x", b'0{"sid":"x"}'])
async def test_a_bad_payload_ends_the_session(site: Site, body: bytes) -> None:
    async with open_polling_3(site.port) as polling:
        assert (await polling.post(body)).status == 400
        assert (await polling.poll()).code == 1
        assert await site.reason(polling.sid) == "parse error"


@pytest.mark.parametrize("frame", [b"", b"\x03", "b9AQI=", "x"])
async def test_a_bad_frame_ends_the_connection(site: Site, frame: Frame) -> None:
    async with open_websocket_3(site.port) as (connection, sid):
        await connection.send(frame)
        await ended(connection)
        assert await site.reason(sid) == "parse error"


async def test_an_upgrade(site: Site) -> None:
    async with open_polling_3(site.port) as polling:
        pending = asyncio.create_task(polling.poll())
        await site.polled(polling.sid)
        async with websocket(site.port, {"EIO": "3", "sid": polling.sid}) as connection:
            await connection.send("2probe")
            assert await connection.recv() == "3probe"
            assert (await pending).body == b"1:6"
            await connection.send("5")
            await connection.send('420["echo",1]')
            assert await connection.recv() == "430[1]"
        assert (await polling.poll()).code in (1, 3)


async def test_the_client_pings(door: Door) -> None:
    async with open_site(door, allow_eio3=True, ping_interval_s=0.4, ping_timeout_s=0.6) as site:
        async with open_websocket_3(site.port) as (connection, sid):
            ends = asyncio.get_running_loop().time() + 1.2
            while asyncio.get_running_loop().time() < ends:
                await connection.send("2")
                assert await connection.recv() == "3"
                await asyncio.sleep(0.01)
            assert sid not in site.left
            await ended(connection)
            assert await site.reason(sid) == "ping timeout"
        async with open_polling_3(site.port) as polling:
            await polling.say("2data")
            assert (await polling.poll()).body == b"5:3data"
            assert (await polling.poll()).body == b"1:1"
            assert await site.reason(polling.sid) == "ping timeout"


async def test_a_pong_from_the_client_is_refused(site: Site) -> None:
    async with open_websocket_3(site.port) as (connection, sid):
        await connection.send("3")
        await ended(connection)
        assert await site.reason(sid) == "transport error"


@pytest.mark.parametrize(("opened", "asked"), [("3", "4"), ("4", "3")])
async def test_a_request_of_the_other_revision(site: Site, opened: str, asked: str) -> None:
    answer = await request(site.port, "GET", target(EIO=opened))
    sid = json.loads(answer.body.decode()[answer.body.index(b"{") :].split("}")[0] + "}")["sid"]
    for method in ("GET", "POST"):
        refused = await request(site.port, method, target(EIO=asked, sid=sid), body=b"")
        assert (refused.status, refused.code) == (400, 3)
    assert site.io._hub.engine.get(sid) is not None


async def test_a_namespace_is_asked_for_with_a_query(site: Site) -> None:
    async with open_websocket_3(site.port) as (connection, sid):
        await connection.send("40/other?token=a%2Cb&empty=,")
        assert await connection.recv() == "40/other,"
        socket = site.sockets[f"/other#{sid}"]
        assert socket.handshake.auth == {"token": "a,b", "empty": ""}
        await connection.send('42/other,1["echo","x"]')
        assert await connection.recv() == '43/other,1["x"]'
        await connection.send("41/other,")
        assert await site.reason(socket.id) == "client namespace disconnect"


async def test_refusals_are_bare(site: Site) -> None:
    async with open_websocket_3(site.port) as (connection, _):
        await connection.send("40/nowhere,")
        assert await connection.recv() == '44/nowhere,"Invalid namespace"'
        await connection.send("40/other?refuse=why,")
        assert await connection.recv() == '44/other,"why"'


async def test_a_namespace_that_is_too_long(site: Site) -> None:
    async with open_websocket_3(site.port) as (connection, sid):
        await connection.send(f"40/{'x' * 300}?a=b,")
        await ended(connection)
        assert await site.reason(sid) == "forced close"


async def test_there_is_no_recovery(door: Door) -> None:
    from waypost import Recovery

    async with (
        open_site(door, allow_eio3=True, recovery=Recovery()) as site,
        open_websocket_3(site.port) as (connection, sid),
    ):
        assert site.sockets[sid].recovered is False
        await connection.send('42["say","x"]')
        assert await connection.recv() == '42["said","x"]'


async def ended(connection: ClientConnection) -> None:
    async with asyncio.timeout(WAIT_S):
        try:
            while True:
                await connection.recv()
        except ConnectionClosed:
            return
