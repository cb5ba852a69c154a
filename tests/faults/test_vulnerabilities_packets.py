"""Known vulnerabilities of Socket.IO servers, as packets: what was sent then must harm nobody here."""

from __future__ import annotations

import asyncio
import contextlib
import re

import pytest

from tests.faults.conftest import Case
from tests.support.raw import OPENERS, Raw, RawPolling, join, open_websocket

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

MIB = 1 << 20
PLACEHOLDER = '{"_placeholder":true,"num":0}'
PROTOTYPE = ["__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "__defineGetter__", "valueOf"]


async def ask(raw: Raw, packet: str) -> str:
    """Send an event that wants an ack, and return what comes back."""
    await raw.send(packet)
    answer = await raw.receive()
    assert isinstance(answer, str)
    return answer


async def test_cve_2020_36049_a_packet_as_large_as_can_be(case: Case, transport: str) -> None:
    for text in ("x" * 950_000, "\\\\" * 475_000, '\\"' * 470_000):
        async with OPENERS[transport](case.port) as raw:
            await join(raw)
            assert len(await ask(raw, f'421["echo","{text}"]')) > 900_000


async def test_cve_2020_36049_an_event_of_very_many_values(case: Case, transport: str) -> None:
    async with OPENERS[transport](case.port) as raw:
        await join(raw)
        assert len(await ask(raw, '421["echo",[' + ",".join(["{}"] * 300_000) + "]]")) > 900_000


async def test_cve_2026_33151_and_2026_69185_binary_frames_without_end(case: Case) -> None:
    before = case.server.memory_bytes()
    for header in ('4510-["x",{}]', '450-["x"]', '4599999999999-["x"]'):
        async with open_websocket(case.port) as raw:
            await join(raw)
            await raw.send(header.replace("{}", PLACEHOLDER))
            await raw.send(*[bytes(100_000)] * 100)
            assert await raw.closed()
    assert case.server.memory_bytes() - before < 64 * MIB
    case.lines_allowed = 3


async def test_cve_2026_48804_attachments_that_are_never_complete(case: Case, transport: str) -> None:
    before = case.server.memory_bytes()
    for _ in range(10):
        async with OPENERS[transport](case.port) as raw:
            await raw.send(f'4510-["x",{PLACEHOLDER}]', *[bytes(70_000)] * 9)
            assert await raw.closed()
    assert case.server.memory_bytes() - before < 64 * MIB
    case.lines_allowed = 10


async def test_cve_2022_2421_a_placeholder_is_a_number_within(case: Case, transport: str) -> None:
    numbers = ["-1", "1.5", "1e3", '"0"', "true", "null", "[0]", '"__proto__"', "9" * 30]
    for number in numbers:
        async with OPENERS[transport](case.port) as raw:
            await join(raw)
            await raw.send(f'451-["echo",{{"_placeholder":true,"num":{number}}}]', b"x")
            assert await raw.closed(), number
    case.lines_allowed = len(numbers)


async def test_cve_2023_32695_names_of_events(case: Case, transport: str) -> None:
    async with OPENERS[transport](case.port) as raw:
        await join(raw)
        await raw.send(*(f'42["{name}",1]' for name in PROTOTYPE))
        assert await ask(raw, '425["echo"]') == "435[]"
    no_names = ['{"toString":"x"}', "7", "true", "[]", "null"]
    for name in no_names:
        async with OPENERS[transport](case.port) as raw:
            await join(raw)
            await raw.send(f"42[{name},1]")
            assert await raw.closed(), name
    case.lines_allowed = len(no_names)


async def test_cve_2024_38355_an_event_named_error(case: Case, transport: str) -> None:
    async with OPENERS[transport](case.port) as raw:
        await join(raw)
        await raw.send('42["error"]', '42["error",{"message":"x"}]', '427["error",null]')
        assert await ask(raw, '425["echo"]') == "435[]"


async def test_rooms_and_data_named_like_prototypes(case: Case, transport: str) -> None:
    async with OPENERS[transport](case.port) as raw, OPENERS[transport](case.port) as other:
        await join(raw)
        await join(other)
        for room in PROTOTYPE:
            assert await ask(raw, f'421["join","{room}"]') == "431[]"
            assert await ask(raw, '422["rooms"]') == f'432[["{room}"]]'
            assert await ask(raw, f'423["remember","{room}",{{"{room}":1}}]') == "433[]"
            assert (await ask(raw, f'424["publish","{room}","hello"]')).startswith('42["news","hello"')
            assert await raw.receive() == "434[]"
            assert await ask(raw, f'426["leave","{room}"]') == "436[]"
        assert await ask(other, '425["rooms"]') == "435[[]]"


async def test_a_flood_of_rooms(case: Case, transport: str) -> None:
    before = case.server.memory_bytes()
    async with OPENERS[transport](case.port) as raw:
        await join(raw)
        await raw.send(*(f'42["join","room {number}"]' for number in range(2_000)))
        assert len(await ask(raw, '421["rooms"]')) > 2_000
    assert case.server.memory_bytes() - before < 64 * MIB


async def test_empty_packets_without_end(case: Case) -> None:
    async with OPENERS["polling"](case.port) as raw:
        assert isinstance(raw, RawPolling)
        await join(raw)
        answer = await raw.post(b"\x1e" * 999_999)
        assert answer.status == 400
        assert await raw.closed()


async def test_a_payload_of_very_many_small_packets(case: Case) -> None:
    async with OPENERS["polling"](case.port) as raw:
        assert isinstance(raw, RawPolling)
        await join(raw)
        # The last one is answered: all were taken.
        assert (await raw.post(b"\x1e".join([b"6"] * 400_000 + [b'427["echo"]']))).status in (200, 400)


async def test_bytes_that_are_no_utf8(case: Case) -> None:
    all_bad = [b"\xed\xa0\x80", b"\xff", b"\xc0\x80", b"\xf8\x88\x80\x80\x80", b"\xe2\x82"]
    for bad in all_bad:
        async with OPENERS["polling"](case.port) as raw:
            assert isinstance(raw, RawPolling)
            await join(raw)
            assert (await raw.post(b'421["echo","' + bad + b'"]')).status == 400
            assert await raw.closed()
    case.lines_allowed = len(all_bad)


@pytest.mark.parametrize("size", [1_000, 900_000])
async def test_a_namespace_with_a_long_name(case: Case, transport: str, size: int) -> None:
    async with OPENERS[transport](case.port) as raw:
        await join(raw)
        await raw.send("40/" + "n" * size + ",")
        with contextlib.suppress(EOFError):
            answer = await raw.receive()
            assert isinstance(answer, str)
            assert answer.startswith("44/nnn")


async def test_very_many_namespaces_on_one_connection(case: Case, transport: str) -> None:
    before = case.server.memory_bytes()
    async with OPENERS[transport](case.port) as raw:
        await join(raw)
        await raw.send(*(f"40/n{number}," for number in range(5_000)))
        refused = 0
        with contextlib.suppress(EOFError):
            while refused < 5_000:
                assert str(await raw.receive()).startswith("44/n")
                refused += 1
    assert case.server.memory_bytes() - before < 64 * MIB


async def test_a_flood_of_connects(case: Case, transport: str) -> None:
    async with OPENERS[transport](case.port) as raw:
        await raw.send(*["40"] * 1_000, '421["echo","alive"]')
        # The newest CONNECT counts; those before it are withdrawn before the application hears of them, but for the
        # newest of each slice of input, of which a slow machine needs some more.
        answers = [await raw.receive()]
        while answers[-1] != '431["alive"]':
            answers.append(await raw.receive())
        assert len(answers) < 100


async def test_cve_2026_48802_pongs_cost_nothing(case: Case, transport: str) -> None:
    before = case.server.memory_bytes()
    async with OPENERS[transport](case.port) as raw:
        await join(raw)
        await raw.send(*["3"] * 10_000)
        assert await ask(raw, '425["echo"]') == "435[]"
    assert case.server.memory_bytes() - before < 64 * MIB


async def test_acks_that_nobody_waits_for(case: Case, transport: str) -> None:
    ack_ids = ["0", "00", "-1", "1.5", "9" * 19, "9" * 300, "1e9"]
    for ack_id in ack_ids:
        async with OPENERS[transport](case.port) as raw:
            await join(raw)
            await raw.send(f"43{ack_id}[1]", f"43{ack_id}[2]")
            try:
                assert await ask(raw, '425["echo"]') == "435[]"
            except EOFError:
                assert not ack_id.isdigit() or len(ack_id) > 15
    case.lines_allowed = len(ack_ids)


async def test_an_ack_that_comes_twice_counts_once(case: Case, transport: str) -> None:
    async with OPENERS[transport](case.port) as raw:
        await join(raw)
        question = await ask(raw, '421["ask","who"]')
        match = re.match(r'42(\d+)\["question","who"\]', question)
        assert match is not None
        await raw.send(f'43{match[1]}["me"]', f'43{match[1]}["not me"]')
        assert await raw.receive() == '431["me"]'
        assert await ask(raw, '425["echo"]') == "435[]"


async def test_closing_in_the_middle_of_everything(case: Case, transport: str) -> None:
    for last in ("40", f'451-["x",{PLACEHOLDER}]', '421["ask"]', "41"):
        async with OPENERS[transport](case.port) as raw:
            if last != "40":
                await join(raw)
            await raw.send(last, "1")
            assert await raw.closed()
    await asyncio.sleep(0)
