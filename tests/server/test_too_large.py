"""What is too large says so: the log has the size, the limit and the option that sets it, in one form of sentence."""

from __future__ import annotations

import asyncio
import logging

import pytest

import waypost
from tests.server.model_client import ModelClient, running, until
from tests.support import raw
from tests.transports.asgi_client import POLLING, ask, join, serving, websocket
from tests.transports.direct_site import serving as serving_directly

MOST = 2_000


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "expected at most" in record.getMessage()]


@pytest.mark.parametrize("has_length", [True, False])
async def test_a_body(caplog: pytest.LogCaptureFixture, has_length: bool) -> None:
    io = waypost.Server(drain_s=0.0, max_payload_bytes=MOST)
    async with serving(io):
        query = await join(io)
        headers = {"Content-Length": "5000"} if has_length else {}
        answer = await ask(io, query, method="POST", headers=headers, body=[b"4" * 5_000])
        assert answer.status == 413
    size = 5_000 if has_length else MOST + 1
    assert logged(caplog) == [
        f"refused a POST: bytes of a body: expected at most {MOST}, received {size}; "
        "the option max_payload_bytes sets the limit"
    ]


async def test_a_message_over_websocket(caplog: pytest.LogCaptureFixture) -> None:
    async with serving_directly(ws_max_size=MOST) as site, raw.open_websocket(site.port) as client:
        await client.send("4" * (MOST + 1))
        assert await client.closed()
        await until(lambda: bool(logged(caplog)))
    assert logged(caplog) == [
        f"closing a WebSocket for message bytes: expected at most {MOST}, received {MOST + 1}; "
        "the option max_payload_bytes sets the limit"
    ]


@pytest.mark.parametrize(
    ("packet", "sentence"),
    [
        (
            '53-["x"]',
            "attachments of a packet: expected at most 2, received 3; the option max_attachments sets the limit",
        ),
        (
            "2" + '["x"]'.ljust(MOST),
            f"message bytes: expected at most {MOST}, received {MOST + 2}; "
            "the option max_payload_bytes sets the limit",
        ),
    ],
)
async def test_packets(caplog: pytest.LogCaptureFixture, packet: str, sentence: str) -> None:
    io = waypost.Server(drain_s=0.0, max_attachments=2, max_payload_bytes=MOST)
    async with serving(io), websocket(io) as socket:
        socket.write("40")
        socket.write(f"4{packet}")
        while (await socket.next())["type"] != "websocket.close":
            pass
    [line] = logged(caplog)
    assert line.startswith("closing websocket connection")
    assert line.endswith(f": {sentence}")


async def test_auth(caplog: pytest.LogCaptureFixture) -> None:
    async with running(waypost.Server(drain_s=0.0, max_auth_bytes=1_000)) as io:
        client = ModelClient(io)
        await client.connect("x" * 5_000)
    [line] = logged(caplog)
    assert "expected at most 1000, received" in line
    assert line.endswith("the option max_auth_bytes sets the limit")


async def test_what_waits_for_a_slow_client(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "waypost")
    async with running(waypost.Server(drain_s=0.0, max_buffered_bytes=1_000, max_stalled_s=0.05)) as io:
        full, stalled = ModelClient(io), ModelClient(io)
        for client in (full, stalled):
            await client.connect()
            client.stop_reading()
        await asyncio.sleep(0)
        for _ in range(3):
            await io.to(full.sid or "").emit("news", "x" * 600)
            await io.to(stalled.sid or "").emit("news", "x")
        await until(lambda: len(logged(caplog)) == 2)
    lines = sorted(line.partition("a slow client: ")[2] for line in logged(caplog))
    assert lines[0].startswith("bytes that wait: expected at most 1000, received ")
    assert lines[0].endswith("; the option max_buffered_bytes sets the limit")
    assert lines[1].startswith("seconds that frames wait: expected at most 0")
    assert lines[1].endswith("; the option max_stalled_s sets the limit")


@pytest.mark.parametrize("what", ["query", "headers"])
async def test_a_handshake(caplog: pytest.LogCaptureFixture, what: str) -> None:
    caplog.set_level(logging.INFO, "waypost")
    io = waypost.Server(drain_s=0.0)
    async with serving(io):
        large = "x" * 60_000
        await ask(io, f"{POLLING}&t={large}") if what == "query" else await ask(io, headers={"X-Large": large})
    [line] = logged(caplog)
    assert what in line
