"""The fast path's WebSocket protocol under uvicorn: handshakes, closing, and applications that speak ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close, Frame, Opcode
from websockets.typing import Subprotocol

from tests.support.raw import WAIT_S, join, open_polling, target, websocket
from tests.support.require import require_openssl
from tests.support.waiting import until
from tests.transports.direct_site import LARGE, Site, serving
from waypost.protocol.websocket import accept_key
from waypost.transports import frame_carrier
from waypost.transports.direct_websocket import DirectWebSocket

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Site]:
    async with serving() as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def site(shared: Site, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Site]:
    """The module's server, at rest; it must log no error unless the test clears the log."""
    shared.release.clear()
    shared.codes.clear()
    yield shared
    shared.release.set()
    await until(lambda: not shared.carriers, "all WebSockets are gone")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def url(site: Site, name: str) -> str:
    """Where one of the other WebSockets is; the query makes it look like Engine.IO's, and so go the fast way."""
    return f"ws://127.0.0.1:{site.port}/{name}?EIO=4"


def masked(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


async def shake(
    port: int, where: str, connection: str = "Upgrade", receive_bytes: int = 0
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    """Make a bare handshake; returns the streams and the answer's head, with a small buffer if that is asked for."""
    raw = socket.socket()
    if receive_bytes:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    raw.connect(("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=raw, limit=4096)
    writer.write(ask(where, connection))
    async with asyncio.timeout(WAIT_S):
        head = await reader.readuntil(b"\r\n\r\n")
    return reader, writer, head.decode()


def ask(where: str, connection: str = "Upgrade", version: int = 13) -> bytes:
    lines = f"GET {where} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: {connection}\r\n"
    return f"{lines}Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {KEY}\r\n\r\n".encode()


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes."""
    async with asyncio.timeout(WAIT_S):
        with contextlib.suppress(ConnectionError):
            return await reader.read()
    return b""


# ------------------------------------------------------------------------------------------ handshakes


async def test_the_handshake_of_firefox(site: Site) -> None:
    reader, writer, head = await shake(site.port, target(transport="websocket"), "keep-alive, Upgrade")
    assert head.startswith("HTTP/1.1 101 ")
    assert f"sec-websocket-accept: {accept_key(KEY)}" in head.lower().replace(
        accept_key(KEY).lower(), accept_key(KEY)
    )
    await until(lambda: len(site.carriers) == 1, "it goes the fast way")
    assert (await reader.readexactly(3))[:1] == b"\x81"
    writer.close()


@pytest.mark.parametrize("version", [8, 14])
async def test_another_version_of_the_protocol(site: Site, version: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(ask(target(transport="websocket"), version=version))
    assert (await rest(reader)).startswith(b"HTTP/1.1 400 ")
    writer.close()


async def test_a_frame_before_the_answer(site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(ask("/held?EIO=4&late"))
    await until(lambda: bool(waiting_handshakes(site)), "the handshake waits for an answer")
    writer.write(masked(Opcode.TEXT, b"early"))
    assert await rest(reader) == b""
    writer.close()


async def test_a_client_that_goes_before_the_answer(site: Site) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(ask("/held?EIO=4&late"))
    await until(lambda: bool(waiting_handshakes(site)), "the handshake waits for an answer")
    writer.transport.abort()
    await until(lambda: not waiting_handshakes(site), "it is forgotten")


def waiting_handshakes(site: Site) -> list[DirectWebSocket]:
    assert site.server is not None
    return [each for each in site.server.server_state.connections if isinstance(each, DirectWebSocket)]


async def test_what_comes_in_the_same_segment_as_an_upgrade(site: Site) -> None:
    async with open_polling(site.port) as polling:
        await join(polling)
        async with websocket(site.port, {"sid": polling.sid}) as connection:
            await connection.send("2probe")
            assert await connection.recv() == "3probe"
            events = (b"5", b'421["echo",1]', b'422["echo",2]')
            connection.transport.write(b"".join(masked(Opcode.TEXT, each) for each in events))
            assert [await connection.recv(), await connection.recv()] == ["431[1]", "432[2]"]


@pytest.mark.parametrize(
    ("packet", "code"),
    [(b"9", 1000), (b"1", 1000), (b"x" * 1_000_001, 1009)],
    ids=["rubbish", "a goodbye", "too large"],
)
async def test_an_end_in_the_same_segment_as_an_upgrade(site: Site, packet: bytes, code: int) -> None:
    async with open_polling(site.port) as polling:
        await join(polling)
        async with websocket(site.port, {"sid": polling.sid}) as connection:
            await connection.send("2probe")
            assert await connection.recv() == "3probe"
            connection.transport.write(masked(Opcode.TEXT, b"5") + masked(Opcode.TEXT, packet))
            with pytest.raises(ConnectionClosed) as closed:
                async with asyncio.timeout(WAIT_S):
                    await connection.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == code


async def test_bytes_one_by_one(site: Site) -> None:
    reader, writer, _ = await shake(site.port, target(transport="websocket"))
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    long = b'42["echo","' + b"y" * 200 + b'"]'
    for byte in masked(Opcode.TEXT, b"40") + masked(Opcode.TEXT, long.replace(b"42", b"427")):
        writer.write(bytes((byte,)))
        await asyncio.sleep(0.0005)
    async with asyncio.timeout(WAIT_S):
        await reader.readuntil(b'437["' + b"y" * 200 + b'"]')
    writer.close()


# ------------------------------------------------------------------------------------------ closing


@pytest.mark.parametrize(
    ("sent", "answered"),
    [(b"\x03\xe8", b"\x03\xe8"), (b"\x0f\xa0own", b"\x0f\xa0"), (b"", b""), (b"\x03\xed", b"\x03\xea")],
    ids=["1000", "4000", "none", "1005, which may not be sent"],
)
@pytest.mark.parametrize("where", [target(transport="websocket"), "/echo?EIO=4"], ids=["waypost", "asgi"])
async def test_a_close_is_answered(site: Site, where: str, sent: bytes, answered: bytes) -> None:
    reader, writer, _ = await shake(site.port, where)
    writer.write(masked(Opcode.CLOSE, sent))
    assert (await rest(reader)).endswith(bytes((0x88, len(answered))) + answered)
    writer.close()


async def test_the_application_is_told_the_code(site: Site) -> None:
    for code in (1000, 4321):
        async with connect(url(site, "echo")) as connection:
            await connection.close(code)
    async with connect(url(site, "echo")) as connection:
        connection.transport.abort()
        await until(lambda: len(site.codes) == 3, "all are told")
    assert site.codes == [1000, 4321, 1006]


async def test_a_client_that_does_not_answer_a_close(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_carrier, "_CLOSE_TIMEOUT_S", 0.1)
    reader, writer, _ = await shake(site.port, "/echo?EIO=4")
    writer.write(masked(Opcode.TEXT, b"bye"))
    assert await rest(reader) == b"\x88\x08" + Close(4001, "enough").serialize()
    writer.close()


async def test_a_client_that_closes_and_reads_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_carrier, "_CLOSE_TIMEOUT_S", 0.1)
    _, writer, _ = await shake(site.port, "/pour?EIO=4", receive_bytes=4096)
    await until(lambda: any(not each.is_ready for each in site.carriers), "it is full")
    writer.write(masked(Opcode.CLOSE, b"\x03\xe8"))
    await until(lambda: not site.carriers, "it is cut off")
    writer.close()


async def test_a_stop_tells_clients_and_the_application(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(timeout_graceful_shutdown=2) as site:
        connection = await connect(url(site, "echo"))
    with pytest.raises(ConnectionClosed) as closed:
        await connection.recv()
    assert closed.value.rcvd == Close(1012, "")
    assert site.codes == [1012]


# ------------------------------------------------------------------------------------------ too much


async def test_one_that_floods_is_read_no_further_and_loses_nothing(site: Site) -> None:
    async with connect(url(site, "held"), max_size=None, write_limit=0) as connection:
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for number in range(200):
                await connection.send(LARGE[: 400_000 + number])
                sent += 1

        flooding = asyncio.create_task(flood())
        # What was read waits with the carrier: 32 messages, and what the kernel holds.
        await until(lambda: sent >= 32, "the first are taken")
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)
        assert not flooding.done()
        site.release.set()
        assert [int(await connection.recv()) for _ in range(200)] == [400_000 + number for number in range(200)]
        await flooding


async def test_an_application_that_pours_waits_for_the_client(site: Site) -> None:
    site.poured = 0
    async with connect(url(site, "pour"), max_size=None, max_queue=1) as connection:
        await until(lambda: any(not each.is_ready for each in site.carriers), "it is full")
        assert site.poured < 100
        for number in range(100):
            assert (await connection.recv())[:3] == b"%03d" % number


async def test_pings_of_one_that_reads_nothing_fill_no_buffer(site: Site) -> None:
    reader, writer, _ = await shake(site.port, "/pour?EIO=4", receive_bytes=65_536)
    (carrier,) = site.carriers
    await until(lambda: not carrier.is_ready, "it is full")
    full = carrier._transport.get_write_buffer_size()

    def keeps(ping: bytes) -> bool:
        return carrier._reader.pings == [ping]

    for number in range(20):
        writer.write(masked(Opcode.PING, b"p" * 125) * 1000 + masked(Opcode.PING, b"%d" % number))
        await until(partial(keeps, b"%d" % number), "it keeps the last one", WAIT_S)
        assert carrier._transport.get_write_buffer_size() <= full
    writer.write(masked(Opcode.PING, b"the last one"))
    tail = b""
    async with asyncio.timeout(WAIT_S):
        while b"\x8a\x0cthe last one" not in tail:
            tail = tail[-20:] + await reader.read(65_536)
    writer.close()


# ------------------------------------------------------------------------------------------ by ASGI


@pytest.mark.parametrize("query", ["?EIO=4", ""], ids=["fast", "uvicorn's own"])
async def test_another_websocket_of_the_application(site: Site, query: str) -> None:
    where = f"ws://127.0.0.1:{site.port}/echo{query}"
    async with connect(where, subprotocols=[Subprotocol("first"), Subprotocol("second")]) as connection:
        assert connection.subprotocol == "second"
        assert connection.response is not None
        assert connection.response.headers["x-by"] == "asgi"
        assert len(site.carriers) == (1 if query else 0)
        for message in ("text", b"\x00bytes", "", b"", "é" * 70_000):
            await connection.send(message)
            assert await connection.recv() == message
        await connection.send("bye")
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
        assert closed.value.rcvd == Close(4001, "enough")


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [
        ("refuse", 451, b"not today"),
        ("odd", 499, b"a status of our own"),
        ("close", 403, b""),
        ("leave", 500, b"Internal Server Error"),
        ("fail", 500, b"Internal Server Error"),
    ],
)
async def test_a_refused_handshake(
    site: Site, caplog: pytest.LogCaptureFixture, name: str, status: int, body: bytes
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(url(site, name))
    response = refused.value.response
    assert (response.status_code, response.body) == (status, body)
    assert response.headers.get_all("content-length") == [str(len(body))]
    if name == "fail":
        assert "before an answer" in caplog.text
        caplog.clear()


@pytest.mark.parametrize(("name", "code"), [("leave_open", 1000), ("fail_open", 1011)])
async def test_an_application_that_ends_without_closing(
    site: Site, caplog: pytest.LogCaptureFixture, name: str, code: int
) -> None:
    async with connect(url(site, name)) as connection:
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
    assert closed.value.rcvd == Close(code, "")
    if name == "fail_open":
        assert "after the answer" in caplog.text
        caplog.clear()


async def test_compression_is_left_to_uvicorn_where_it_is_allowed() -> None:
    protocol = partial(DirectWebSocket, may_compress=True)
    async with serving(ws_per_message_deflate=True, ws=protocol) as site:
        where = f"ws://127.0.0.1:{site.port}{target(transport='websocket')}"
        for compression in ("deflate", None):
            async with connect(where, compression=compression) as connection:
                assert connection.response is not None
                assert ("Sec-WebSocket-Extensions" in connection.response.headers) is (compression is not None)
                assert len(site.carriers) == (0 if compression else 1)
                await connection.recv()
                await connection.send("40")
                assert str(await connection.recv()).startswith("40{")


# ------------------------------------------------------------------------------------------ where it runs


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and its certificate for 127.0.0.1."""
    openssl = require_openssl()
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += [
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(path),
        "-out",
        str(path),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return path


async def use(scheme: str, trusted: ssl.SSLContext | None, **options: Any) -> None:
    """Echo small and large messages through Waypost and another WebSocket, and close both."""
    async with serving(**options) as site:
        where = f"{scheme}://127.0.0.1:{site.port}"
        async with connect(where + target(transport="websocket"), ssl=trusted, compression=None) as connection:
            await until(lambda: len(site.carriers) == 1, "it goes the fast way")
            await connection.recv()
            await connection.send("40")
            await connection.recv()
            for size in (1, 900_000):
                await connection.send('421["echo","' + "x" * size + '"]')
                assert await connection.recv() == '431["' + "x" * size + '"]'
        async with connect(where + "/echo?EIO=4", ssl=trusted, compression=None) as connection:
            await connection.send(LARGE)
            assert await connection.recv() == LARGE
        await until(lambda: not site.carriers, "both are gone")
        assert site.codes == [1000]
        stopped = await connect(where + "/echo?EIO=4", ssl=trusted, compression=None)
    with pytest.raises(ConnectionClosed) as closed:
        await stopped.recv()
    assert closed.value.rcvd == Close(1012, "")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_each_loop_with_and_without_tls(certificate: Path, loop: str, scheme: str) -> None:
    options: dict[str, Any] = {}
    trusted = None
    if scheme == "wss":
        options = {"ssl_certfile": str(certificate), "ssl_keyfile": str(certificate)}
        trusted = ssl.create_default_context(cafile=certificate)
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop

    def run() -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(use(scheme, trusted, **options))

    # In a thread, for the tests have a loop of their own.
    await asyncio.to_thread(run)
