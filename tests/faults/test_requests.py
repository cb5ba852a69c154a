"""Requests that Engine.IO refuses, and the code of each refusal."""

from __future__ import annotations

import asyncio

import pytest
from websockets.exceptions import InvalidStatus

from tests.faults.conftest import Case
from tests.support.raw import (
    PATH,
    WAIT_S,
    chunked,
    exchange,
    join,
    open_polling,
    open_websocket,
    parse,
    request,
    request_bytes,
    target,
    websocket,
)

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

LIMIT = 1_000_000

UNKNOWN_TRANSPORT, UNKNOWN_SESSION, BAD_METHOD, BAD_REQUEST, _, UNSUPPORTED_PROTOCOL = range(6)

REFUSED = {
    "no query at all": ("GET", PATH, UNKNOWN_TRANSPORT),
    "no transport": ("GET", PATH + "?EIO=4", UNKNOWN_TRANSPORT),
    "unknown transport": ("GET", target(transport="pigeon"), UNKNOWN_TRANSPORT),
    "webtransport": ("GET", target(transport="webtransport"), UNKNOWN_TRANSPORT),
    "transport with brackets": ("GET", PATH + "?EIO=4&transport[]=polling", UNKNOWN_TRANSPORT),
    "transport __proto__": ("GET", target(transport="__proto__"), UNKNOWN_TRANSPORT),
    "no protocol": ("GET", PATH + "?transport=polling", UNSUPPORTED_PROTOCOL),
    "protocol 3": ("GET", target(EIO="3"), UNSUPPORTED_PROTOCOL),
    "protocol 5": ("GET", target(EIO="5"), UNSUPPORTED_PROTOCOL),
    "protocol four": ("GET", target(EIO="four"), UNSUPPORTED_PROTOCOL),
    "unknown session": ("GET", target(sid="unknown"), UNKNOWN_SESSION),
    "unknown session, POST": ("POST", target(sid="unknown"), UNKNOWN_SESSION),
    "session __proto__": ("GET", target(sid="__proto__"), UNKNOWN_SESSION),
    "session constructor": ("GET", target(sid="constructor"), UNKNOWN_SESSION),
    "session of strange bytes": ("GET", target(sid="%ff%00%0a"), UNKNOWN_SESSION),
    "session of 10 kB": ("GET", target(sid="s" * 10_000), UNKNOWN_SESSION),
    "POST without a session": ("POST", target(), BAD_METHOD),
    "PUT without a session": ("PUT", target(), BAD_METHOD),
    "DELETE without a session": ("DELETE", target(), BAD_METHOD),
    "websocket that does not upgrade": ("GET", target(transport="websocket"), BAD_REQUEST),
}


@pytest.mark.parametrize(("method", "where", "code"), REFUSED.values(), ids=REFUSED)
async def test_a_refusal_has_its_code(case: Case, method: str, where: str, code: int) -> None:
    answer = await request(case.port, method, where, body=b"4x" if method == "POST" else None)
    assert answer.status == 400
    assert answer.code == code
    assert answer.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize("where", ["/socket.iox/", "/", "/socket"])
async def test_other_paths_are_not_served(case: Case, where: str) -> None:
    answer = await request(case.port, "GET", where + "?EIO=4&transport=polling")
    assert answer.status == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE"])
async def test_a_wrong_method_leaves_the_session_alone(case: Case, method: str) -> None:
    async with open_polling(case.port) as raw:
        answer = await request(case.port, method, target(sid=raw.sid))
        assert answer.status in (400, 405)
        await join(raw)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example", "//"])
async def test_a_foreign_origin_is_refused(case: Case, transport: str, origin: str) -> None:
    if transport == "websocket":
        with pytest.raises(InvalidStatus) as refusal:
            async with websocket(case.port, headers={"Origin": origin}):
                pass
        assert refusal.value.response.status_code in (400, 403)
    else:
        answer = await request(case.port, "GET", target(), headers={"Origin": origin})
        assert answer.status in (400, 403)
        assert answer.code in (3, 4)
        assert "access-control-allow-origin" not in answer.headers


async def test_the_own_origin_is_welcome(case: Case) -> None:
    answer = await request(
        case.port, "GET", target(), {"Host": "shop.example:81", "Origin": "http://shop.example:81"}
    )
    assert answer.status == 200
    own = f"http://127.0.0.1:{case.port}"
    async with websocket(case.port, headers={"Origin": own}) as connection:
        opened = await connection.recv()
        assert isinstance(opened, str)
        assert opened.startswith("0")


@pytest.mark.parametrize("with_length", [True, False], ids=["length", "chunked"])
async def test_a_body_over_the_limit(case: Case, with_length: bool) -> None:
    async with open_polling(case.port) as raw:
        body = b"4" + b"x" * LIMIT
        where = target(sid=raw.sid)
        if with_length:
            data = request_bytes("POST", where, body=body)
        else:
            data = request_bytes("POST", where, {"Transfer-Encoding": "chunked"}) + chunked(body, 10_000)
        assert parse(await exchange(case.port, data)).status == 413


async def test_a_length_over_the_limit_needs_no_body(case: Case) -> None:
    async with open_polling(case.port) as raw:
        data = request_bytes("POST", target(sid=raw.sid), {"Content-Length": "99999999999"})
        assert parse(await exchange(case.port, data)).status == 413


async def test_a_body_that_never_ends(case: Case) -> None:
    async with open_polling(case.port) as raw:
        reader, writer = await asyncio.open_connection("127.0.0.1", case.port)
        writer.write(request_bytes("POST", target(sid=raw.sid), {"Transfer-Encoding": "chunked"}))
        async with asyncio.timeout(WAIT_S):
            answer = asyncio.create_task(reader.read())
            while not answer.done():
                writer.write(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
                try:
                    await writer.drain()
                except ConnectionError:
                    break
                await asyncio.sleep(0.01)
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)
        writer.transport.abort()


async def test_a_body_that_breaks_off(case: Case) -> None:
    async with open_polling(case.port) as raw:
        await join(raw)
        _, writer = await asyncio.open_connection("127.0.0.1", case.port)
        writer.write(request_bytes("POST", target(sid=raw.sid), {"Content-Length": "100"}) + b"4")
        await writer.drain()
        writer.transport.abort()


async def test_an_octet_stream_is_refused(case: Case) -> None:
    async with open_polling(case.port) as raw:
        answer = await raw.post(b"4x", {"Content-Type": "application/octet-stream"})
        assert answer.status == 400
        assert (await raw.poll()).code == UNKNOWN_SESSION


@pytest.mark.parametrize("body", [b"", b"\xff\xfe4x", b"\x1e", b"\x1e" * 10_000, b"b!!!", b"4x\x1e"])
async def test_a_body_that_is_no_payload(case: Case, body: bytes) -> None:
    async with open_polling(case.port) as raw:
        assert (await raw.post(body)).status in (200, 400)
        assert await raw.closed()


async def test_two_polls_at_once(case: Case) -> None:
    async with open_polling(case.port) as raw:
        await join(raw)
        first = asyncio.create_task(raw.poll())
        await asyncio.sleep(0.1)
        second = await raw.poll()
        assert second.status == 400
        assert (await first).body == b"1"
        assert (await raw.poll()).code == UNKNOWN_SESSION


async def test_two_posts_at_once(case: Case) -> None:
    async with open_polling(case.port) as raw:
        await join(raw)
        _, writer = await asyncio.open_connection("127.0.0.1", case.port)
        writer.write(request_bytes("POST", target(sid=raw.sid), {"Content-Length": "100"}) + b"4")
        await writer.drain()
        await asyncio.sleep(0.1)
        assert (await raw.post(b'42["x"]')).status == 400
        assert await raw.closed()
        writer.transport.abort()


async def test_a_poll_that_is_dropped(case: Case) -> None:
    async with open_polling(case.port) as raw:
        await join(raw)
        _, writer = await asyncio.open_connection("127.0.0.1", case.port)
        writer.write(request_bytes("GET", target(sid=raw.sid)))
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.transport.abort()
        assert await raw.closed()


async def test_a_close_packet_ends_the_session(case: Case) -> None:
    async with open_polling(case.port) as raw:
        await join(raw)
        pending = asyncio.create_task(raw.poll())
        await asyncio.sleep(0.1)
        assert (await raw.post(b"1")).status == 200
        assert (await pending).body == b"6"
        assert (await raw.poll()).code == UNKNOWN_SESSION


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02\xff\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET " + b"/" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"Connection: close\r\n\r\n",
        b"POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    ],
    ids=["bytes", "half a request", "long path", "TLS", "many headers", "negative length"],
)
async def test_what_is_no_http(case: Case, raw: bytes) -> None:
    head = (await exchange(case.port, raw))[:12]
    assert not head.startswith(b"HTTP/1.1 5")


async def test_a_polling_session_refuses_another_transport(case: Case) -> None:
    async with open_websocket(case.port) as raw:
        await join(raw)
        answer = await request(case.port, "GET", target(sid=raw.sid))
        assert (answer.status, answer.code) == (400, BAD_REQUEST)
        answer = await request(case.port, "POST", target(sid=raw.sid), body=b'42["x"]')
        assert (answer.status, answer.code) == (400, BAD_REQUEST)
        case.lines_allowed = 2
        await raw.send('421["echo"]')
        assert await raw.receive() == "431[]"
