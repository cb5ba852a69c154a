"""Origins: what is one, and what the operator is told when one was refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.protocol.origins import explain_refusal, is_same_origin, parse_origin


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("https://example.com", ("https", "example.com", 443)),
        ("HTTP://Example.com:8080", ("http", "example.com", 8080)),
        ("http://[::1]:8000", ("http", "[::1]", 8000)),
        ("capacitor://localhost", ("capacitor", "localhost", None)),
        ("http://my_host", ("http", "my_host", 80)),
        ("https://example.com:65536", None),
        ("https://example.com/", None),
        ("https://bücher.example", None),  # browsers send xn--bcher-kva.example
        ("example.com", None),
        ("null", None),
        ("*", None),
        ("", None),
    ],
)
def test_an_origin_is_a_scheme_a_host_and_a_port(text: str, parts: tuple[str, str, int | None] | None) -> None:
    assert parse_origin(text) == parts


@pytest.mark.parametrize(
    ("origin", "host", "others", "secure", "advice"),
    [
        ("https://a.example", "b.example", {}, False, 'cors_allowed_origins=["https://a.example"]'),
        ("https://a.example", "", {}, False, "its Host header says nothing"),
        ("null", "b.example", {}, False, 'cors_allowed_origins="*"'),
        ("https://a.example:8443", "a.example", {}, False, "without port 8443"),
        ("https://a.example:8443", "a.example", {}, False, "$http_host instead of $host"),
        ("http://[::1]:81", "[::1]", {}, False, "without port 81"),
        ("https://a.example", "127.0.0.1:8000", {"x-forwarded-for": "::1"}, False, "let it pass Host on"),
        ("https://a.example", "127.0.0.1:8000", {}, True, "let it pass Host on"),
        ("http://a.example", "a.example", {}, True, "over https"),
    ],
)
def test_a_refusal_says_what_to_do(origin: str, host: str, others: dict[str, str], secure: bool, advice: str) -> None:
    told = explain_refusal({"origin": origin, "host": host, **others}, secure=secure)
    assert advice in told
    assert origin in told
    assert host in told


TEXT = st.text() | st.sampled_from(["http://example.com", "https://example.com:8443", "example.com", "null"])


@given(origin=TEXT, host=TEXT, secure=st.booleans())
def test_whatever_comes_is_told_in_one_printable_line(origin: str, host: str, secure: bool) -> None:
    is_same_origin(origin, host, secure=secure)
    told = explain_refusal({"origin": origin, "host": host}, secure=secure)
    assert told.isprintable()
    assert len(told) < 1000
