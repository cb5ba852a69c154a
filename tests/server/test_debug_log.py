"""Debug logs show what goes over the wire, cut and without secrets; without them nothing is watched."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import waypost
from tests.server.model_client import ModelClient, hub_of, until
from tests.transports.asgi_client import POLLING, WEBSOCKET, ask, serving, websocket
from waypost.masking import mask, mask_headers, mask_text, mask_url

SECRETS = ("tell-nobody", "c00kie", "b3arer", "hush")


@pytest.fixture
def debug(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Everything is logged."""
    with caplog.at_level(logging.DEBUG, "waypost"):
        yield caplog


async def test_packets_and_connections_are_shown_without_secrets(debug: pytest.LogCaptureFixture) -> None:
    io = waypost.Server(drain_s=0.0)

    @io.event
    async def login(socket: waypost.Socket, form: Any) -> Any:
        await socket.emit("welcome", {"token": "tell-nobody", "for": form["name"]})
        return {"session": "tell-nobody"}

    headers = {"Cookie": "a=c00kie", "Authorization": "Bearer b3arer", "X-Api-Key": "hush", "User-Agent": "test"}
    async with serving(io), websocket(io, f"{WEBSOCKET}&token=tell-nobody&room=5", headers=headers) as socket:
        await socket.next()
        opened = (await socket.next())["text"]
        socket.write('40{"token":"tell-nobody","user":"hush"}')
        connected = (await socket.next())["text"]
        socket.write('427["login",{"name":"anna","password":"hush","nested":[{"authToken":"tell-nobody"}]}]')
        while not (await socket.next()).get("text", "").startswith("437"):
            pass
        await ask(io, f"{POLLING}&sid=hush", headers=headers)
        [connection] = hub_of(io).engine.connections()
    text = "\n".join(record.getMessage() for record in debug.records)
    for secret in (*SECRETS, connection.sid, connected.split('"pid":"')[1].split('"')[0]):
        assert secret not in text
    assert connection.sid in opened
    for shown in (
        "→ CONNECT / {'token': '***', 'user': '***'}",
        "→ EVENT / 7 ['login', {'name': 'anna', 'password': '***'",
        '← 42["welcome",{"token":***,"for":"anna"}',
        "'user-agent': \"'test'\"",
        "room=5",
        "(UNKNOWN_SID)",
        "#1 closed after",
    ):
        assert shown in text


async def test_large_data_is_cut(debug: pytest.LogCaptureFixture) -> None:
    io = waypost.Server(drain_s=0.0)
    io.on("double", lambda socket, text: (text * 2, b"y" * 100_000))
    async with serving(io):
        client = ModelClient(io)
        await client.connect()
        await client.call("double", "x" * 100_000)
        await until(lambda: any("←" in record.getMessage() for record in debug.records))
    assert all(len(record.getMessage()) < 600 for record in debug.records)
    assert "<100000 bytes>" in debug.text


async def test_without_debug_nobody_watches_packets(caplog: pytest.LogCaptureFixture) -> None:
    io = waypost.Server(drain_s=0.0)
    with caplog.at_level(logging.INFO, "waypost"):
        async with serving(io):
            assert not io.hooks.packet_received.observers
            assert not io.hooks.packet_sent.observers


async def test_a_malformed_packet_shows_no_secret_either(debug: pytest.LogCaptureFixture) -> None:
    io = waypost.Server(drain_s=0.0)
    async with serving(io), websocket(io) as socket:
        await socket.next()
        await socket.next()
        socket.write('40{"token":"tell-nobody')
        assert (await socket.next())["type"] == "websocket.close"
    assert "tell-nobody" not in debug.text
    assert "closing websocket connection" in debug.text


# -------------------------------------------------------------------------------------------- masking

NAMES = [
    "token",
    "access_token",
    "authToken",
    "Authorization",
    "cookie",
    "password",
    "PASSWD",
    "sid",
    "pid",
    "api_key",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ['"hush"', '"hu\\"sh hush"', "12345", "'hush'", '"hush'])
def test_members_with_telling_names_are_hidden_in_text(name: str, value: str) -> None:
    masked = mask_text(f'42["x",{{"{name}":{value}')
    assert "hush" not in masked
    assert "12345" not in masked
    assert masked.startswith(f'42["x",{{"{name}":***')


@pytest.mark.parametrize(
    "value",
    [
        '{"a": "hush", "b": ["hush", {"c": "}hush"}]}',
        '["hush", "]hush", [1, "hush"]]',
        '{"a": "hush',
        '["hush", ["hush"',
    ],
)
@pytest.mark.parametrize("name", ["password", "token"])
def test_lists_and_objects_with_telling_names_are_hidden_whole(name: str, value: str) -> None:
    masked = mask_text(f'42["x",{{"{name}": {value}')
    assert "hush" not in masked
    assert masked == f'42["x",{{"{name}": ***'
    assert "hush" not in str(mask({"a": [{name: ["hush", {"b": "hush"}]}]}))


def test_what_follows_a_hidden_member_is_shown() -> None:
    assert mask_text('["x",{"token":{"a":["]"]},"b":1,"pin":2}]') == '["x",{"token":***,"b":1,"pin":2}]'
    assert mask_text('["{\\"password\\": \\"hush hush\\", \\"b\\": 1}"]') == '["{\\"password\\": ***, \\"b\\": 1}"]'


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_json_of_a_secret_is_hidden_whole(value: Any) -> None:
    text = json.dumps({"token": value, "b": 1})
    assert mask_text(text) == '{"token": ***, "b": 1}'


MEMBERS = st.dictionaries(st.sampled_from([*NAMES, "a"]), st.integers() | st.binary(max_size=9), max_size=3)


@settings(max_examples=50)
@given(st.recursive(MEMBERS, lambda inner: st.dictionaries(st.sampled_from([*NAMES, "a"]), inner, max_size=3)))
def test_what_is_hidden_is_gone_at_any_depth(value: Any) -> None:
    shown = mask({"token": "hush", "a": value})
    assert shown["token"] == "***"

    def check(member: Any) -> None:
        if isinstance(member, dict):
            for name, inner in member.items():
                assert name == "a" or inner == "***"
                check(inner)

    check(shown)


@given(st.text())
def test_any_text_can_be_masked(text: str) -> None:
    mask_text(text)
    mask_url(f"/socket.io/?{text}")
    mask_headers({text: text})


def test_plain_names_stay() -> None:
    assert mask_text('["author","monkey",{"monkey":1}]') == '["author","monkey",{"monkey":1}]'
    assert mask_url("/socket.io/?EIO=4&transport=polling&t=x&sid=abc") == (
        "'/socket.io/?EIO=4&transport=polling&t=x&sid=***'"
    )
