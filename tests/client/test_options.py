"""The client's options: checked when it is made."""

from __future__ import annotations

from typing import Any

import pytest

import waypost
from waypost.client.endpoint import parse_url


@pytest.mark.parametrize(
    ("url", "address", "namespace"),
    [
        ("http://localhost:8000", "http://localhost:8000/socket.io/?EIO=4&transport=polling", "/"),
        ("https://example.com/", "https://example.com/socket.io/?EIO=4&transport=polling", "/"),
        ("ws://[::1]:1", "http://[::1]:1/socket.io/?EIO=4&transport=polling", "/"),
        (
            "wss://example.com/admin/?a=b%20c",
            "https://example.com/socket.io/?a=b%20c&EIO=4&transport=polling",
            "/admin",
        ),
    ],
)
def test_a_url_names_a_server_and_a_namespace(url: str, address: str, namespace: str) -> None:
    endpoint, found = parse_url(url, path="/socket.io/", query=None)
    assert (str(endpoint.address("polling")), found) == (address, namespace)


def test_the_query_is_added_and_encoded() -> None:
    endpoint, _ = parse_url("http://x?a=1", path="/my path", query={"b c": "d&e=ü"})
    assert str(endpoint.address("websocket", sid="s")) == (
        "http://x/my%20path?a=1&b%20c=d%26e%3D%C3%BC&EIO=4&transport=websocket&sid=s"
    )


def test_url_and_option_may_not_name_different_namespaces() -> None:
    assert waypost.Client("http://localhost/admin").namespace == "/admin"
    assert waypost.Client("http://localhost/admin", namespace="/admin").namespace == "/admin"
    assert waypost.Client("http://localhost", namespace="/admin").namespace == "/admin"
    with pytest.raises(waypost.ConfigurationError, match="/admin"):
        waypost.Client("http://localhost/admin", namespace="/other")


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "example.com", "http://", "ftp://example.com", "http://x/#y",
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
        ("transports", ()),
        ("transports", "polling"),
        ("transports", ["webtransport"]),
        ("transports", ["polling", "polling"]),
        ("proxy", "localhost:3128"),
        ("query", {"a": 1}),
        ("cookies", "a=b"),
        ("headers", {"a": None}),
        ("retries", -1),
        ("retries", 1.5),
        ("on_undelivered", "print"),
        ("parser", "xml"),
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
