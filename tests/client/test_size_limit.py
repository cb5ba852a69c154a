"""What is too large for the server is refused where it is sent, counted as it really goes over the transport."""

from __future__ import annotations

from typing import Any

import pytest

import waypost
import waypost.testing
from tests.support.waiting import until
from waypost.client.size_limit import SizeLimit
from waypost.protocol.engineio import encode_payload

MOST = 3_000


def make_server() -> waypost.Server:
    io = waypost.Server(drain_s=0.0, max_payload_bytes=MOST)
    io.on("size", lambda socket, value: len(value))
    io.on("fetch", lambda socket, size: None)
    return io


@pytest.mark.parametrize(
    ("transports", "most"),
    # Base64 makes three bytes four, and a letter stands before it.
    [(["polling"], (MOST - 1) // 4 * 3), (["websocket"], MOST)],
)
async def test_binary_values_count_as_the_transport_carries_them(transports: list[Any], most: int) -> None:
    async with waypost.testing.serve(make_server()) as site:
        client = await site.connect(transports=transports)
        assert await client.call("size", b"x" * most) == most
        with pytest.raises(waypost.EncodingFailed, match=f"{MOST + 1}|{MOST + 4}") as failed:
            await client.call("size", b"x" * (most + 1))
        assert f"over {'polling' if transports == ['polling'] else 'WebSocket'}" in str(failed.value)
        assert f"max_payload_bytes allows {MOST}" in str(failed.value)
        assert client.connected
        assert await client.call("size", b"x") == 1


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_text_counts_to_the_byte(transport: Any) -> None:
    async with waypost.testing.serve(make_server()) as site:
        client = await site.connect(transports=[transport])
        head = len('42["size",""]') + 1  # the id of the call
        for text in ("x", "é"):
            count = (MOST - head) // len(text.encode())
            assert await client.call("size", text * count) == count
            with pytest.raises(waypost.EncodingFailed, match="event 'size'"):
                await client.call("size", text * (count + 1))
        assert client.connected


async def test_an_answer_that_is_too_large_ends_no_connection() -> None:
    io = make_server()
    answers: list[Any] = []

    @io.on("ready")
    async def ready(socket: waypost.Socket) -> None:
        answers.append(await socket.call("fetch", timeout_s=20))

    async with waypost.testing.serve(io) as site:
        client = site.client()
        client.on("fetch", lambda: "x" * MOST)
        await client.connect()
        await client.emit("ready")
        await until(lambda: bool(answers), "the answer")
        assert answers == [{"nack": "EncodingFailed"}]
        assert client.connected


async def test_a_namespace_joined_later_knows_the_limit() -> None:
    io = make_server()
    io.of("/late")
    async with waypost.testing.serve(io) as site:
        client = await site.connect()
        late = client.of("/late")
        await late.connect()
        with pytest.raises(waypost.EncodingFailed, match="max_payload_bytes"):
            await late.emit("size", "x" * MOST)


@pytest.mark.parametrize("frame", ["4" + "x" * 10, "4" + "é" * 10, b"x" * 10])
def test_over_polling_a_packet_alone_is_counted_as_it_is_encoded(frame: str | bytes) -> None:
    limit = SizeLimit(["polling"])
    limit.max_bytes = len(encode_payload([frame]))
    limit.check("it", [frame])
    limit.max_bytes -= 1
    with pytest.raises(waypost.EncodingFailed, match=f"it takes {limit.max_bytes + 1} bytes"):
        limit.check("it", [frame])
