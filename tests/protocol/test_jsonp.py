"""JSONP: scripts that are safe to run, and forms as the browser's client sends them."""

from __future__ import annotations

from urllib.parse import quote_plus

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.errors import MalformedPacket
from waypost.protocol.jsonp import callback_number, unwrap_form, wrap_answer


def form(payload: str) -> bytes:
    """What the browser's client sends: newlines escaped, and then what was escaped already."""
    escaped = payload.replace("\\n", "\\\n").replace("\n", "\\n")
    return f"d={quote_plus(escaped)}".encode()


def test_a_script() -> None:
    payload = wrap_answer("7", '4"quoted"\u2028\u2029\n😀</script>'.encode())
    assert payload.content_type == "text/javascript; charset=UTF-8"
    assert payload.body == '___eio[7]("4\\"quoted\\"\\u2028\\u2029\\n😀</script>");'.encode()


@given(st.text(st.characters(codec="utf-8")))
def test_a_script_gives_its_payload_back(text: str) -> None:
    body = wrap_answer("0", text.encode()).body.decode()
    assert body.startswith("___eio[0](")
    assert orjson.loads(body[len("___eio[0](") : -len(");")]) == text
    assert not {"\u2028", "\u2029", "\n", "\r"} & set(body)


# A backslash before a newline is ambiguous in a form, and occurs in no JSON.
@given(st.text(st.sampled_from('\\n\nx&=+%"é😀')).filter(lambda text: "\\\n" not in text))
def test_a_form_gives_its_payload_back(text: str) -> None:
    assert unwrap_form(form(text)) == text.encode()


def test_further_fields_are_left_alone() -> None:
    assert unwrap_form(b"x=1&d=40") == b"40"


@pytest.mark.parametrize("body", [b"", b"40", b"x=1", b"d", b"\xff=1", b"d=%ff", b"a=1&" * 1_000])
def test_what_is_no_form(body: bytes) -> None:
    with pytest.raises(MalformedPacket):
        unwrap_form(body)


@pytest.mark.parametrize(
    ("parameter", "number"),
    [("0", "0"), ("42", "42"), ("1;alert(2)", "12"), ("", None), ("x", None), ("٣", None), ("1" * 16, None)],
)
def test_only_digits_name_a_callback(parameter: str, number: str | None) -> None:
    assert callback_number(parameter) == number
