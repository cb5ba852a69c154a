"""The rules for foreign origins: what each admits, and what it must not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import waypost
from waypost.protocol.allowed_origins import Allowed, AllowedOrigins, is_rule
from waypost.protocol.origins import parse_origin

_APP = re.compile(r"https://(app|admin)\.example\.com")


@pytest.mark.parametrize(
    ("allowed", "admitted", "refused"),
    [
        (None, [], ["https://a.example", "null", ""]),
        ("*", ["https://a.example", "null", "anything"], []),
        (
            ["https://a.example"],
            ["https://a.example", "https://A.example:443"],
            [
                "https://a.example:444",
                "http://a.example",
                "https://a.example/",
                "https://a.example\t",
                "https://b.example",
            ],
        ),
        (
            ["https://*.example.com"],
            ["https://a.example.com", "https://a.b.example.com", "https://A.EXAMPLE.com:443"],
            [
                "https://example.com",
                "https://evil-example.com",
                "https://a.example.com.evil.org",
                "http://a.example.com",
                "https://a.example.com:8443",
                "https://a.example.com/",
                "null",
            ],
        ),
        (
            ["http://localhost:*"],
            ["http://localhost", "http://localhost:80", "http://localhost:5173"],
            ["https://localhost:5173", "http://localhost.evil.org", "http://localhost:5173/", "http://localhost:"],
        ),
        (
            ["https://*.example.com:*"],
            ["https://a.example.com", "https://a.example.com:8443"],
            ["https://example.com:8443", "https://a.example.org:1"],
        ),
        (
            [_APP],
            ["https://app.example.com", "https://admin.example.com"],
            ["https://app.example.com.evil.org", "xhttps://app.example.com", "https://other.example.com"],
        ),
        (_APP, ["https://app.example.com"], ["https://app.example.com:1"]),
        (lambda origin: origin.endswith(".corp"), ["https://a.corp", "x.corp"], ["https://a.corp.org"]),
        (["null"], ["null"], ["NULL", "https://null", ""]),
        (["https://a.example", _APP, lambda origin: origin == "b"], ["https://a.example", "b"], ["c"]),
        ([], [], ["https://a.example"]),
    ],
)
def test_what_rules_admit(allowed: Allowed, admitted: list[str], refused: list[str]) -> None:
    rules = AllowedOrigins(allowed)
    assert [origin for origin in admitted if not rules.admits(origin)] == []
    assert [origin for origin in refused if rules.admits(origin)] == []


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("https://a.example", '["https://a.example"]'),
        (["https://a.example/"], '["https://a.example"]'),
        (["https://a.example/path?x=1"], '["https://a.example"]'),
        (["https://a.example\t"], '["https://a.example"]'),
        (["a.example"], '["https://a.example"]'),
        (["*"], '"*"'),
        (["https://a.example", "https://b.example/"], '["https://a.example", "https://b.example"]'),
        (["https://*"], None),
        (["https://*.com"], None),
        (["https://a.*.com"], None),
        ([5], None),
    ],
)
def test_what_is_no_rule_is_refused_with_the_line_to_write(value: object, meant: str | None) -> None:
    with pytest.raises(waypost.ConfigurationError) as refused:
        waypost.Server(cors_allowed_origins=value)  # type: ignore[arg-type]
    assert refused.value.suggestion == meant


def test_null_is_allowed_without_credentials_only() -> None:
    with pytest.raises(waypost.ConfigurationError, match="cors_credentials=False"):
        waypost.Server(cors_allowed_origins=["null"])
    waypost.Server(cors_allowed_origins=["null"], cors_credentials=False)


def test_a_function_of_the_origin_does_not_wait() -> None:
    async def waits(origin: str) -> bool:
        return True

    with pytest.raises(waypost.ConfigurationError, match="plain function"):
        waypost.Server(cors_allowed_origins=[waits])  # type: ignore[list-item]


@given(st.from_regex(r"[a-z]{1,9}://[*a-z.:0-9/]{0,20}", fullmatch=True), st.text(max_size=30))
def test_a_rule_in_text_admits_origins_only(rule: str, text: str) -> None:
    if is_rule(rule):
        assert not AllowedOrigins([rule]).admits(text) or parse_origin(text) is not None
