"""The client's options: checked when it is made."""

from __future__ import annotations

from typing import Any

import pytest

import waypost
from waypost.client.options import endpoint


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://localhost:8000", "ws://localhost:8000/socket.io/?EIO=4&transport=websocket"),
        ("https://example.com/", "wss://example.com/socket.io/?EIO=4&transport=websocket"),
        ("ws://[::1]:1", "ws://[::1]:1/socket.io/?EIO=4&transport=websocket"),
        ("wss://example.com?a=b", "wss://example.com/socket.io/?a=b&EIO=4&transport=websocket"),
    ],
)
def test_a_url_names_a_server(url: str, address: str) -> None:
    assert endpoint(url, "/socket.io/") == address


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "example.com", "http://", "ftp://example.com", "http://example.com/admin",
     "http://example.com:port", "http://[::1", "http://example.com:99999", "file:///tmp"],
)  # fmt: skip
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(waypost.ConfigurationError) as caught:
        waypost.Client(url)
    assert caught.value.option == "url"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("reconection", True),
        ("namespace", "admin"),
        ("namespace", "/a,b"),
        ("namespace", 5),
        ("path", "socket.io"),
        ("auth", "token"),
        ("auth", ["token"]),
        ("reconnection_jitter", 1.1),
        ("reconnection_jitter", "x"),
        ("reconnection_attempts", 0),
        ("reconnection_attempts", "many"),
        ("reconnection_delay_s", 0),
        ("connect_timeout_s", -1),
        ("ack_timeout_s", "5"),
        ("max_payload_bytes", True),
        ("max_pending_events", float("nan")),
        ("max_buffered_events", float("inf")),
    ],
)
def test_an_option_that_cannot_be_is_named(option: str, value: Any) -> None:
    with pytest.raises(waypost.ConfigurationError) as caught:
        waypost.Client("http://localhost", **{option: value})
    assert caught.value.option == option
    assert "secret" not in str(caught.value)


def test_credentials_are_not_shown() -> None:
    with pytest.raises(waypost.ConfigurationError) as caught:
        waypost.Client("http://localhost", auth="secret")  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)
