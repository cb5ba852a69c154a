"""Headers of messages are checked at the door."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

import waypost
from waypost.checking.headers import MAX_HEADER_BYTES, check_headers


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("tenant=7", "a mapping of text to text"),
        ([("tenant", "7")], "a mapping of text to text"),
        ({"tenant": 7}, r"headers\['tenant'\]=7: expected text"),
        ({"tenant": None}, r"headers\['tenant'\]=None: expected text"),
        ({"tenant": b"7"}, "expected text"),
        ({7: "tenant"}, r"headers\[7\]=7: expected text"),
        ({"": "7"}, "names that are not empty"),
        ({"a": "\ud800"}, "text that UTF-8 can carry"),
        ({"\ud800": "a"}, "text that UTF-8 can carry"),
        ({"a": "ä" * (MAX_HEADER_BYTES // 2)}, r"16,385 bytes'?: expected at most 16,384"),
    ],
)
def test_what_is_no_text_to_text_is_refused(wrong: Any, told: str) -> None:
    with pytest.raises(waypost.ConfigurationError, match=told):
        check_headers(wrong)
    with pytest.raises(waypost.ConfigurationError):
        waypost.NewMessage("job", headers=wrong)


def test_headers_are_copied() -> None:
    mine = {"tenant": "7", "empty": ""}
    message = waypost.NewMessage("job", headers=mine)
    mine["tenant"] = "8"
    assert message.headers == {"tenant": "7", "empty": ""}
    assert check_headers(MappingProxyType({"a": "x" * (MAX_HEADER_BYTES - 1)})) == {"a": "x" * (MAX_HEADER_BYTES - 1)}
