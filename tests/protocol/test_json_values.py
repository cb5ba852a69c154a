"""JSON's values as JavaScript would survive them: what comes in, what goes out, and what is passed on."""

from __future__ import annotations

import math
from typing import Any

import pytest

from waypost.errors import EncodingFailed, MalformedPacket
from waypost.protocol.socketio import encode_event, make_decoder

PI_DIGITS = "314159265358979323846264338327950288419716939937510"


def read(json: str) -> Any:
    packet = make_decoder(max_attachments=10, max_attachment_bytes=1_000_000).feed(f'42["x",{json}]')
    assert packet is not None
    return packet.data[1]


def write(value: Any) -> str:
    (text,) = encode_event("/", "x", [value]).frames()
    assert isinstance(text, str)
    # orjson writes a plus in exponents since 3.11; to JavaScript it is the same.
    return text.removeprefix('42["x",').removesuffix("]").replace("e+", "e")


@pytest.mark.parametrize(
    ("json", "value", "passed_on"),
    [
        ("9007199254740993", 2**53 + 1, "9007199254740993"),
        ("18446744073709551615", 2**64 - 1, "18446744073709551615"),
        ("-9223372036854775808", -(2**63), "-9223372036854775808"),
        ("18446744073709551616", 2.0**64, "1.8446744073709552e19"),
        ("-9223372036854775809", -(2.0**63), "-9.223372036854776e18"),
        (PI_DIGITS, float(PI_DIGITS), "3.1415926535897932e50"),
        ("1" * 308, float("1" * 308), "1.1111111111111111e307"),
        ("-0", 0, "0"),
        ("-0.0", -0.0, "-0.0"),
        ("1e-400", 0.0, "0.0"),
        ("0.1", 0.1, "0.1"),
        ("1.0", 1.0, "1.0"),
        ('{"a":1,"b":2,"a":3}', {"a": 3, "b": 2}, '{"a":3,"b":2}'),
        ('{"__proto__":1,"constructor":2}', {"__proto__": 1, "constructor": 2}, '{"__proto__":1,"constructor":2}'),
        ('"\\ud83d"', "\ufffd", '"\ufffd"'),
        ('{"\\udc00":1}', {"\ufffd": 1}, '{"\ufffd":1}'),
        ('"\\ud83d\\ude00"', "😀", '"😀"'),
        ('"\\u0000\\u001e"', "\x00\x1e", '"\\u0000\\u001e"'),
        ("[" * 250 + "]" * 250, None, "[" * 250 + "]" * 250),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_comes_in_is_kept_and_can_be_passed_on(json: str, value: Any, passed_on: str) -> None:
    came = read(json)
    if value is not None:
        assert (type(came), repr(came)) == (type(value), repr(value))
    assert write(came) == passed_on


@pytest.mark.parametrize(
    "json",
    ["NaN", "Infinity", "-Infinity", "undefined", "1e400", "-1e400", "9" * 400, "-" + "9" * 400, "9" * 1_000_000,
     "01", "+1", ".5", "1.", "0x10", "1n", "'x'", "[" * 1100 + "]" * 1100, "[" * 100_000, '{"a":' * 100_000],
    ids=lambda json: f"{json[:10]}…{len(json)}",
)  # fmt: skip
def test_what_no_json_stringify_writes_is_refused(json: str) -> None:
    with pytest.raises(MalformedPacket) as caught:
        read(json)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (math.nan, "null"),
        (-math.inf, "null"),
        (2**53 + 1, "9007199254740993"),
        (2**64, "1.8446744073709552e19"),
        (int("9" * 308), "1e308"),
        (int("9" * 400), "null"),
        (-int("9" * 400), "null"),
        ({2**70: 1}, None),
        ("\ud83d", None),
        ({"\udc00": 1}, None),
    ],
    ids=lambda value: str(value)[:20] if not isinstance(value, str) else ascii(value),
)
def test_what_goes_out_is_what_javascript_can_read(value: Any, json: str | None) -> None:
    if json is None:
        with pytest.raises(EncodingFailed):
            write(value)
    else:
        assert write(value) == json


@pytest.mark.parametrize("depth", [256, 1000])
def test_what_came_in_deeper_than_can_be_sent_is_an_error_for_whoever_sends_it(depth: int) -> None:
    with pytest.raises(EncodingFailed):
        write(read("[" * depth + "]" * depth))
