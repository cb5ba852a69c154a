"""Socket.IO packets: the documented forms, the rules for each type, and limits for hostile input."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.errors import EncodingFailed, LimitExceeded, MalformedPacket, ProtocolViolation
from waypost.protocol.engineio import Frame, decode_payload, encode_payload
from waypost.protocol.socketio import (
    RESERVED_EVENTS,
    Decoder,
    Packet,
    PacketType,
    encode_ack,
    encode_connect,
    encode_connect_error,
    encode_disconnect,
    encode_event,
    restore_event,
)

PLACEHOLDER = '{"_placeholder":true,"num":0}'


def decoder(**limits: int) -> Decoder:
    return Decoder(**{"max_attachment_bytes": 1_000_000, **limits})


def feed_all(frames: Sequence[Frame], using: Decoder | None = None) -> list[Packet]:
    reader = using or decoder()
    packets = [reader.feed(frame) for frame in frames]
    return [packet for packet in packets if packet is not None]


# ------------------------------------------------------------------------------------------- both ways

EXAMPLES: list[tuple[tuple[Frame, ...], Packet]] = [
    (("40",), Packet(PacketType.CONNECT)),
    (('40{"sid":"x"}',), Packet(PacketType.CONNECT, data={"sid": "x"})),
    (("40{}",), Packet(PacketType.CONNECT, data={})),
    (("40/admin,",), Packet(PacketType.CONNECT, "/admin")),
    (('40/admin,{"token":"123"}',), Packet(PacketType.CONNECT, "/admin", {"token": "123"})),
    (("41",), Packet(PacketType.DISCONNECT)),
    (("41/admin,",), Packet(PacketType.DISCONNECT, "/admin")),
    (('42["foo"]',), Packet(PacketType.EVENT, data=["foo"])),
    (('42/admin,["bar"]',), Packet(PacketType.EVENT, "/admin", ["bar"])),
    (('4212["foo",1,null]',), Packet(PacketType.EVENT, data=["foo", 1, None], ack_id=12)),
    (('42/a,0["foo"]',), Packet(PacketType.EVENT, "/a", ["foo"], 0)),
    (("430[]",), Packet(PacketType.ACK, data=[], ack_id=0)),
    (('43/admin,13["bar",{}]',), Packet(PacketType.ACK, "/admin", ["bar", {}], 13)),
    (('43999999999999999["x"]',), Packet(PacketType.ACK, data=["x"], ack_id=999_999_999_999_999)),
    (('44{"message":"no"}',), Packet(PacketType.CONNECT_ERROR, data={"message": "no"})),
    (('44/a,"no"',), Packet(PacketType.CONNECT_ERROR, "/a", "no")),
    ((f'451-["baz",{PLACEHOLDER}]', b"\x01"), Packet(PacketType.EVENT, data=["baz", b"\x01"])),
    (
        ('452-/admin,7["b",{"x":[{"_placeholder":true,"num":0}]},{"_placeholder":true,"num":1}]', b"a", b""),
        Packet(PacketType.EVENT, "/admin", ["b", {"x": [b"a"]}, b""], 7),
    ),
    ((f"461-/admin,456[{PLACEHOLDER}]", b"xy"), Packet(PacketType.ACK, "/admin", [b"xy"], 456)),
]  # fmt: skip


def encode(packet: Packet) -> tuple[Frame, ...]:
    match packet.type:
        case PacketType.CONNECT:
            return encode_connect(packet.namespace, packet.data)
        case PacketType.DISCONNECT:
            return encode_disconnect(packet.namespace)
        case PacketType.CONNECT_ERROR:
            return encode_connect_error(packet.namespace, packet.data)
        case PacketType.ACK:
            assert packet.ack_id is not None
            return encode_ack(packet.namespace, packet.ack_id, packet.data)
        case PacketType.EVENT:
            event = encode_event(packet.namespace, packet.data[0], packet.data[1:])
            return event.frames() if packet.ack_id is None else event.frames_with_ack(packet.ack_id)


@pytest.mark.parametrize(("frames", "packet"), EXAMPLES)
def test_packets_have_the_documented_form(frames: tuple[Frame, ...], packet: Packet) -> None:
    assert encode(packet) == frames
    assert feed_all(frames) == [packet]


@pytest.mark.parametrize(
    ("frame", "packet"),
    [
        ("40/admin", Packet(PacketType.CONNECT, "/admin")),
        ("41/admin", Packet(PacketType.DISCONNECT, "/admin")),
        ('42/,["x"]', Packet(PacketType.EVENT, "/", ["x"])),
        ('42007["x"]', Packet(PacketType.EVENT, "/", ["x"], 7)),
        ('42["error","boo"]', Packet(PacketType.EVENT, "/", ["error", "boo"])),
        ('42["message"]', Packet(PacketType.EVENT, "/", ["message"])),
        ('42["__proto__",{"a":1,"a":2}]', Packet(PacketType.EVENT, "/", ["__proto__", {"a": 2}])),
        ('42["x",18446744073709551616]', Packet(PacketType.EVENT, "/", ["x", 2.0**64])),
        ('42["\\ud83d\\ude00"]', Packet(PacketType.EVENT, "/", ["😀"])),
        ('42["half",{"text":"\\uD83D cut \\ude00\\ude00 \\\\ud800"}]',
         Packet(PacketType.EVENT, "/", ["half", {"text": "\ufffd cut \ufffd\ufffd \\ud800"}])),
        ('42["\\ud83d\\ud83d\\ude00"]', Packet(PacketType.EVENT, "/", ["\ufffd😀"])),
        (f'42["not binary",{PLACEHOLDER}]',
         Packet(PacketType.EVENT, "/", ["not binary", {"_placeholder": True, "num": 0}])),
    ],
)  # fmt: skip
def test_other_forms_are_read_too(frame: str, packet: Packet) -> None:
    assert feed_all([frame]) == [packet]


# -------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "frame",
    [
        "", "4", "0", "2probe", "47", "48[]", "4-1", "4x", "4abc", '52["x"]', '42',
        "42{}", "42abc[]", "42/ns", '42/ns["x"]', "42null", '42"x"', "42[]", "42[null]", "42[1]", "42[true]",
        '42[["x"]]', '42[{"toString":"x"}]', '42["x"', '42["x"]]', '42["x"]x', '42["x",]', '42["x",NaN]',
        '42["x",Infinity]', '42["x",1e400]', '42["x",' + "9" * 400 + "]", '42["\x01"]', '42["\ud800"]',
        '42-1["x"]', '42+1["x"]', '421.5["x"]', '42²["x"]', '42٣["x"]', '42' + "1" * 16 + '["x"]',
        '42' + "1" * 100 + '["x"]', '421-["x"]', "42" + "[" * 100_000, '42["x",' + "[" * 100_000,
        "40[]", '40"x"', "40null", "401", '407{"a":1}', "40{", "40{}x",
        "41{}", "41[]", "410", "41null", "41 ",
        "43", '43[]', "431", "431{}", '43/a,[1]', "43-1[]", "43" + "1" * 16 + "[]", "43٣[]",
        "44", "44[]", "44null", "441", '444{"message":"x"}',
        '45["x"]', '45-["x"]', '450-["x"]', '4500-["x"]', '45-1-["x"]', '451.5-["x"]',
        f'45{"9" * 5000}-["x"]',
        '451["x"]', "461-[]", "451-", "451-{}", '451-[{"_placeholder":true,"num":0}]', '461-["x"]',
    ],
)  # fmt: skip
def test_malformed_packets_are_refused(frame: str) -> None:
    with pytest.raises(MalformedPacket) as caught:
        decoder().feed(frame)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", sorted(RESERVED_EVENTS))
@pytest.mark.parametrize("head", ["42", "427", "42/admin,", "42/admin,7"])
def test_reserved_events_are_refused(head: str, name: str) -> None:
    with pytest.raises(MalformedPacket):
        decoder().feed(f'{head}["{name}",1]')


@pytest.mark.parametrize("number", ['"splice"', "-1", "1", "1.5", "0.0", "true", "null", "[]", "1e1", '"0"'])
def test_placeholders_are_numbers_of_attachments(number: str) -> None:
    with pytest.raises(MalformedPacket):
        decoder().feed(f'451-["x",{{"_placeholder":true,"num":{number}}}]')


def test_a_placeholder_without_a_number_is_refused() -> None:
    with pytest.raises(MalformedPacket):
        decoder().feed('451-["x",{"_placeholder":true}]')


def test_only_a_true_placeholder_is_one() -> None:
    text = '451-["x",{"_placeholder":1,"num":0},{"_placeholder":"true"}]'
    packets = feed_all([text, b"a"])
    assert packets[0].data == ["x", {"_placeholder": 1, "num": 0}, {"_placeholder": "true"}]


def test_an_attachment_may_stand_in_several_places_or_in_none() -> None:
    packets = feed_all([f'452-["x",{PLACEHOLDER},{{"again":{PLACEHOLDER}}}]', b"a", b"b"])
    assert packets == [Packet(PacketType.EVENT, data=["x", b"a", {"again": b"a"}])]


# -------------------------------------------------------------------------------------------- assembly


def test_attachments_are_awaited() -> None:
    reader = decoder()
    waits = []
    for frame in (f'452-["x",{PLACEHOLDER}]', b"a", b"b", '42["y"]'):
        packet = reader.feed(frame)
        waits.append((packet is None, reader.pending))
    assert waits == [(True, True), (True, True), (False, False), (False, False)]


def test_text_while_attachments_are_awaited_is_refused() -> None:
    reader = decoder()
    reader.feed(f'451-["x",{PLACEHOLDER}]')
    with pytest.raises(MalformedPacket):
        reader.feed('42["y"]')


def test_a_binary_message_out_of_the_blue_is_refused() -> None:
    with pytest.raises(MalformedPacket):
        decoder().feed(b"a")
    reader = decoder()
    feed_all([f'451-["x",{PLACEHOLDER}]', b"a"], reader)
    with pytest.raises(MalformedPacket):
        reader.feed(b"b")


def test_the_number_of_attachments_is_limited() -> None:
    assert decoder(max_attachments=2).feed('452-["x"]') is None
    for text in ('453-["x"]', '45999999999-["x"]', "463-1[]"):
        with pytest.raises(LimitExceeded):
            decoder(max_attachments=2).feed(text)


def test_attachments_are_limited_together_and_not_only_each() -> None:
    reader = decoder(max_attachment_bytes=10)
    assert reader.feed('453-["x"]') is None
    assert reader.feed(b"12345") is None
    assert reader.feed(b"12345") is None
    with pytest.raises(LimitExceeded) as caught:
        reader.feed(b"1")
    assert (caught.value.limit, caught.value.received) == (10, 11)


def test_the_limit_of_bytes_is_for_each_packet() -> None:
    reader = decoder(max_attachment_bytes=3)
    for _ in range(3):
        assert len(feed_all([f'451-["x",{PLACEHOLDER}]', b"abc"], reader)) == 1


def test_the_length_of_a_namespace_is_limited() -> None:
    reader = decoder(max_namespace_length=5)
    assert reader.feed("40/1234,") == Packet(PacketType.CONNECT, "/1234")
    for text in ("40/12345,", "40/12345", '42/12345,["x"]', "40/" + "x" * 1_000_000):
        with pytest.raises(LimitExceeded):
            reader.feed(text)


def test_placeholders_are_found_at_any_depth_that_json_may_have() -> None:
    depth = 1000
    text = '451-["x",' + "[" * depth + PLACEHOLDER + "]" * depth + "]"
    inner = feed_all([text, b"a"])[0].data[1]
    for _ in range(depth - 1):
        (inner,) = inner
    assert inner == [b"a"]


@pytest.mark.parametrize(
    "text",
    [
        '42["x","' + "\\ud800" * 150_000 + '"]',
        '42["' + "\\\\" * 400_000,
        "42" + "1" * 1_000_000,
        "45" + "1" * 1_000_000,
        "42/" + "," * 1_000_000,
        "42/" + "a" * 1_000_000 + "[",
        '42["' + "x" * 1_000_000,
    ],
    ids=["surrogates", "backslashes", "id", "count", "commas", "namespace", "open string"],
)
def test_a_megabyte_is_decoded_or_refused_in_no_time(text: str) -> None:
    started = time.process_time()
    with suppress(ProtocolViolation):
        decoder().feed(text)
    assert time.process_time() - started < 1


HEADS = st.builds(
    "4{}{}{}".format,
    st.sampled_from(["0", "1", "2", "3", "4", "51-", "61-", "50-"]),
    st.sampled_from(["", "/a,", "/a"]),
    st.sampled_from(["", "1", "-1"]),
)
PAYLOADS = st.sampled_from(["", "{}", "[]", '"x"', '["x"]', f'["x",{PLACEHOLDER}]', "[1]", "null", "[", '["x",NaN]'])


@given(
    st.text()
    | st.text(alphabet='40123456-/,[]{}"x:_placeholder true\\ud8').map(lambda text: "4" + text)
    | st.builds(lambda head, payload: head + payload, HEADS, PAYLOADS)
)
def test_any_text_is_decoded_or_refused(text: str) -> None:
    try:
        packet = decoder().feed(text)
    except ProtocolViolation:
        return
    assert packet is None or packet.namespace.startswith("/")


# -------------------------------------------------------------------------------------------- properties

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)
NAMES = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda name: name not in RESERVED_EVENTS)
NAMESPACES = st.sampled_from(["/", "/admin", "/a/b?c=[1]", "/é"])
ACK_IDS = st.none() | st.integers(0, 999_999_999_999_999)


@given(NAMESPACES, NAMES, st.lists(JSON_VALUES, max_size=4), ACK_IDS)
def test_what_is_encoded_is_decoded(namespace: str, name: str, args: list[Any], ack_id: int | None) -> None:
    event = encode_event(namespace, name, args)
    frames = event.frames() if ack_id is None else event.frames_with_ack(ack_id)
    reader = decoder(max_attachments=100)
    assert feed_all(frames, reader) == [Packet(PacketType.EVENT, namespace, [name, *args], ack_id)]
    assert event.event == name

    back = restore_event(event.to_record(), namespace)
    assert (back.frames(), back.event, back.size) == (event.frames(), event.event, event.size)

    with_offset = feed_all(event.frames_with_offset('7f."3'), reader)
    assert with_offset == [Packet(PacketType.EVENT, namespace, [name, *args, '7f."3'])]
    assert event.frames_with_offset('7f."3') is event.frames_with_offset('7f."3')
    assert event.frames() is event.frames()


@given(NAMESPACES, st.integers(0, 999_999_999_999_999), st.lists(JSON_VALUES, max_size=4))
def test_acks_come_back(namespace: str, ack_id: int, args: list[Any]) -> None:
    frames = encode_ack(namespace, ack_id, args)
    assert feed_all(frames, decoder(max_attachments=100)) == [Packet(PacketType.ACK, namespace, args, ack_id)]


@given(st.lists(st.tuples(NAMES, st.lists(JSON_VALUES, max_size=3)), min_size=1, max_size=6), st.data())
def test_it_is_the_same_however_polling_cuts_the_stream(
    events: list[tuple[str, list[Any]]], data: st.DataObject
) -> None:
    frames = [frame for name, args in events for frame in encode_event("/", name, args).frames()]
    cuts = data.draw(st.lists(st.integers(1, len(frames)), max_size=4).map(sorted))
    edges = [0, *cuts, len(frames)]
    payloads = [encode_payload(frames[start:end]) for start, end in pairwise(edges) if start < end]
    arrived = [frame for body in payloads for frame in decode_payload(body, max_packets=len(frames))]
    expected = [Packet(PacketType.EVENT, data=[name, *args]) for name, args in events]
    assert feed_all(arrived, decoder(max_attachments=100)) == expected


@given(st.binary())
def test_any_bytes_are_a_record_or_refused(record: bytes) -> None:
    try:
        event = restore_event(record, "/")
    except MalformedPacket:
        return
    assert event.to_record() == record


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_cut_record_is_no_event_with_attachments(cut: int) -> None:
    record = encode_event("/", "x", [b"attached", b"too"]).to_record()
    with pytest.raises(MalformedPacket):
        restore_event(record[:-cut], "/")


# ---------------------------------------------------------------------------------------------- encoding


class Colour(StrEnum):
    RED = "red"


@dataclass
class Parcel:
    weight: float
    label: bytes


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (math.nan, "null"),
        (math.inf, "null"),
        ((1, (2,)), "[1,[2]]"),
        ({7: "a", None: "b", True: "c"}, '{"7":"a","null":"b","true":"c"}'),
        ({Colour.RED: Colour.RED}, '{"red":"red"}'),
        (2**64 - 1, "18446744073709551615"),
        (2**64, "1.8446744073709552e19"),
        ([{"n": -(2**70)}], '[{"n":-1.1805916207174113e21}]'),
        (10**400, "null"),
        ("line\u2028 \x1e\x00", '"line\u2028 \\u001e\\u0000"'),
        ({"_placeholder": True, "num": 0}, PLACEHOLDER),
    ],
)
def test_values_survive_as_javascript_would_have_them(value: object, json: str) -> None:
    (event,), (ack,) = encode_event("/", "x", [value]).frames(), encode_ack("/", 1, [value])
    # orjson writes a plus in exponents since 3.11; to JavaScript it is the same.
    assert str(event).replace("e+", "e") == f'42["x",{json}]'
    assert str(ack).replace("e+", "e") == f"431[{json}]"


def test_binary_values_of_every_kind_become_attachments_in_order() -> None:
    args = [{"a": bytearray(b"1"), "b": [memoryview(b"23")[1:]]}, (b"4",), Parcel(1.5, b"5"), 2**70]
    text, *attachments = encode_event("/n", "x", args).frames()
    assert attachments == [b"1", b"3", b"4", b"5"]
    assert all(type(attachment) is bytes for attachment in attachments)
    assert isinstance(text, str)
    assert text.startswith('454-/n,["x",{"a":{"_placeholder":true,"num":0}')


def test_an_attachment_is_as_it_was_when_it_was_emitted() -> None:
    buffer = bytearray(b"before")
    event = encode_event("/", "x", [buffer])
    buffer[:] = b"after!"
    assert event.frames()[1] == b"before"


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def circle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        {1, 2}, object(), 1j, "\ud800", {b"x": 1}, {(1,): 1}, nested(400), nested(5000), circle(),
        [{"_placeholder": True, "num": 9}, b"beside"], {"_placeholder": b"", "x": {"_placeholder": True}},
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_cannot_be_encoded_is_named(value: object) -> None:
    with pytest.raises(EncodingFailed, match=r"event 'pickup' can't be encoded: ."):
        encode_event("/", "pickup", [value])
    with pytest.raises(EncodingFailed, match=r"ack 3 can't be encoded: ."):
        encode_ack("/", 3, [value])


@pytest.mark.parametrize("name", [*sorted(RESERVED_EVENTS), 1, None, b"x"])
def test_an_event_has_a_name_of_its_own(name: Any) -> None:
    with pytest.raises(EncodingFailed):
        encode_event("/", name, [])


def test_text_that_only_quotes_a_placeholder_is_no_placeholder() -> None:
    frames = encode_event("/", "x", ['{"_placeholder":true,"num":7}', b"a"]).frames()
    assert feed_all(frames)[0].data == ["x", '{"_placeholder":true,"num":7}', b"a"]


def test_connect_packets_cannot_carry_binary_values() -> None:
    with pytest.raises(EncodingFailed, match="CONNECT"):
        encode_connect("/", {"token": b"x"})
    with pytest.raises(EncodingFailed, match="CONNECT_ERROR"):
        encode_connect_error("/", {"message": "x", "data": b"x"})


def test_an_encoded_event_tells_what_it_is() -> None:
    event = encode_event("/chat", "pick\nup", [b"12345"])
    assert repr(event) == f"<JsonEvent 'pick\\nup' in /chat, {event.size} bytes>"
    assert 5 < event.size < 100


def test_the_frames_of_the_last_offset_are_kept() -> None:
    event = encode_event("/", "x", [])
    first = event.frames_with_offset("g.1")
    assert first == ('42["x","g.1"]',)
    assert event.frames_with_offset("g.2") == ('42["x","g.2"]',)
    assert event.frames_with_offset("g.1") == first
    assert event.frames() == ('42["x"]',)
