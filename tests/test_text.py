"""Text that somebody else chose: nothing in it reaches a terminal or a log line as more than text."""

from __future__ import annotations

import json
from math import inf, isfinite, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.commands.printing import to_json
from waypost.text import printable

OBEYED = [
    "\r",
    "\n",
    "\x1b",
    "\x00",
    "\x7f",
    "\x85",
    "\x9b",
    "\u200e",
    "\u202e",
    "\u2066",
    "\u2028",
    "\ufeff",
    "\ud800",
]

texts = st.text(st.one_of(st.characters(), st.sampled_from(OBEYED)))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(texts, inner)),
)


@given(texts, st.none() | st.integers(1, 80))
def test_every_text_becomes_printable(text: str, limit: int | None) -> None:
    shown = printable(text, limit)
    assert shown.isprintable()
    assert limit is None or len(shown) <= limit
    if text.isprintable() and (limit is None or len(text) <= limit):
        assert shown == text


@pytest.mark.parametrize("one", OBEYED)
def test_what_is_obeyed_is_shown_as_its_escape(one: str) -> None:
    assert printable(f"é{one}") == "é" + one.encode("unicode_escape").decode()


def test_a_cut_text_says_so_and_cuts_no_escape() -> None:
    assert printable("x" * 99, 10) == "x" * 9 + "…"
    assert printable("\u202e" * 3, 10) == "\\u202e…"
    assert printable("\x1b\x1b", 8) == "\\x1b\\x1b"


@given(values, st.booleans())
def test_json_is_printable_and_means_the_same(value: Any, indented: bool) -> None:
    text = to_json(value, indented=indented)
    assert all(one.isprintable() or (indented and one == "\n") for one in text)
    assert json.loads(text) == with_null(value)


def with_null(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: with_null(one) for key, one in value.items()}
    return [with_null(one) for one in value] if isinstance(value, list) else value


def test_json_of_what_json_lacks() -> None:
    assert to_json([b"\x00", inf, nan, 1 << 70]) == f'[{{"base64": "AA=="}}, null, null, {1 << 70}]'
    assert to_json("\U000e0001") == '"\\udb40\\udc01"'
