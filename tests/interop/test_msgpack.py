"""msgpack with npm's socket.io-msgpack-parser: packet by packet, and the official client that uses it."""

from __future__ import annotations

import base64
import json
import math
import subprocess
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.interop.conftest import Connect
from tests.interop.test_events import ARGUMENTS
from tests.support.require import JS_DIR, require_node
from tests.support.server_process import ServerProcess
from waypost.protocol import socketio_msgpack as codec
from waypost.protocol.engineio import Frame
from waypost.protocol.packet import Packet, PacketType

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

SERVER_OPTIONS = {"parser": "msgpack"}

NOON = datetime(2026, 11, 24, 12, 0, 0, 5000, tzinfo=UTC)
NUMBERS: list[Any] = [
    0, 0, 1, -1, 127, 128, -32, -33, 255, 256, 65535, 65536, 2**32 - 1, 2**32, -(2**31), -(2**31) - 1,
    2**53 - 1, -(2**53) + 1, 2**53, 1.5, 0.1, 5e-324, math.nan, math.inf, -math.inf,
]  # fmt: skip

READ: dict[str, Packet] = {
    "connect": Packet(PacketType.CONNECT),
    "connect with undefined": Packet(PacketType.CONNECT),
    "connect with auth": Packet(PacketType.CONNECT, "/admin", {"token": "secret", "list": [1, None]}),
    "disconnect": Packet(PacketType.DISCONNECT, "/admin"),
    "event": Packet(PacketType.EVENT, data=["x"]),
    "event with id": Packet(PacketType.EVENT, data=["x", 1], ack_id=123456789),
    "event with undefined": Packet(PacketType.EVENT, data=["x", None, {"a": None}]),
    "event with binary": Packet(PacketType.EVENT, data=["x", b"abc", {"b": [b"\x07" * 300]}]),
    "event with an ArrayBuffer": Packet(PacketType.EVENT, data=["x", b"\x01\x02\x03", b"\x00", b"\x00" * 8, None]),
    "event with a date": Packet(PacketType.EVENT, data=["x", NOON]),
    "event with numbers": Packet(PacketType.EVENT, data=["x", *NUMBERS]),
    "event with text": Packet(PacketType.EVENT, "/é", ["naïve ☃ 🜁", "", "x" * 40, "é" * 200, "\x00\x1e"]),
    "event with many": Packet(PacketType.EVENT, data=["x", *range(20)]),
    "event with deep": Packet(PacketType.EVENT, data=["x", {"a": [{"b": [[{"c": None}]]}]}, True, False]),
    "ack": Packet(PacketType.ACK, data=[], ack_id=0),
    "ack with data": Packet(PacketType.ACK, "/a", [{"ok": True}, b"z"], 5),
    "refusal": Packet(PacketType.CONNECT_ERROR, data={"message": "no", "data": {"why": 1}}),
    "refusal in text": Packet(PacketType.CONNECT_ERROR, data="no"),
}


def event(*args: Any) -> codec.MsgpackEvent:
    return codec.encode_event("/é", "x", args)


WRITTEN: list[tuple[tuple[Frame, ...], dict[str, Any]]] = [
    (codec.encode_connect("/", None), {"type": 0, "nsp": "/"}),
    (codec.encode_connect("/", {"sid": "a"}), {"type": 0, "nsp": "/", "data": {"sid": "a"}}),
    (codec.encode_disconnect("/a"), {"type": 1, "nsp": "/a"}),
    (codec.encode_connect_error("/", {"message": "no"}), {"type": 4, "nsp": "/", "data": {"message": "no"}}),
    (codec.encode_ack("/", 999_999_999_999_999, [b"z", None]),
     {"type": 3, "nsp": "/", "id": 999_999_999_999_999, "data": [{"$bytes": "eg=="}, None]}),
    (event().frames(), {"type": 2, "nsp": "/é", "data": ["x"]}),
    (event(b"abc", {"b": [b""]}).frames_with_offset("g.17"),
     {"type": 2, "nsp": "/é", "data": ["x", {"$bytes": "YWJj"}, {"b": [{"$bytes": ""}]}, "g.17"]}),
    (event("🜁", {7: 1.5}).frames_with_ack(7), {"type": 2, "nsp": "/é", "id": 7, "data": ["x", "🜁", {"7": 1.5}]}),
    (event(2**53 - 1, -(2**53) + 1, -1, -33, 300).frames(),
     {"type": 2, "nsp": "/é", "data": ["x", 2**53 - 1, -(2**53) + 1, -1, -33, 300]}),
    (event(2**53 + 1, 2**64, 10**400).frames(),
     {"type": 2, "nsp": "/é", "data": ["x", 2**53, 18446744073709552000, None]}),
    (event(math.nan, math.inf).frames(),
     {"type": 2, "nsp": "/é", "data": ["x", {"$number": "NaN"}, {"$number": "Infinity"}]}),
    (event(NOON).frames(), {"type": 2, "nsp": "/é", "data": ["x", {"$date": 1795521600005}]}),
    (event(*range(40)).frames_with_offset("g.1"), {"type": 2, "nsp": "/é", "data": ["x", *range(40), "g.1"]}),
]  # fmt: skip


@pytest.fixture(scope="module")
def node() -> dict[str, Any]:
    """What the official parser writes, and what it reads in what we write; Node is run once."""
    packets = [base64.b64encode(frame).decode() for (frame,), _ in WRITTEN if isinstance(frame, bytes)]
    done = subprocess.run(
        [require_node(), str(JS_DIR / "msgpack.js")],
        input=json.dumps(packets), capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("name", READ)
async def test_what_the_official_parser_writes_is_read(node: dict[str, Any], name: str) -> None:
    packet = codec.Decoder().feed(base64.b64decode(node["written"][name]))
    assert repr(packet) == repr(READ[name])  # of two NaNs only the text is the same
    assert set(node["written"]) == set(READ)


@pytest.mark.parametrize("number", range(len(WRITTEN)))
async def test_the_official_parser_reads_what_we_write(node: dict[str, Any], number: int) -> None:
    assert node["read"][number] == WRITTEN[number][1]


# The official parser writes an integer beyond 64 bits, as 1e308 is one for it, as 0.
SURVIVING = {**ARGUMENTS, "numbers": [0, -1, 2**53 - 1, -(2**53) + 1, 2**53, 5e-324, 0.1]}


@pytest.mark.parametrize("arguments", SURVIVING.values(), ids=SURVIVING)
async def test_an_ack_brings_back_what_was_emitted(connect: Connect, arguments: list[Any]) -> None:
    client = await connect("websocket", parser="msgpack")
    assert await client.call("echo", *arguments) == arguments
    await client.emit("say", *arguments)
    assert await client.gets("said") == [tuple(arguments)]


async def test_every_transport_carries_it(connect: Connect, mode: str) -> None:
    client = await connect(mode, parser="msgpack", rules={"question": "echo"})
    assert await client.call("ask", b"q", {"w": 2}) == [b"q", {"w": 2}]
    if mode == "upgrade":
        await client.upgraded()
        assert await client.call("echo", b"after") == [b"after"]


async def test_what_was_missed_is_replayed(connect: Connect) -> None:
    client = await connect("websocket", parser="msgpack")
    other = await connect("websocket", parser="msgpack")
    await client.call("join", "room")
    await other.call("publish", "room", 1, b"one")
    await client.gets("news")
    await client.away()
    await other.call("publish", "room", 2, {"two": b"two"})
    await client.resume()
    await client.connected(2)
    assert client.connects[-1].recovered
    assert await client.gets("news", 2) == [(1, b"one"), (2, {"two": b"two"})]


async def test_a_client_with_another_parser_is_cut_off_alone(connect: Connect, server: ServerProcess) -> None:
    client = await connect("websocket", parser="msgpack")
    stranger = await client.peer.client(server.url, transports=("websocket",), reconnection=False)
    await stranger.wait_for(lambda: bool(stranger.disconnects or stranger.refusals), "an end")
    assert not stranger.connects
    assert await client.call("echo", 1) == [1]
