"""WebSocket messages, held against the ``websockets`` package, which is somebody else's."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Protocol, Side

from waypost.protocol import websocket
from waypost.protocol.websocket import (
    Closing,
    FrameEncoder,
    MessageReader,
    accept_key,
    encode_close,
    encode_messages,
    encode_pong,
    frame_close,
    frame_message,
    frame_pong,
)

MESSAGES = st.lists(st.one_of(st.text(), st.binary(), st.integers(120, 70_000).map(bytes)), max_size=6)
MASK = b"\x01\xfe\x80\x33"


def served(opcode: Opcode, data: bytes, *, fin: bool = True, mask: bool = False) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=mask)


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    start = 0
    for place in sorted(place % (len(data) + 1) for place in places):
        yield data[start:place]
        start = place
    yield data[start:]


def fragments(message: str | bytes, places: list[int], *, mask: bool = False) -> bytes:
    kind, payload = (Opcode.TEXT, message.encode()) if isinstance(message, str) else (Opcode.BINARY, message)
    pieces = list(cut(payload, places))
    opcodes = [kind, *[Opcode.CONT] * (len(pieces) - 1)]
    ping = served(Opcode.PING, b"between", mask=mask)
    frames = [
        served(opcode, piece, fin=number == len(pieces), mask=mask)
        for number, (opcode, piece) in enumerate(zip(opcodes, pieces, strict=True), 1)
    ]
    return ping.join(frames)


@given(MESSAGES, st.binary(min_size=24, max_size=24))
def test_another_reads_what_is_written(messages: list[str | bytes], masks: bytes) -> None:
    server = Protocol(Side.SERVER, max_size=None)
    server.receive_data(encode_messages(messages, masks) + encode_pong(b"pong", MASK) + encode_close(1000, MASK))
    *frames, pong, close = server.events_received()
    assert all(isinstance(frame, Frame) for frame in frames)
    read = [frame.data.decode() if frame.opcode is Opcode.TEXT else bytes(frame.data) for frame in frames]  # type: ignore[union-attr]
    assert read == messages
    assert (pong.opcode, bytes(pong.data)) == (Opcode.PONG, b"pong")  # type: ignore[union-attr]
    assert close.opcode is Opcode.CLOSE  # type: ignore[union-attr]
    assert server.close_rcvd is not None
    assert server.close_rcvd.code == 1000


@given(MESSAGES, st.lists(st.integers(0, 100_000), max_size=4), st.lists(st.integers(0, 10**6), max_size=8))
def test_what_another_writes_is_read(messages: list[str | bytes], pieces: list[int], places: list[int]) -> None:
    reader = MessageReader(200_000)
    data = b"".join(fragments(message, pieces) for message in messages) + served(Opcode.CLOSE, b"\x03\xe8bye")
    read = [message for part in cut(data, places) for message in reader.feed(part)]
    assert read == messages
    assert reader.pings == [b"between"] * len(messages) * len(pieces)
    assert reader.closing == Closing(1000)
    assert reader.feed(served(Opcode.TEXT, b"late")) == []


@given(MESSAGES, st.lists(st.integers(0, 100_000), max_size=4), st.lists(st.integers(0, 10**6), max_size=8))
def test_what_a_client_writes_is_read(messages: list[str | bytes], pieces: list[int], places: list[int]) -> None:
    reader = MessageReader(200_000, is_masked=True)
    data = b"".join(fragments(message, pieces, mask=True) for message in messages)
    data += served(Opcode.CLOSE, b"\x0f\xa0bye", mask=True)
    assert [message for part in cut(data, places) for message in reader.feed(part)] == messages
    assert reader.pings == [b"between"] * len(messages) * len(pieces)
    assert reader.closing == Closing(4000)
    assert reader.feed(served(Opcode.TEXT, b"late", mask=True)) == []


@pytest.mark.parametrize("is_masked", [False, True])
@given(st.lists(st.one_of(st.text(max_size=9), st.binary(max_size=9), st.integers(120, 132).map(bytes)), max_size=4))
def test_what_comes_byte_by_byte_is_read(is_masked: bool, messages: list[str | bytes]) -> None:
    reader = MessageReader(200, is_masked=is_masked)
    data = b"".join(fragments(message, [3], mask=is_masked) for message in messages)
    assert [message for byte in data for message in reader.feed(bytes((byte,)))] == messages
    assert reader.closing is None


@given(st.lists(st.lists(st.one_of(st.text(), st.binary()), min_size=1, max_size=3).map(tuple), max_size=6))
def test_another_reads_what_a_server_writes(packets: list[tuple[str | bytes, ...]]) -> None:
    encoder = FrameEncoder()
    client = Protocol(Side.CLIENT, max_size=None)
    written = b"".join(encoder.encode(packet) for packet in packets for _ in range(2))
    client.receive_data(written + frame_pong(b"pong") + frame_close(4000, "bye"))
    *frames, pong, close = client.events_received()
    read = [frame.data.decode() if frame.opcode is Opcode.TEXT else bytes(frame.data) for frame in frames]  # type: ignore[union-attr]
    assert read == [message for packet in packets for message in (*packet, *packet)]
    assert (pong.opcode, bytes(pong.data), close.opcode) == (Opcode.PONG, b"pong", Opcode.CLOSE)  # type: ignore[union-attr]
    assert client.close_rcvd is not None
    assert (client.close_rcvd.code, client.close_rcvd.reason) == (4000, "bye")


def test_a_packet_for_many_is_encoded_once() -> None:
    encoder, packet = FrameEncoder(), ("451-[]", b"attached")
    encoded = encoder.encode(packet)
    assert encoded == frame_message(packet[0]) + frame_message(packet[1])
    assert encoder.encode(packet) is encoded
    assert encoder.encode(("42[]",)) == frame_message("42[]")
    assert encoder.encode(packet) == encoded


@pytest.fixture(scope="module")
def without_extension() -> Iterator[ModuleType]:
    """The module as it is where `websockets` has no extension."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "websockets.speedups", None)
        spec = importlib.util.spec_from_file_location("websocket_without_extension", websocket.__file__)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        assert module.apply_mask.__module__ == spec.name
        yield module


@given(data=st.binary(max_size=300), mask=st.binary(min_size=4, max_size=4))
def test_a_mask_without_the_extension(without_extension: ModuleType, data: bytes, mask: bytes) -> None:
    assert without_extension.apply_mask(data, mask) == bytes(
        byte ^ mask[place % 4] for place, byte in enumerate(data)
    )
    reader = without_extension.MessageReader(1_000, is_masked=True)
    assert reader.feed(served(Opcode.BINARY, data, mask=True)) == [data]


@given(st.lists(st.binary(), max_size=5), st.booleans())
def test_anything_is_read_without_raising(parts: list[bytes], is_masked: bool) -> None:
    reader = MessageReader(1_000, is_masked=is_masked)
    for part in parts:
        reader.feed(part)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (served(Opcode.TEXT, b"\xff"), CloseCode.INVALID_DATA),
        (served(Opcode.TEXT, b"\xed\xa0\x80"), CloseCode.INVALID_DATA),
        (served(Opcode.TEXT, b"x" * 1001), CloseCode.MESSAGE_TOO_BIG),
        (b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", CloseCode.MESSAGE_TOO_BIG),
        (served(Opcode.TEXT, b"x" * 600, fin=False) + served(Opcode.CONT, b"x" * 600), CloseCode.MESSAGE_TOO_BIG),
        (b"\x81\x86" + MASK + bytes(6), CloseCode.PROTOCOL_ERROR),
        (b"\x81\xfe\x00\xc8" + MASK + bytes(200), CloseCode.PROTOCOL_ERROR),
        (b"\xc1\x00", CloseCode.PROTOCOL_ERROR),
        (b"\x83\x00", CloseCode.PROTOCOL_ERROR),
        (b"\x8b\x00", CloseCode.PROTOCOL_ERROR),
        (b"\x09\x00", CloseCode.PROTOCOL_ERROR),
        (b"\x89\x7e\x00\x7e" + bytes(126), CloseCode.PROTOCOL_ERROR),
        (served(Opcode.CONT, b"of nothing"), CloseCode.PROTOCOL_ERROR),
        (served(Opcode.TEXT, b"a", fin=False) + served(Opcode.TEXT, b"b"), CloseCode.PROTOCOL_ERROR),
        (b"\x88\x01\x03", CloseCode.PROTOCOL_ERROR),
        (served(Opcode.CLOSE, b"\x03\xed"), CloseCode.PROTOCOL_ERROR),
        (served(Opcode.CLOSE, b"\x03\xe8\xff"), CloseCode.INVALID_DATA),
    ],
)
def test_what_breaks_the_protocol_ends_it_after_what_was_right(data: bytes, code: CloseCode) -> None:
    reader = MessageReader(1_000)
    assert reader.feed(served(Opcode.TEXT, b"well") + data + served(Opcode.TEXT, b"late")) == ["well"]
    assert reader.closing is not None
    assert reader.closing.code == code
    assert reader.closing.problem


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (served(Opcode.TEXT, b"bare"), CloseCode.PROTOCOL_ERROR),
        (served(Opcode.TEXT, bytes(200)), CloseCode.PROTOCOL_ERROR),
        (b"\x81\x7f" + (1 << 40).to_bytes(8), CloseCode.PROTOCOL_ERROR),
        (b"\x88\x00", CloseCode.PROTOCOL_ERROR),
        (served(Opcode.TEXT, b"\xff", mask=True), CloseCode.INVALID_DATA),
        (served(Opcode.BINARY, bytes(1001), mask=True), CloseCode.MESSAGE_TOO_BIG),
        (b"\x82\xff" + (1 << 63).to_bytes(8), CloseCode.MESSAGE_TOO_BIG),
    ],
    # Masks are random, and so would be the names made of them.
    ids=["a bare text", "a longer one", "a bare length", "a bare close", "no UTF-8", "too large", "far too large"],
)
def test_what_a_client_breaks_ends_it_after_what_was_right(data: bytes, code: CloseCode) -> None:
    well = served(Opcode.TEXT, b"well", mask=True)
    for parts in ([well + data + well], [bytes((byte,)) for byte in well + data + well]):
        reader = MessageReader(1_000, is_masked=True)
        assert [message for part in parts for message in reader.feed(part)] == ["well"]
        assert reader.closing is not None
        assert reader.closing.code == code
        assert reader.closing.problem


def test_a_close_without_a_code() -> None:
    reader = MessageReader(10)
    assert reader.feed(b"\x88\x00") == []
    assert reader.closing == Closing(1005)


def test_the_key_of_the_specification() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # section 1.3
