"""Engine.IO 3's writing: its payloads of text and of bytes, counted as JavaScript counts."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.errors import LimitExceeded, MalformedPacket, ProtocolViolation
from waypost.protocol.engineio import Frame
from waypost.protocol.engineio3 import (
    decode_frame,
    decode_payload,
    encode_binary_payload,
    encode_frame,
    encode_text_payload,
)

TEXT_FRAMES = st.text(st.characters(codec="utf-8")).map(lambda text: "4" + text)
FRAMES: st.SearchStrategy[list[Frame]] = st.lists(TEXT_FRAMES | st.binary(), min_size=1, max_size=5)


def decoded(body: bytes) -> list[Frame]:
    return decode_payload(body, max_packets=100)


@given(FRAMES)
def test_payloads_of_both_kinds_come_back(frames: list[Frame]) -> None:
    assert decoded(encode_text_payload(frames)) == frames
    assert decoded(encode_binary_payload(frames)) == frames


@given(TEXT_FRAMES | st.binary(), st.booleans())
def test_frames_come_back(frame: Frame, text_only: bool) -> None:
    written = encode_frame(frame, text_only=text_only)
    assert decode_frame(written) == frame
    assert isinstance(written, str) or not text_only


@given(st.binary())
def test_any_bytes_give_packets_or_a_violation(body: bytes) -> None:
    with contextlib.suppress(ProtocolViolation):
        assert decoded(body)


def test_examples_of_the_specification() -> None:
    assert decoded(b"6:4hello2:4\xe2\x82\xac") == ["4hello", "4€"]
    assert encode_text_payload(["4hello", "4€"]) == b"6:4hello2:4\xe2\x82\xac"
    assert encode_text_payload(["4€", b"\x01\x02\x03\x04"]) == b"2:4\xe2\x82\xac10:b4AQIDBA=="
    body = b"\x00\x04\xff4\xe2\x82\xac\x01\x05\xff\x04\x01\x02\x03\x04"
    assert encode_binary_payload(["4€", b"\x01\x02\x03\x04"]) == body
    assert decoded(body) == ["4€", b"\x01\x02\x03\x04"]


def test_lengths_of_several_digits() -> None:
    assert encode_binary_payload(["4" + "x" * 122])[:5] == b"\x00\x01\x02\x03\xff"
    assert decoded(b"\x01\x01\x00\xff\x04" + b"x" * 9) == [b"x" * 9]


def test_a_character_beyond_the_first_65536_counts_twice() -> None:
    assert encode_text_payload(["4😀"]) == "3:4😀".encode()
    assert decoded("3:4😀3:4😀".encode()) == ["4😀", "4😀"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"4hello",
        b":4",
        b"0:",
        b"-1:4",
        b"7:4hello",
        b"6:4hello5",
        b"6;4hello",
        b"1:7",
        b"3:b4!",
        "2:4😀".encode(),
        b"2:4\xff",
        b"9999999999999999999999:4",
        b"\x00",
        b"\x00\xff",
        b"\x00\x05\xff4",
        b"\x00\x0a\xff4",
        b"\x00\x02\xff4\xff",
        b"\x01\x01\xff\x05",
        b"\x01\x01\xff\x04\x02\x01\xff\x04",
        b"\x01" + b"\x01" * 20 + b"\xff\x04",
    ],
)
def test_what_is_no_payload(body: bytes) -> None:
    with pytest.raises(MalformedPacket):
        decoded(body)


def test_too_many_packets() -> None:
    with pytest.raises(LimitExceeded):
        decode_payload(b"1:6" * 3, max_packets=2)


@pytest.mark.parametrize("base64", ["QUJD\n", "QU\nJD\n", "QU\r\nJD"])
def test_base64_in_lines_as_java_writes_it(base64: str) -> None:
    packet = f"b4{base64}"
    assert decoded(f"{len(packet)}:{packet}2:4a".encode()) == [b"ABC", "4a"]
    assert decode_frame(packet) == b"ABC"
