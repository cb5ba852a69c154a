"""Engine.IO 4, "HTTP long-polling": payloads, limits, and what ends the session."""

from __future__ import annotations

import asyncio
import base64

import pytest

from tests.conformance.site import Site, connected
from tests.support.raw import (
    chunked,
    exchange,
    join,
    open_polling,
    parse,
    request_bytes,
    target,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 20_000
SERVER_OPTIONS = {"max_payload_bytes": LIMIT}
BINARY = bytes(range(256))


async def test_answer_to_a_post(site: Site) -> None:
    async with open_polling(site.port) as raw:
        answer = await raw.post(b"40")
        assert (answer.status, answer.body) == (200, b"ok")
        assert answer.headers["content-type"] == "text/html"


async def test_answer_to_a_poll(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await raw.post(b"40")
        answer = await raw.poll()
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain; charset=UTF-8"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.body.startswith(b'40{"sid":')


async def test_one_text_packet(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        await raw.post('42["say","héllo €😀"]'.encode())
        assert (await raw.poll()).body == '42["said","héllo €😀"]'.encode()


async def test_several_packets_in_one_payload(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        await raw.post(b'42["say",1]\x1e42["say",2]\x1e42["say",3]')
        received = [await raw.receive() for _ in range(3)]
        assert received == ['42["said",1]', '42["said",2]', '42["said",3]']


async def test_what_waits_comes_in_one_payload(site: Site) -> None:
    async with open_polling(site.port) as raw:
        sid = await connected(raw)
        for number in (1, 2, 3):
            await site.sockets[sid].emit("news", number)
        assert (await raw.poll()).body == b'42["news",1]\x1e42["news",2]\x1e42["news",3]'


async def test_a_binary_packet_is_base64_behind_a_b(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        placeholder = '{"_placeholder":true,"num":0}'
        encoded = base64.b64encode(BINARY).decode()
        await raw.post(f'451-["say",{placeholder}]\x1eb{encoded}'.encode())
        assert (await raw.poll()).body == f'451-["said",{placeholder}]\x1eb{encoded}'.encode()


async def test_no_number_of_packets_is_too_many(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        await raw.post(b"\x1e".join(b'42["say",%d]' % number for number in range(200)))
        received = [await raw.receive() for _ in range(200)]
        assert received == [f'42["said",{number}]' for number in range(200)]


async def test_a_poll_waits_for_something_to_send(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        pending = asyncio.create_task(raw.poll())
        await site.polled(raw.sid)
        await raw.post(b'42["say","late"]')
        assert (await pending).body == b'42["said","late"]'


async def test_two_polls_at_the_same_time(site: Site) -> None:
    async with open_polling(site.port) as raw:
        sid = await connected(raw)
        first = asyncio.create_task(raw.poll())
        await site.polled(raw.sid)
        second = await raw.poll()
        assert (second.status, second.body) == (400, b"")
        assert (await first).body == b"1"
        third = await raw.poll()
        assert (third.status, third.code) == (400, 1)
        assert await site.reason(sid) == "transport error"


async def test_two_posts_at_the_same_time(site: Site) -> None:
    async with open_polling(site.port) as raw:
        sid = await connected(raw)
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(request_bytes("POST", target(sid=raw.sid), {"Content-Length": "6"}) + b"42")
        await site.posting(raw.sid)
        pending = asyncio.create_task(raw.poll())
        await site.polled(raw.sid)
        second = await raw.post(b'42["say"]')
        assert (second.status, second.body) == (400, b"")
        assert (await pending).body == b"1"
        writer.write(b'["a"]')
        assert b" 200 " not in (await reader.read()).split(b"\r\n")[0]
        writer.close()
        assert (await raw.poll()).code == 1
        assert await site.reason(sid) == "transport error"


async def test_a_body_at_the_limit(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        text = "x" * (LIMIT - len('42["say",""]'))
        assert (await raw.post(f'42["say","{text}"]'.encode())).status == 200
        assert await raw.receive() == f'42["said","{text}"]'


@pytest.mark.parametrize("how", ["length", "chunked", "only announced"])
async def test_a_body_over_the_limit(site: Site, how: str) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        body, where = b"4" + b"x" * LIMIT, target(sid=raw.sid)
        if how == "length":
            sent = request_bytes("POST", where, body=body)
        elif how == "chunked":
            sent = request_bytes("POST", where, {"Transfer-Encoding": "chunked"}) + chunked(body, 1_000)
        else:
            sent = request_bytes("POST", where, {"Content-Length": str(LIMIT + 1)})
        answer = parse(await exchange(site.port, sent))
        assert (answer.status, answer.body) == (413, b"")
        await raw.post(b'42["say","still here"]')
        assert await raw.receive() == '42["said","still here"]'


async def test_the_limit_counts_bytes_and_not_characters(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        body = ('42["say","' + "é" * (LIMIT // 2) + '"]').encode()
        assert len(body.decode()) < LIMIT < len(body)
        assert (await raw.post(body)).status == 413


async def test_an_octet_stream_is_refused(site: Site) -> None:
    async with open_polling(site.port) as raw:
        sid = await connected(raw)
        pending = asyncio.create_task(raw.poll())
        await site.polled(raw.sid)
        answer = await raw.post(b"4x", {"Content-Type": "application/octet-stream"})
        assert answer.status == 400
        assert (await pending).body == b"1"
        assert await site.reason(sid) == "transport error"
        assert (await raw.poll()).code == 1


BAD_PAYLOADS = {
    "empty": b"",
    "unknown type": b"abc",
    "type 7": b"7",
    "an open packet": b'0{"sid":"x"}',
    "an upgrade packet": b"5",
    "an empty packet first": b'\x1e42["say"]',
    "an empty packet last": b'42["say"]\x1e',
    "base64 that is none": b"b!!!",
    "base64 cut off": b"bAQI",
    "no UTF-8": b'42["say","\xff"]',
    "the format of revision 3": b"1:2",
}


@pytest.mark.parametrize("body", BAD_PAYLOADS.values(), ids=BAD_PAYLOADS)
async def test_a_bad_payload_ends_the_session(site: Site, body: bytes) -> None:
    async with open_polling(site.port) as raw:
        sid = await connected(raw)
        assert (await raw.post(body)).status == 400
        answer = await raw.poll()
        assert (answer.status, answer.code) == (400, 1)
        assert await site.reason(sid) == "parse error"


async def test_of_a_bad_payload_nothing_is_taken(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        pending = asyncio.create_task(raw.poll())
        await site.polled(raw.sid)
        await raw.post(b'42["say","x"]\x1eabc')
        assert (await pending).body == b"1"


async def test_a_poll_that_the_client_drops(site: Site) -> None:
    async with open_polling(site.port) as raw:
        sid = await connected(raw)
        _, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(request_bytes("GET", target(sid=raw.sid)))
        await site.polled(raw.sid)
        writer.transport.abort()
        assert await site.reason(sid) == "transport error"
        assert (await raw.poll()).code == 1


async def test_a_post_that_the_client_drops(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await connected(raw)
        _, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(request_bytes("POST", target(sid=raw.sid), {"Content-Length": "100"}) + b'42["say","half')
        await site.posting(raw.sid)
        writer.transport.abort()
        await site.posted(raw.sid)
        await raw.post(b'42["say","whole"]')
        assert await raw.receive() == '42["said","whole"]'


async def test_a_noop_from_the_client_is_ignored(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        assert (await raw.post(b"6")).status == 200
        await raw.post(b'42["say"]')
        assert await raw.receive() == '42["said"]'
