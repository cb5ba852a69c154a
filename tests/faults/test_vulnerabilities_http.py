"""Known vulnerabilities of Socket.IO servers, as requests: what was sent then must harm nobody here.

`docs/security.md` lists all of them, with the tests of other files too.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.conftest import Case
from tests.support.raw import (
    PATH,
    Answer,
    chunked,
    exchange,
    join,
    open_polling,
    parse,
    request,
    request_bytes,
    reset,
    target,
    websocket,
)
from tests.support.waiting import DEADLINE_S

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

UNKNOWN_SESSION = 1


async def test_cve_2020_36048_a_body_in_very_many_chunks(case: Case) -> None:
    async with open_polling(case.port) as raw:
        await join(raw)
        body = b'421["echo","' + b"x" * 900_000 + b'"]'
        head = request_bytes("POST", target(sid=raw.sid), {"Transfer-Encoding": "chunked"})
        assert parse(await exchange(case.port, head + chunked(body, 16))).body == b"ok"
        answer = await raw.receive()
        assert isinstance(answer, str)
        assert len(answer) > 900_000


@pytest.mark.parametrize("content_type", ["application/octet-stream", "APPLICATION/OCTET-STREAM; x=y"])
async def test_cve_2026_59725_a_binary_body_is_answered(case: Case, content_type: str) -> None:
    async with open_polling(case.port) as raw:
        answer = await raw.post(b"\x04x" * 1_000, {"Content-Type": content_type})
        assert answer.status == 400
        assert (await raw.poll()).code == UNKNOWN_SESSION


@pytest.mark.parametrize(
    "header",
    [
        "Sec-WebSocket-Extensions: constructor",
        "Sec-WebSocket-Extensions: __proto__; hasOwnProperty=1, toString",
        "Sec-WebSocket-Extensions: " + ",;=" * 2_000,
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99",
        "Sec-WebSocket-Protocol: a" + " " * 8_000 + "b",
        "Sec-WebSocket-Protocol: __proto__, constructor",
        "Sec-WebSocket-Version: 99",
        "Sec-WebSocket-Key: short",
    ],
    ids=lambda header: header[:60],
)
async def test_ghsa_5v72_and_cve_2021_32640_headers_of_a_websocket(case: Case, header: str) -> None:
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    name, _, value = header.partition(": ")
    head = request_bytes("GET", target(transport="websocket"), {**headers, name: value})
    status = await first_line(case.port, head)
    assert status.startswith((b"HTTP/1.1 101", b"HTTP/1.1 4"))


async def test_compression_of_messages_is_not_agreed_to(case: Case) -> None:
    async with websocket(case.port, headers={"Sec-WebSocket-Extensions": "permessage-deflate"}) as connection:
        assert connection.response is not None
        assert "Sec-WebSocket-Extensions" not in connection.response.headers


@pytest.mark.parametrize("count", [200, 1_500])
async def test_cve_2024_37890_more_headers_than_others_take(case: Case, count: int) -> None:
    headers = {f"X-{number}": "y" for number in range(count)}
    answer = await request(case.port, "GET", target(), headers)
    assert answer.status in (200, 431)
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    status = await first_line(
        case.port, request_bytes("GET", target(transport="websocket"), {**headers, **upgrade, **key})
    )
    assert status.startswith(b"HTTP/1.1 431")
    case.lines_allowed = 2


@pytest.mark.parametrize("where", [PATH, "/nowhere/", "/"])
async def test_an_upgrade_on_any_path_and_then_a_reset(case: Case, where: str) -> None:
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    for _ in range(5):
        reset(case.port, request_bytes("GET", where + "?EIO=4&transport=websocket", headers))
    case.lines_allowed = 5


async def test_cve_2022_41940_a_reset_while_the_upgrade_is_answered(case: Case) -> None:
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    async with open_polling(case.port) as raw:
        await join(raw)
        for _ in range(5):
            reset(case.port, request_bytes("GET", target(transport="websocket", sid=raw.sid), headers))
        await raw.send('425["echo","alive"]')
        assert await raw.receive() == '435["alive"]'
    case.lines_allowed = 5


async def test_a_body_beyond_its_length_is_no_second_request(case: Case) -> None:
    async with open_polling(case.port) as raw:
        await join(raw)
        hidden = request_bytes("POST", target(sid=raw.sid), body=b'42["echo","hidden"]')
        head = request_bytes("POST", target(sid=raw.sid), {"Content-Length": "1"})
        await exchange(case.port, head + b"3" + hidden)
        both = {"Content-Length": "1", "Transfer-Encoding": "chunked"}
        smuggled = await exchange(case.port, request_bytes("POST", target(sid=raw.sid), both) + b"0\r\n\r\n" + hidden)
        assert smuggled.count(b"HTTP/1.1 200") <= 1
    case.lines_allowed = 3


async def test_http_after_an_upgrade_is_no_request(case: Case) -> None:
    async with websocket(case.port) as connection:
        await connection.recv()
        connection.transport.write(request_bytes("GET", target()))
        await closing(connection.transport)
    case.lines_allowed = 2


@pytest.mark.parametrize(
    "path",
    [
        "/socket.io/../pyproject.toml",
        "/socket.io/..%2f..%2fetc/passwd",
        "/socket.io/socket.io.js%00.py",
        "//etc/passwd",
    ],
)
async def test_no_file_is_served_but_the_client(case: Case, path: str) -> None:
    answer = await request(case.port, "GET", path)
    assert answer.status == 404
    assert b"root:" not in answer.body


@pytest.mark.parametrize("size", [1_000, 30_000, 100_000])
async def test_a_session_id_without_end(case: Case, size: int) -> None:
    answer = await request(case.port, "GET", target(sid="s" * size))
    assert answer.code == UNKNOWN_SESSION or answer.status in (400, 414, 431)


@pytest.mark.parametrize(
    "query",
    [
        "?EIO=4&EIO=3&transport=polling&transport=websocket",
        "?EIO=4&transport=polling&sid=__proto__&sid=x",
        "?EIO=4&transport=polling" + "&a=b" * 10_000,
        "?EIO=4&transport=polling&t=" + "%00" * 1_000,
        "?%45IO=4&transport=polling",
        "?EIO=4&transport=polling&constructor=x&__proto__[a]=b&toString=1",
        "?&&&===;;;EIO=4;transport=polling",
        "?EIO=%ff%fe&transport=%c0%ae",
    ],
)
async def test_strange_queries(case: Case, query: str) -> None:
    answer = await request(case.port, "GET", PATH + query)
    assert answer.status in (200, 400, 414)
    if answer.status == 400:
        assert answer.code in range(6)


async def test_line_ends_in_parameters_are_no_headers(case: Case) -> None:
    values = ["%0d%0aX-Injected:%201", "%0aX-Injected:1", "%E5%98%8A%E5%98%8DX-Injected:1"]
    parameters = ["j", "sid", "t", "transport", "EIO"]
    for value in values:
        for parameter in parameters:
            assert_not_injected(await request(case.port, "GET", target(**{parameter: value})))
    case.lines_allowed = len(values) * len(parameters)


@pytest.mark.parametrize("name", ["Origin", "Cookie", "Access-Control-Request-Headers", "Host"])
async def test_strange_header_values_come_back_in_no_answer(case: Case, name: str) -> None:
    values = ["http://a\rX-Injected: 1", "a\x00b\x01", "%0d%0aX-Injected: 1", "\xff\xfe"]
    for value in values:
        for method in ("GET", "OPTIONS"):
            answer = await request(case.port, method, target(), {name: value})
            assert answer.status in (200, 204, 400)
            assert_not_injected(answer)
    case.lines_allowed = 2 * len(values)


def assert_not_injected(answer: Answer) -> None:
    assert "x-injected" not in answer.headers
    assert not any("\r" in value or "\n" in value for value in answer.headers.values())


async def first_line(port: int, data: bytes) -> bytes:
    """Send bytes, and return the first line of what comes back; ``b""`` if the server just closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        async with asyncio.timeout(DEADLINE_S):
            return (await reader.readline()).strip()
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def closing(transport: asyncio.Transport) -> None:
    """Wait until the other side has closed."""
    async with asyncio.timeout(DEADLINE_S):
        while not transport.is_closing():
            await asyncio.sleep(0.01)
