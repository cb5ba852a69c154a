"""Socket.IO packets in msgpack: the form that npm's parser has, the rules of JSON's, limits for hostile input."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.test_socketio import ACK_IDS, JSON_VALUES, NAMES, NAMESPACES, circle, nested
from waypost.errors import EncodingFailed, LimitExceeded, MalformedPacket, ProtocolViolation
from waypost.protocol import socketio, socketio_msgpack
from waypost.protocol.packet import RESERVED_EVENTS, Packet, PacketType
from waypost.protocol.socketio_msgpack import (
    encode_ack,
    encode_connect,
    encode_connect_error,
    encode_disconnect,
    encode_event,
    restore_event,
)


def pack(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def read(*frames: str | bytes, **limits: int) -> Packet:
    (frame,) = frames
    packet = socketio_msgpack.Decoder(**limits).feed(frame)
    assert packet is not None
    return packet


# ------------------------------------------------------------------------------------------- both ways


def test_packets_have_the_form_of_the_official_parser() -> None:
    event = encode_event("/admin", "x", [1])
    assert event.frames() == (b"\x83\xa4type\x02\xa3nsp\xa6/admin\xa4data\x92\xa1x\x01",)
    assert event.frames_with_ack(7) == (b"\x84\xa4type\x02\xa2id\x07\xa3nsp\xa6/admin\xa4data\x92\xa1x\x01",)
    assert event.frames_with_offset("g.1") == (b"\x83\xa4type\x02\xa3nsp\xa6/admin\xa4data\x93\xa1x\x01\xa3g.1",)
    assert encode_ack("/", 3, ["a"]) == (b"\x84\xa4type\x03\xa2id\x03\xa3nsp\xa1/\xa4data\x91\xa1a",)
    assert encode_connect("/", None) == (b"\x82\xa4type\x00\xa3nsp\xa1/",)
    assert encode_connect("/", {"a": 1}) == (b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data\x81\xa1a\x01",)
    assert encode_disconnect("/a") == (b"\x82\xa4type\x01\xa3nsp\xa2/a",)
    assert encode_connect_error("/", "no") == (b"\x83\xa4type\x04\xa3nsp\xa1/\xa4data\xa2no",)


@given(NAMESPACES, NAMES, st.lists(JSON_VALUES, max_size=4), ACK_IDS)
def test_what_is_encoded_is_decoded(namespace: str, name: str, args: list[Any], ack_id: int | None) -> None:
    event = encode_event(namespace, name, args)
    frames = event.frames() if ack_id is None else event.frames_with_ack(ack_id)
    assert read(*frames) == Packet(PacketType.EVENT, namespace, [name, *args], ack_id)
    assert event.event == name
    assert read(*event.frames_with_offset("7f.3")).data == [name, *args, "7f.3"]
    assert event.frames_with_offset("7f.3") is event.frames_with_offset("7f.3")
    assert event.frames() is event.frames()
    assert read(*encode_ack(namespace, 5, args)) == Packet(PacketType.ACK, namespace, args, 5)


@given(NAMES, st.lists(JSON_VALUES, max_size=4))
def test_a_record_is_read_by_both_parsers(name: str, args: list[Any]) -> None:
    in_json, in_msgpack = socketio.encode_event("/", name, args), encode_event("/", name, args)
    for record in (in_json.to_record(), in_msgpack.to_record()):
        assert read(*restore_event(record, "/n").frames()) == Packet(PacketType.EVENT, "/n", [name, *args])
        again = socketio.restore_event(record, "/")
        reader = socketio.make_decoder(max_attachments=100, max_attachment_bytes=1_000_000)
        assert [reader.feed(frame) for frame in again.frames()][-1] == Packet(PacketType.EVENT, data=[name, *args])
    assert restore_event(in_msgpack.to_record(), "/").frames() == in_msgpack.frames()


@pytest.mark.parametrize("count", [0, 14, 15, 16, 65_534, 65_535, 65_536])
def test_an_event_may_have_any_number_of_arguments(count: int) -> None:
    event = encode_event("/", "x", range(count))
    assert read(*event.frames()).data == ["x", *range(count)]
    assert read(*event.frames_with_offset("g.1")).data == ["x", *range(count), "g.1"]


def test_an_event_is_as_it_was_when_it_was_emitted() -> None:
    buffer = bytearray(b"before")
    event = encode_event("/", "x", [buffer])
    buffer[:] = b"after!"
    assert read(*event.frames()).data == ["x", b"before"]


@pytest.mark.parametrize(
    ("value", "packed"),
    [
        (2**64 - 1, b"\xcf" + b"\xff" * 8),
        (2**64, pack(2.0**64)),
        ([{"n": -(2**70)}], pack([{"n": -(2.0**70)}])),
        (10**400, b"\xc0"),
        ({7: "a", 1.5: "b"}, pack({"7": "a", "1.5": "b"})),
        (math.inf, pack(math.inf)),
        ([memoryview(b"23")[1:], bytearray(b"4")], pack([b"3", b"4"])),
        (datetime(2026, 1, 2, 3, 4, 5, 6000, tzinfo=UTC), b"\xd7\x00" + (1767323045006).to_bytes(8, "big")),
        (datetime(1969, 1, 1, tzinfo=UTC), b"\xd7\x00" + (-31536000000).to_bytes(8, "big", signed=True)),
        (datetime(2026, 1, 2), pack("2026-01-02T00:00:00")),
        (b"\xd7\xff is no date", pack(b"\xd7\xff is no date")),
    ],
)  # fmt: skip
def test_values_survive_as_javascript_would_have_them(value: object, packed: bytes) -> None:
    assert encode_ack("/", 1, [value])[0] == b"\x84\xa4type\x03\xa2id\x01\xa3nsp\xa1/\xa4data\x91" + packed


@pytest.mark.parametrize(
    ("packed", "value"),
    [
        (b"\xd4\x00\x00", None),
        (b"\xd7\x00" + (1767323045006).to_bytes(8, "big"), datetime(2026, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)),
        (b"\xd7\x00" + (8_640_000_000_000_000).to_bytes(8, "big"), None),
        (b"\xc7\x02\x00ab", b"ab"),
        (b"\xd6\xff\x00\x00\x00\x01", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (b"\xca\x3f\x80\x00\x00", 1.0),
        (b"\x82\xa1a\x01\xa1a\x02", {"a": 2}),
    ],
    ids=["undefined", "date", "date beyond Python's", "ArrayBuffer", "standard date", "float 32", "duplicate key"],
)
def test_what_only_the_official_parser_writes_is_read(packed: bytes, value: object) -> None:
    assert read(b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1x" + packed).data == ["x", value]


def _ext8(content: bytes) -> bytes:
    return b"\xc7" + bytes((len(content),)) + b"\x00" + content


DAY = datetime(2026, 1, 2, tzinfo=UTC)
PACKED_DAY = b"\xd7\x00" + (1767312000000).to_bytes(8, "big")
NODES = st.one_of(
    st.just((b"\xd4\x00\x00", None)),
    st.just((PACKED_DAY, DAY)),
    st.sampled_from([b"", b"\x00", b"\x01", b"\x00" * 8, PACKED_DAY[2:], b"\xc7\x08\x00", b"\xc7\x01\x00" * 3]).map(
        lambda content: (_ext8(content), content)
    ),
    st.sampled_from([b"\xc7\x08\x00", b"\xc7\x01\x00\xc7\x08\x00", b"\xc7", b"x"]).map(lambda raw: (pack(raw), raw)),
    st.sampled_from([0, 1, 8, 0xC7, 0xC708, 0xC70800, 0xC7080000, 1.5, "\x08\x00", "", True]).map(
        lambda value: (pack(value), value)
    ),
)


@given(
    st.lists(
        NODES
        | st.lists(NODES, max_size=4).map(
            lambda pairs: (
                bytes((0x90 | len(pairs),)) + b"".join(packed for packed, _ in pairs),
                [value for _, value in pairs],
            )
        ),
        max_size=12,
    )
)
def test_node_s_array_buffers_are_told_from_undefined_and_dates(pairs: list[tuple[bytes, Any]]) -> None:
    items = b"".join(packed for packed, _ in pairs)
    frame = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data" + bytes((0x91 + len(pairs),)) + b"\xa1x" + items
    assert read(frame).data == ["x", *(value for _, value in pairs)]


def test_an_unknown_extension_is_refused_beside_array_buffers() -> None:
    with pytest.raises(MalformedPacket):
        read(b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x93\xa1x" + _ext8(b"1") + b"\xc7\x01\x05a")


def test_an_undefined_id_or_payload_and_what_else_is_in_a_packet_are_ignored() -> None:
    packet = b"\x85\xa4type\x00\xa4data\xd4\x00\x00\xa2id\xd4\x00\x00\xa7options\x81\xa8compress\xc3\xa3nsp\xa1/"
    assert read(packet) == Packet(PacketType.CONNECT)


# -------------------------------------------------------------------------------------------- refusals


def packet(**members: object) -> bytes:
    return pack({"type": 2, "nsp": "/", "data": ["x"], **members})


@pytest.mark.parametrize(
    "frame",
    [
        "", "4", '42["x"]', "40", b"", b"\xc1", b"\xc0", b"\x01", b"\x90", b"\xa1x", b"\x80", b"\x81",
        b"\x81\x80\x00", packet() + b"\x00", packet()[:-1],
        b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
        packet(type=5), packet(type=6), packet(type=-1), packet(type="2"), packet(type=2.5), packet(type=True),
        packet(type=None), packet(type=[2]),
        packet(nsp=None), packet(nsp=1), packet(nsp=""), packet(nsp="admin"), packet(nsp="/a,b"), packet(nsp=b"/"),
        packet(id=-1), packet(id=1.5), packet(id="1"), packet(id=True), packet(id=10**15), packet(id=[1]),
        packet(data=None), packet(data={}), packet(data="x"), packet(data=[]), packet(data=[1]), packet(data=[None]),
        packet(data=[["x"]]), packet(data=[b"x"]),
        packet(type=0, data=[]), packet(type=0, data="x"), packet(type=0, data={}, id=1),
        packet(type=1, data={}), packet(type=1, data=[]), packet(type=1, data=None, id=1),
        packet(type=3), packet(type=3, id=1, data={}), packet(type=3, id=1, data=None), packet(type=3, id=None),
        packet(type=4, data=None), packet(type=4, data=[]), packet(type=4, data={"message": "x"}, id=1),
        pack({"type": 2, "nsp": "/", "data": ["x", {1: 2}]}), pack({"type": 2, "nsp": "/", "data": ["x", {b"k": 2}]}),
        pack({"type": 2, "nsp": "/", "data": ["x", [{(): 2}]]}),
        packet(data=["x", msgspec.msgpack.Ext(5, b"abc")]),
        b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1x\xa1\xff",
        b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1x" + b"\x91" * 600 + b"\x90",
        b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1x" + b"\x81\xa1a" * 600 + b"\x90",
        b"\x91" * 100_000, b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1x" + b"\x81\xa1a" * 100_000,
    ],
    ids=lambda frame: repr(frame[:40]),
)  # fmt: skip
def test_malformed_packets_are_refused(frame: str | bytes) -> None:
    with pytest.raises(MalformedPacket) as caught:
        read(frame)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", sorted(RESERVED_EVENTS))
def test_reserved_events_are_refused_both_ways(name: str) -> None:
    with pytest.raises(MalformedPacket):
        read(packet(data=[name, 1]))
    with pytest.raises(EncodingFailed):
        encode_event("/", name, [])


def test_the_length_of_a_namespace_is_limited() -> None:
    assert read(packet(nsp="/1234"), max_namespace_length=5).namespace == "/1234"
    with pytest.raises(LimitExceeded):
        read(packet(nsp="/12345"), max_namespace_length=5)


def test_five_hundred_levels_are_fine() -> None:
    assert read(packet(data=["x", nested(500)])).data[0] == "x"


@pytest.mark.parametrize("innermost", [1, [], {}])
def test_what_is_sent_and_stored_is_read_again_or_refused_at_the_emit(innermost: object) -> None:
    value, sent = innermost, []
    for depth in range(1, 520):
        value = [value]
        with suppress(EncodingFailed):
            event = encode_event("/", "x", [value])
            sent.append(depth)
            assert read(*event.frames()).data[0] == "x"
            assert read(*restore_event(event.to_record(), "/").frames()).data[0] == "x"
    assert sent == list(range(1, len(sent) + 1))
    assert 500 < len(sent) < 519


@pytest.mark.parametrize(
    "frame",
    [
        packet(data=["x", [None] * 990_000]),
        packet(data=["x", [[]] * 200_000]),
        packet(data=["x", "x" * 990_000]),
        b"\xd4\x00\x00" * 330_000,
        b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1x\xdd\x00\x05\x00\x00" + b"\xd4\x00\x00" * 327_680,
    ],
    ids=["nils", "arrays", "text", "undefined after undefined", "array of undefined"],
)
def test_a_megabyte_is_decoded_or_refused(frame: bytes) -> None:
    with suppress(ProtocolViolation):  # what takes quadratic time is stopped by the timeout
        read(frame)


PIECES = [
    b"\x83",
    b"\xa4type",
    b"\x02",
    b"\xa3nsp",
    b"\xa1/",
    b"\xa4data",
    b"\x91",
    b"\xa1x",
    b"\xd4\x00\x00",
    b"\x81",
]
PIECES += [b"\xc4\x01a", b"\xd7\x00", b"\xff" * 8]


@given(st.binary() | st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
def test_any_bytes_are_decoded_or_refused(frame: bytes) -> None:
    try:
        packet = read(frame)
    except ProtocolViolation:
        return
    assert packet.namespace.startswith("/")


@pytest.mark.parametrize(
    "value",
    [object(), 1j, "\ud800", {(1,): 1}, nested(200_000), circle(), datetime],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_encoded_is_named(value: object) -> None:
    with pytest.raises(EncodingFailed, match=r"event 'pickup' can't be encoded: ."):
        encode_event("/", "pickup", [value])
    with pytest.raises(EncodingFailed, match=r"ack 3 can't be encoded: ."):
        encode_ack("/", 3, [value])


def test_a_key_of_bytes_is_refused_or_becomes_text() -> None:
    # It depends on the version of msgspec; JavaScript must never get such a key.
    try:
        [frame] = encode_event("/", "x", [{b"x": 1}]).frames()
    except EncodingFailed:
        return
    assert read(frame).data == ["x", {"eA==": 1}]


def test_a_record_cut_short_is_none() -> None:
    record = encode_event("/", "x", [b"attached"]).to_record()
    for cut in range(1, len(record)):
        with pytest.raises(MalformedPacket):
            restore_event(record[:-cut], "/")
