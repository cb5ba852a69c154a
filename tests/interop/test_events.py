"""Events and acks with the official client, over each transport."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.conftest import Connect
from tests.interop.peer import Rule
from tests.support.server_process import ServerProcess

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

ARGUMENTS: dict[str, list[Any]] = {
    "none": [],
    "one": ["one"],
    "null": [None],
    "several": [1, "two", 3.5, None, True, [], {}],
    "numbers": [0, -1, 2**53 - 1, -(2**53) + 1, 1e308, 5e-324, 0.1],
    "nested": [{"a": [{"b": [[{"c": None}]]}]}, [[[[[]]]]]],
    "unicode": ["naïve ☃ 🜁 👩‍👩‍👧", "\u2028\u2029\x00\x1e\x7f", "עברית", {"ключ": "値"}],
    "quotes": ['"', "\\", "42[]", "b4AAEC", "\n\r\t", "2-[]"],
    "bytes": [b"\x00\x01\xff"],
    "empty bytes": [b""],
    "bytes inside": [{"a": [b"1", {"b": b"2"}], "c": "3"}, b"4", [[b"5"]], "6"],
    "same bytes twice": [b"same", b"same"],
    "placeholder": [{"_placeholder": False, "num": 0}, {"$bytes": "no"}, {"$object": {"a": 1}}],
}


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
async def test_an_ack_brings_back_what_was_emitted(connect: Connect, mode: str, arguments: list[Any]) -> None:
    client = await connect(mode)
    assert await client.call("echo", *arguments) == arguments
    if mode == "upgrade":
        await client.upgraded()
        assert await client.call("echo", *arguments) == arguments
    assert (await client.state()).transport == ("polling" if mode == "polling" else "websocket")


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
async def test_an_event_brings_back_what_was_emitted(connect: Connect, mode: str, arguments: list[Any]) -> None:
    client = await connect(mode)
    await client.emit("say", *arguments)
    assert await client.gets("said") == [tuple(arguments)]
    if mode == "upgrade":
        await client.upgraded()
        await client.emit("say", *arguments)
        assert await client.gets("said", 2) == [tuple(arguments)] * 2


@pytest.mark.parametrize(
    ("rule", "answer"),
    [
        ("echo", [[b"q", {"w": b"2"}], "ü"]),
        ("ack", []),
        (["one"], ["one"]),
        ([None], [None]),
        ([1, b"two", {"three": [b"3"]}], [1, b"two", {"three": [b"3"]}]),
    ],
)
async def test_the_client_acknowledges_a_call(connect: Connect, mode: str, rule: Rule, answer: list[Any]) -> None:
    client = await connect(mode, rules={"question": rule})
    answered = await client.call("ask", [b"q", {"w": b"2"}], "ü")
    assert answered == ([] if answer == [None] else answer)
    assert await client.gets("question") == [([b"q", {"w": b"2"}], "ü")]


async def test_a_call_nobody_acknowledges_times_out(connect: Connect, mode: str) -> None:
    client = await connect(mode, rules={"question": "hold"})
    [text] = await client.call("ask_in_vain")
    assert "'question' was not acknowledged within 0.2 s" in text
    await client.ack(client.received["question"][0], "too late")
    assert await client.call("echo", "still here") == ["still here"]


async def test_many_events_of_one_tick_arrive_in_order(connect: Connect, mode: str) -> None:
    client = await connect(mode)
    await client.burst("count", [0] * 500)
    [numbers] = await client.call("counted")
    assert numbers == list(range(500))


async def test_calls_overtake_nothing(connect: Connect, mode: str) -> None:
    client = await connect(mode)
    for number in range(50):
        await client.emit("say", number)
        assert await client.call("echo", number) == [number]
    assert await client.gets("said", 50) == [(number,) for number in range(50)]


async def test_a_failing_handler_costs_neither_the_connection_nor_its_secrets(
    connect: Connect, server: ServerProcess
) -> None:
    server.tracebacks_allowed += 1
    client = await connect()
    await client.emit("fail")
    assert await client.call("echo", 1) == [1]
    assert client.disconnects == []
    assert all("business" not in str(received.args) for received in client.history)


async def test_an_event_without_a_handler_is_ignored(connect: Connect, mode: str) -> None:
    client = await connect(mode)
    await client.emit("nobody listens", 1)
    assert await client.call("echo", 1) == [1]


@pytest.mark.parametrize("payload", ["x" * 900_000, b"x" * 700_000], ids=["text", "bytes"])
async def test_a_large_message_within_the_limit(connect: Connect, mode: str, payload: str | bytes) -> None:
    client = await connect(mode)
    assert await client.call("echo", payload) == [payload]
    if mode == "upgrade":
        await client.upgraded()
        assert await client.call("echo", payload) == [payload]
    assert client.disconnects == []


@pytest.mark.parametrize("payload", ["x" * 1_000_001, b"x" * 1_000_001], ids=["text", "bytes"])
async def test_a_message_over_the_limit_costs_only_that_connection(
    connect: Connect, mode: str, payload: str | bytes
) -> None:
    client = await connect(mode)
    bystander = await connect("websocket")
    if mode == "upgrade":
        await client.upgraded()
    await client.emit("say", payload)
    assert await client.disconnected() in ("transport close", "transport error")
    await client.connected(2)
    assert await client.call("echo", "back") == ["back"]
    assert client.received["said"] == []
    assert await bystander.call("echo", "unharmed") == ["unharmed"]
    assert bystander.disconnects == []
