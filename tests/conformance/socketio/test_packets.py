"""Packets: what the specification has the server read, and what it has it close the connection for.

Sources: Socket.IO protocol revision 5, "Packet types" and "Packet encoding"; socket.io-parser 4.2.
"""

from __future__ import annotations

import pytest

from tests.conformance.site import Site
from tests.conformance.socketio.talk import PLACEHOLDER, joined, still_works
from tests.support.raw import OPENERS

pytestmark = pytest.mark.asyncio(loop_scope="module")

Packets = list[str | bytes]

# The first three are those of the official test suite for servers.
MALFORMED: dict[str, Packets] = {
    "unknown packet type": ["4abc"],
    "payload that is no array": ["42{}"],
    "ack id that is no number": ['42abc["echo",1]'],
    "empty message": ["4"],
    "type above 6": ["47"],
    "type below 0": ["4-1"],
    "EVENT without a payload": ["42"],
    "EVENT with an empty array": ["42[]"],
    "EVENT with a string": ['42"echo"'],
    "EVENT with null": ["42null"],
    "EVENT named by null": ["42[null]"],
    "EVENT named by a number": ["42[1]"],
    "EVENT named by an object": ['42[{"toString":"echo"}]'],
    "EVENT cut off": ['42["echo"'],
    "EVENT with something behind it": ['42["echo"]x'],
    "EVENT with two payloads": ['42["echo"]["echo"]'],
    "EVENT without the comma of its namespace": ['42/other["echo"]'],
    "EVENT with a negative ack id": ['42-1["echo"]'],
    "EVENT with an endless ack id": ["42" + "9" * 100 + '["echo"]'],
    "ACK without a payload": ["431"],
    "ACK without an id": ["43[]"],
    "ACK with an object": ["431{}"],
    "ACK with null": ["431null"],
    "CONNECT with an array": ["40/other,[]"],
    "CONNECT with a string": ['40/other,"x"'],
    "CONNECT with a number": ["40/other,1"],
    "CONNECT cut off": ['40/other,{"a":'],
    "DISCONNECT with an object": ["41{}"],
    "DISCONNECT with an array": ["41[]"],
    "CONNECT_ERROR with a number": ["441"],
    "reserved connect": ['42["connect"]'],
    "reserved connect_error": ['42["connect_error"]'],
    "reserved disconnect": ['42["disconnect","x"]'],
    "reserved disconnecting": ['42["disconnecting"]'],
    "reserved newListener": ['42["newListener"]'],
    "reserved removeListener": ['42["removeListener"]'],
    "binary that nothing announced": [b"\x01"],
    "BINARY_EVENT without a number": [f'45["echo",{PLACEHOLDER}]', b"1"],
    "BINARY_EVENT without a dash": [f'451["echo",{PLACEHOLDER}]', b"1"],
    "BINARY_EVENT with a negative number": ['45-1-["echo"]'],
    "BINARY_EVENT with no attachment": ['450-["echo"]'],
    "BINARY_EVENT with an object": ["451-{}", b"1"],
    "BINARY_EVENT with a reserved name": [f'451-["disconnect",{PLACEHOLDER}]', b"1"],
    "BINARY_EVENT, then text": [f'451-["echo",{PLACEHOLDER}]', '42["echo"]'],
    "BINARY_EVENT with one too many": [f'451-["echo",{PLACEHOLDER}]', b"1", b"2"],
    "placeholder out of range": ['451-["echo",{"_placeholder":true,"num":1}]', b"1"],
    "placeholder below zero": ['451-["echo",{"_placeholder":true,"num":-1}]', b"1"],
    "placeholder between": ['451-["echo",{"_placeholder":true,"num":0.5}]', b"1"],
    "placeholder by name": ['451-["echo",{"_placeholder":true,"num":"splice"}]', b"1"],
    "placeholder without a number": ['451-["echo",{"_placeholder":true}]', b"1"],
    "11 attachments": [f'4511-["echo",{PLACEHOLDER}]'],
    "BINARY_ACK without an id": [f"461-[{PLACEHOLDER}]", b"1"],
    "BINARY_ACK with 11 attachments": [f"4611-1[{PLACEHOLDER}]"],
}

ACCEPTED: dict[str, tuple[Packets, Packets]] = {
    "EVENT with an ack": (['421["echo",1,"2",{"3":[true]}]'], ['431[1,"2",{"3":[true]}]']),
    "EVENT with ack id 0": (['420["echo"]'], ["430[]"]),
    "EVENT with the largest ack id": (['42999999999999999["echo"]'], ["43999999999999999[]"]),
    "EVENT without arguments": (['42["say"]'], ['42["said"]']),
    "EVENT with an empty name": (['42[""]', '421["echo"]'], ["431[]"]),
    "EVENT with spaces in its payload": (['421 ["echo", 1 ]'.replace("1 [", "1[")], ["431[1]"]),
    "EVENT with a name nobody handles": (['42["nobody"]', '421["echo"]'], ["431[]"]),
    "BINARY_EVENT": ([f'451-["say",{PLACEHOLDER}]', b"\x00\xff"], [f'451-["said",{PLACEHOLDER}]', b"\x00\xff"]),
    "BINARY_EVENT with an empty attachment": (
        [f'451-["say",{PLACEHOLDER}]', b""],
        [f'451-["said",{PLACEHOLDER}]', b""],
    ),
    "BINARY_EVENT with an ack": ([f'451-7["echo",{PLACEHOLDER}]', b"1"], [f"461-7[{PLACEHOLDER}]", b"1"]),
    "BINARY_EVENT, nested and out of order": (
        ['452-["say",{"a":[{"_placeholder":true,"num":1}],"b":{"_placeholder":true,"num":0}}]', b"0", b"1"],
        ['452-["said",{"a":[{"_placeholder":true,"num":0}],"b":{"_placeholder":true,"num":1}}]', b"1", b"0"],
    ),
    "10 attachments": (
        ['4510-7["echo"' + "".join(f',{{"_placeholder":true,"num":{n}}}' for n in range(10)) + "]"]
        + [bytes([n]) for n in range(10)],
        ["4610-7[" + ",".join(f'{{"_placeholder":true,"num":{n}}}' for n in range(10)) + "]"]
        + [bytes([n]) for n in range(10)],
    ),
    "ACK that nobody waits for": (["4317[]", '421["echo"]'], ["431[]"]),
    "ACK of a namespace it is not in": (["43/other,1[]", '421["echo"]'], ["431[]"]),
    "ACK twice": (["431[]", "431[]", '421["echo"]'], ["431[]"]),
    "BINARY_ACK that nobody waits for": ([f"461-17[{PLACEHOLDER}]", b"1", '421["echo"]'], ["431[]"]),
    "main namespace by its name": (['42/,1["echo"]'], ["431[]"]),
    "prototype names": (
        ['421["echo",{"__proto__":1,"constructor":2}]'],
        ['431[{"__proto__":1,"constructor":2}]'],
    ),
}


@pytest.mark.parametrize("name", list(MALFORMED))
async def test_what_is_malformed_closes_the_connection(site: Site, transport: str, name: str) -> None:
    async with joined(site, transport) as (raw, sid):
        await raw.send(*MALFORMED[name])
        assert await raw.closed()
        assert await site.reason(sid) == "forced close"


UNTIMELY = ['44{"message":"x"}', '44/other,{"message":"x"}', '42/other,["echo"]', "41/other,"]


@pytest.mark.parametrize("packet", UNTIMELY)
async def test_what_may_not_come_now_closes_the_connection(site: Site, transport: str, packet: str) -> None:
    async with joined(site, transport) as (raw, sid):
        await raw.send(packet)
        assert await raw.closed()
        assert await site.reason(sid) == "forced server close"


@pytest.mark.parametrize("name", list(ACCEPTED))
async def test_what_is_well_formed_is_read(site: Site, transport: str, name: str) -> None:
    sent, expected = ACCEPTED[name]
    async with joined(site, transport) as (raw, _):
        await raw.send(*sent)
        assert [await raw.receive() for _ in expected] == expected
        await still_works(raw)


@pytest.mark.parametrize(
    "packets",
    [
        ['42["echo"]'],
        ["41"],
        ['44{"message":"x"}'],
        [f'451-["echo",{PLACEHOLDER}]', b"1"],
        [b"1"],
        ["40", '42/other,["echo"]'],
        ["40", "41/other,"],
        ["40", f'451-/other,["echo",{PLACEHOLDER}]', b"1"],
    ],
    ids=lambda packets: " ".join(map(str, packets))[:30],
)
async def test_a_packet_out_of_place_closes_the_connection(site: Site, transport: str, packets: Packets) -> None:
    async with OPENERS[transport](site.port) as raw:
        await raw.send(*packets)
        assert await raw.closed()


async def test_a_malformed_packet_ends_all_namespaces_of_its_connection_and_of_no_other(
    site: Site, transport: str
) -> None:
    async with joined(site, transport) as (raw, sid), joined(site, transport) as (other, _):
        await raw.send("40/other,")
        packet = await raw.receive()
        assert isinstance(packet, str)
        second = packet.partition('"sid":"')[2].partition('"')[0]
        await raw.send("4abc")
        assert await raw.closed()
        assert [await site.reason(one) for one in (sid, second)] == ["forced close"] * 2
        await still_works(other)
