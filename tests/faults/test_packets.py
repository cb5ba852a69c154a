"""Packets that break the protocol: they close the connection they came on, and nothing else."""

from __future__ import annotations

import pytest

from tests.faults.conftest import Case
from tests.support.raw import OPENERS, Raw, join

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

Packets = list[str | bytes]
_PLACEHOLDER = '{"_placeholder":true,"num":0}'

CLOSING: dict[str, Packets] = {
    "bad Engine.IO type": ["9"],
    "Engine.IO type that is no digit": ["x"],
    "empty packet": [""],
    "ping from the client": ["2"],
    "open from the client": ['0{"sid":"x"}'],
    "empty message": ["4"],
    "bad Socket.IO type": ["47"],
    "Socket.IO type that is no digit": ["4abc"],
    "cut off JSON": ['42["x"'],
    "no JSON": ["42abc"],
    "rubbish before JSON": ['42abc["x"]'],
    "rubbish after JSON": ['42["x"]]'],
    "two values": ['42["x"]["y"]'],
    "NaN": ['42["x",NaN]'],
    "event that is an object": ["42{}"],
    "event that is a string": ['42"x"'],
    "event without a name": ["42[]"],
    "event without a payload": ["42"],
    "event named null": ["42[null]"],
    "event named by an object": ['42[{"toString":"x"}]'],
    "reserved connect": ['42["connect"]'],
    "reserved connect_error": ['42["connect_error","x"]'],
    "reserved disconnect": ['42["disconnect","x"]'],
    "reserved disconnecting": ['42["disconnecting"]'],
    "reserved newListener": ['42["newListener"]'],
    "reserved removeListener": ['42["removeListener"]'],
    "ack without an id": ["43[]"],
    "ack that is an object": ["431{}"],
    "ack without a payload": ["431"],
    "connect error from the client": ['44{"message":"x"}'],
    "disconnect with a payload": ["41{}"],
    "event for a namespace not joined": ['42/other,["x"]'],
    "unexpected binary": [b"\x00\x01"],
    "no attachments in a binary event": ['450-["x"]'],
    "attachments without a number": ['45["x"]'],
    "attachments that are no number": ['45x-["x"]'],
    "attachments below zero": ['45-1-["x"]'],
    "too many attachments": ['4511-["x"]'],
    "far too many attachments": ['45999999999-["x"]'],
    "text while an attachment is awaited": [f'451-["x",{_PLACEHOLDER}]', '42["y"]'],
    "placeholder beyond the attachments": ['451-["x",{"_placeholder":true,"num":1}]', b"1"],
    "placeholder below zero": ['451-["x",{"_placeholder":true,"num":-1}]', b"1"],
    "placeholder that is a fraction": ['451-["x",{"_placeholder":true,"num":0.5}]', b"1"],
    "placeholder that is a name": ['451-["x",{"_placeholder":true,"num":"splice"}]', b"1"],
    "binary ack with too many attachments": ["4611-1[]"],
    "JSON of great depth": ['42["x",' + "[" * 100_000 + "]" * 100_000 + "]"],
    "JSON of great depth, cut off": ['42["x",' + '{"a":' * 50_000],
}

BEFORE_CONNECT: dict[str, Packets] = {
    "event": ['42["x"]'],
    "disconnect": ["41"],
    "binary event": [f'451-["x",{_PLACEHOLDER}]', b"1"],
    "connect with a list": ["40[]"],
    "connect with a string": ['40"x"'],
    "connect with a number": ["401"],
    "connect with cut off JSON": ['40{"a":'],
}

HARMLESS: dict[str, Packets] = {
    "unasked pong": ["3"],
    "pong flood": ["3"] * 5_000,
    "noop": ["6"],
    "ack nobody waits for": ["43123456[]"],
    "ack with id 0": ["430[]"],
    "event named error": ['42["error",{"message":"x"}]'],
    "event named __proto__": ['42["__proto__",{"__proto__":{"a":1}}]'],
    "duplicate keys": ['42["x",{"a":1,"a":2}]'],
    "namespace that is unknown": ["40/nowhere,"],
    "namespace with a query": ["40/nowhere?token=1,"],
}

SURVIVED: dict[str, Packets] = {
    "integer of 400 digits": ['42["echo",' + "9" * 400 + "]"],
    "integer of 5,000 digits": ['42["echo",' + "9" * 5_000 + "]"],
    "ack id of 100 digits": ["43" + "9" * 100 + "[]"],
    "event with an ack id of 100 digits": ["42" + "9" * 100 + '["echo"]'],
    "attachments with 5,000 digits": ["45" + "9" * 5_000 + '-["x"]'],
    "lone surrogates, escaped": ['42["echo","\\ud800"]', '421["echo","\\udfff\\ud800"]'],
    "float beyond all bounds": ['42["echo",1e999]'],
    "namespace of 100 kB": ["40/" + "n" * 100_000 + ","],
    "a thousand namespaces": [f"40/{number}," for number in range(1_000)],
    "many small events": ['42["x"]'] * 5_000,
}


async def lives(raw: Raw) -> bool:
    """Tell whether a connection still answers."""
    await raw.send('4277["echo","alive"]')
    try:
        while True:
            if await raw.receive() == '4377["alive"]':
                return True
    except EOFError:
        return False


@pytest.mark.parametrize("packets", CLOSING.values(), ids=CLOSING)
async def test_it_closes_the_connection(case: Case, transport: str, packets: Packets) -> None:
    async with OPENERS[transport](case.port) as raw:
        await join(raw)
        await raw.send(*packets)
        assert await raw.closed()


@pytest.mark.parametrize("packets", BEFORE_CONNECT.values(), ids=BEFORE_CONNECT)
async def test_it_closes_a_connection_without_a_namespace(case: Case, transport: str, packets: Packets) -> None:
    async with OPENERS[transport](case.port) as raw:
        await raw.send(*packets)
        assert await raw.closed()


@pytest.mark.parametrize("packets", HARMLESS.values(), ids=HARMLESS)
async def test_it_harms_nobody(case: Case, transport: str, packets: Packets) -> None:
    async with OPENERS[transport](case.port) as raw:
        await join(raw)
        await raw.send(*packets)
        assert await lives(raw)


@pytest.mark.parametrize("packets", SURVIVED.values(), ids=SURVIVED)
async def test_the_server_survives(case: Case, transport: str, packets: Packets) -> None:
    async with OPENERS[transport](case.port) as raw:
        await join(raw)
        await raw.send(*packets)
        await lives(raw)


async def test_an_attachment_that_never_comes(case: Case, transport: str) -> None:
    async with OPENERS[transport](case.port) as raw:
        await join(raw)
        await raw.send(f'451-["x",{_PLACEHOLDER}]')


async def test_a_second_namespace_falls_with_the_connection(case: Case, transport: str) -> None:
    async with OPENERS[transport](case.port) as raw:
        await join(raw)
        await join(raw, "/other,")
        await raw.send('42/other,["connect"]')
        assert await raw.closed()
