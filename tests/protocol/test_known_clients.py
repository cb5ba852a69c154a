"""Which client is which: by the requests that open their connections, as they were recorded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from waypost.protocol.known_clients import KNOWN_CLIENTS, find_client, gets_offsets

WEBSOCKET = {"EIO": "4", "transport": "websocket"}
POLLING = {"EIO": "4", "transport": "polling"}
UPGRADE = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "a=="}
DEFLATE = {"sec-websocket-extensions": "permessage-deflate; client_max_window_bits"}
HOST = {"host": "127.0.0.1:8391"}

REQUESTS = {
    "JavaScript in Node, polling": (POLLING | {"t": "1lsp3m5s"}, {"user-agent": "node-XMLHttpRequest"} | HOST, None),
    "JavaScript in Node": (
        WEBSOCKET,
        {"sec-websocket-version": "13", "sec-websocket-key": "a==", "connection": "Upgrade", "upgrade": "websocket"}
        | DEFLATE
        | HOST,
        None,
    ),
    "JavaScript in Node, without compression": (
        WEBSOCKET,
        {"sec-websocket-version": "13", "sec-websocket-key": "a==", "connection": "Upgrade", "upgrade": "websocket"}
        | HOST,
        None,
    ),
    "JavaScript in Bun": (WEBSOCKET, HOST | UPGRADE | DEFLATE, None),
    "JavaScript in a browser, t in digits": (POLLING | {"t": "12345678"}, HOST | {"user-agent": "Mozilla/5.0"}, None),
    "JavaScript in React Native on Android, polling": (POLLING | {"t": "Abc1"}, {"user-agent": "okhttp/4.9.2"}, None),
    "JavaScript in React Native on Android": (
        WEBSOCKET,
        {"origin": "https://example.com", "user-agent": "okhttp/4.9.2"} | UPGRADE,
        None,
    ),
    "Go, polling": (POLLING, HOST | {"user-agent": "engine.io-go/1.0", "accept": "*/*"}, None),
    "Go": (WEBSOCKET, HOST | {"user-agent": "Go-http-client/1.1"} | UPGRADE | DEFLATE, None),
    "Python, polling": (
        POLLING | {"t": "1795969077.5299244"},
        HOST | {"accept": "*/*", "user-agent": "Python/3.11 aiohttp/3.14.5"},
        "python-socketio",
    ),
    "Python": (WEBSOCKET | {"t": "1795969073.326811"}, HOST | UPGRADE, "python-socketio"),
    "Dart, polling": (POLLING | {"t": "P0X3aBc"}, HOST | {"user-agent": "Dart/3.5 (dart:io)"}, "Dart"),
    "Dart": (WEBSOCKET, {"user-agent": "Dart/3.5 (dart:io)"} | UPGRADE | HOST, "Dart"),
    "Java, polling": (POLLING, {"accept": "*/*", "user-agent": "okhttp/3.12.12"} | HOST, "Java"),
    "Java": (WEBSOCKET, UPGRADE | HOST | {"user-agent": "okhttp/3.12.12"}, "Java"),
    "Rust, polling": (POLLING | {"t": "1015156938"}, {"accept": "*/*"} | HOST, "rust_socketio, .NET over WebSocket"),
    "Rust": (WEBSOCKET, HOST | UPGRADE, "rust_socketio, .NET over WebSocket"),
}


@pytest.mark.parametrize("name", list(REQUESTS))
def test_a_client_is_recognised_by_its_request(name: str) -> None:
    query, headers, expected = REQUESTS[name]
    client = find_client({"name": "seven"} | query, headers)
    assert (None if client is None else client.name) == expected
    # The others get offsets, and recover, as the JavaScript client does.
    assert gets_offsets(query, headers) is (client is None)


@pytest.mark.parametrize("name", list(REQUESTS))
@pytest.mark.parametrize("said", ["yes", "no"])
def test_a_client_may_say_it_itself(name: str, said: str) -> None:
    query, headers, _ = REQUESTS[name]
    assert gets_offsets(query | {"waypost-offsets": said}, headers) is (said == "yes")
    assert gets_offsets(query | {"waypost-offsets": ""}, headers) is gets_offsets(query, headers)


def test_the_documented_table_is_that_of_the_code() -> None:
    text = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text()
    rows = re.findall(r"^\| ([^|]+?) \| [^|]+ \| (yes|no) \| (yes|no) \|$", text, re.MULTILINE)
    words = {True: "yes", False: "no"}
    coded = [(client.name, words[client.takes_offsets], words[client.recovers]) for client in KNOWN_CLIENTS]
    assert rows == [*coded, ("all others, as the JavaScript client", "yes", "yes")]
