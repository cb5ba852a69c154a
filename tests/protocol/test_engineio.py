"""Engine.IO packets and payloads: the documented forms, and nothing undocumented for any input."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.errors import LimitExceeded, MalformedPacket, ProtocolViolation
from waypost.protocol.engineio import (
    Frame,
    OpenParameters,
    PacketType,
    decode_payload,
    encode_payload,
    open_frame,
    packet_type,
    parse_open,
    read_payload,
)

PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1e"))
FRAMES = st.one_of(st.binary(), st.builds(lambda digit, data: digit + data, st.sampled_from("0123456"), PLAIN))


@pytest.mark.parametrize(
    ("body", "frames"),
    [
        (b"4hello", ["4hello"]),
        (b"2", ["2"]),
        (b"2probe", ["2probe"]),
        (b"4test1\x1e4test2\x1e4test3", ["4test1", "4test2", "4test3"]),
        (b"4hello\x1ebAQIDBA==", ["4hello", b"\x01\x02\x03\x04"]),
        (b"b", [b""]),
        ("4€".encode(), ["4€"]),
    ],
)
def test_payloads_have_the_documented_form(body: bytes, frames: list[Frame]) -> None:
    assert decode_payload(body, max_packets=3) == frames
    assert encode_payload(frames) == body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x1e",
        b"4a\x1e",
        b"\x1e4a",
        b"4a\x1e\x1e4b",
        b"abc",
        b"7",
        b"/",
        b"\xc2\xb2",  # "²" is a digit to str.isdigit
        b"b=",
        b"bA",
        b"bQQ",
        b"bQQ==QQ==",
        b"bQQ\n==!",
        b"b QQ==",
        b"bQQ-_",
        "bé".encode(),
        b"4\xff",
        b"4\xed\xa0\x80",  # a lone surrogate in UTF-8
        b"4\xc0\x80",
    ],
)
def test_malformed_payloads_are_refused(body: bytes) -> None:
    with pytest.raises(MalformedPacket):
        decode_payload(body, max_packets=100)


@pytest.mark.parametrize("body", [b"bQUJD\n", b"bQU\nJD\n", b"bQU\r\nJD\r\n", b"bQUJD"])
def test_base64_in_lines_as_java_writes_it(body: bytes) -> None:
    assert decode_payload(body + b"\x1e4a", max_packets=2) == [b"ABC", "4a"]


def test_a_payload_is_read_up_to_what_is_malformed() -> None:
    packets = read_payload(b"4a\x1e4b\x1ex", max_packets=3)
    assert [next(packets), next(packets)] == ["4a", "4b"]
    with pytest.raises(MalformedPacket):
        next(packets)


def test_a_payload_may_hold_just_so_many_packets() -> None:
    assert len(decode_payload(b"\x1e".join([b"2"] * 16), max_packets=16)) == 16
    with pytest.raises(LimitExceeded) as caught:
        decode_payload(b"\x1e".join([b"2"] * 17), max_packets=16)
    assert (caught.value.limit, caught.value.received) == (16, 17)


def test_a_million_packets_too_many_are_counted_and_not_made() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(LimitExceeded):
            decode_payload(b"\x1e" * 1_000_000, max_packets=1000)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_decoding_is_linear() -> None:
    def cost(size: int) -> int:
        body = b"\x1e".join([b"4x"] * size)
        started = time.thread_time_ns()
        decode_payload(body, max_packets=size)
        return time.thread_time_ns() - started

    # Ten times as much would cost a hundred times as much if it were quadratic, in every round. The processor's time
    # does not count other processes, and a round that was disturbed nevertheless is one of twenty.
    assert any(cost(200_000) < 50 * cost(20_000) for _ in range(20))


@given(st.lists(FRAMES, min_size=1, max_size=8))
def test_what_is_encoded_is_decoded(frames: list[Frame]) -> None:
    assert decode_payload(encode_payload(frames), max_packets=8) == frames


@given(st.lists(FRAMES, min_size=2, max_size=8), st.data())
def test_a_payload_may_be_cut_between_any_two_packets(frames: list[Frame], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(frames) - 1))
    halves = [decode_payload(encode_payload(part), max_packets=8) for part in (frames[:cut], frames[cut:])]
    assert halves[0] + halves[1] == decode_payload(encode_payload(frames), max_packets=8)


@given(st.one_of(st.binary(), st.text(alphabet="b\x1e0246=AQ{").map(str.encode)))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    try:
        frames = decode_payload(body, max_packets=4)
    except ProtocolViolation:
        return
    assert 1 <= len(frames) <= 4
    assert all(packet_type(frame) for frame in frames)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ("0{}", PacketType.OPEN),
        ("1", PacketType.CLOSE),
        ("2probe", PacketType.PING),
        ("3", PacketType.PONG),
        ("42[]", PacketType.MESSAGE),
        ("5", PacketType.UPGRADE),
        ("6", PacketType.NOOP),
        (b"", PacketType.MESSAGE),
        (b"2", PacketType.MESSAGE),
    ],
)
def test_a_frame_tells_its_type(frame: Frame, expected: PacketType) -> None:
    assert packet_type(frame) is expected


@pytest.mark.parametrize("frame", ["", "7", "-1", "b", "x4", " 4", "²", "٤"])
def test_a_frame_of_no_type_is_refused(frame: str) -> None:
    with pytest.raises(MalformedPacket):
        packet_type(frame)


def test_the_open_packet_counts_in_milliseconds() -> None:
    frame = open_frame("lv_VI97HAXpY6yYWAAAB", ["websocket"], 25, 20.5, 1_000_000)
    assert frame == (
        '0{"sid":"lv_VI97HAXpY6yYWAAAB","upgrades":["websocket"],"pingInterval":25000,'
        '"pingTimeout":20500,"maxPayload":1000000}'
    )
    assert parse_open(frame) == OpenParameters(
        sid="lv_VI97HAXpY6yYWAAAB",
        upgrades=("websocket",),
        ping_interval_s=25.0,
        ping_timeout_s=20.5,
        max_payload_bytes=1_000_000,
    )


def test_an_open_packet_may_leave_out_the_largest_payload() -> None:
    frame = '0{"sid":"a","upgrades":[],"pingInterval":1,"pingTimeout":1,"more":null}'
    assert parse_open(frame).max_payload_bytes is None


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "0",
        "4{}",
        "0[]",
        "0null",
        "0{",
        "0" + "[" * 100_000,
        '0{"upgrades":[],"pingInterval":1,"pingTimeout":1}',
        '0{"sid":"","upgrades":[],"pingInterval":1,"pingTimeout":1}',
        '0{"sid":7,"upgrades":[],"pingInterval":1,"pingTimeout":1}',
        '0{"sid":"a","upgrades":"websocket","pingInterval":1,"pingTimeout":1}',
        '0{"sid":"a","upgrades":[1],"pingInterval":1,"pingTimeout":1}',
        '0{"sid":"a","upgrades":[],"pingInterval":0,"pingTimeout":0}',
        '0{"sid":"a","upgrades":[],"pingInterval":1,"pingTimeout":-1}',
        '0{"sid":"a","upgrades":[],"pingInterval":true,"pingTimeout":1}',
        '0{"sid":"a","upgrades":[],"pingInterval":"1","pingTimeout":1}',
        '0{"sid":"a","upgrades":[],"pingInterval":1,"pingTimeout":1,"maxPayload":0}',
        '0{"sid":"a","upgrades":[],"pingInterval":1,"pingTimeout":1,"maxPayload":1.5}',
    ],
)
def test_a_bad_open_packet_is_refused(frame: str) -> None:
    with pytest.raises(MalformedPacket):
        parse_open(frame)


@given(st.text())
def test_any_text_is_an_open_packet_or_refused(text: str) -> None:
    try:
        parse_open(text)
    except ProtocolViolation:
        return
