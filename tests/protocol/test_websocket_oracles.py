"""Our WebSocket frames beside those of `websockets` and `wsproto`: the same bytes mean the same to all three."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import SERVER, Protocol, State
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Message, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from waypost.protocol.websocket import (
    MessageReader,
    encode_close,
    encode_messages,
    encode_pong,
    frame_close,
    frame_message,
    frame_pong,
)

MAX_BYTES = 70_000

# Sizes at which the header grows, and those beside them.
SIZES = st.sampled_from([0, 1, 2, 124, 125, 126, 127, 128, 65_535, 65_536, 65_537])
TEXTS = st.text(max_size=40) | st.builds(lambda size: "x" * size, SIZES)
MESSAGES = TEXTS | st.binary(max_size=40) | st.builds(bytes, SIZES)
MASKS = st.binary(min_size=4, max_size=4)
CUTS = st.lists(st.integers(0, 200), max_size=12)


@dataclass
class Heard:
    """What an end makes of bytes: its messages and pings before anything is wrong, and how it ends.

    Attributes:
        messages: The messages in order.
        pings: What the pings carried.
        code: The close code that it got, or would answer a fault with; ``None`` while it is open.
    """

    messages: list[str | bytes] = field(default_factory=list)
    pings: list[bytes] = field(default_factory=list)
    code: int | None = None


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Cut bytes as a network might."""
    parts = []
    for cut in cuts:
        parts.append(data[:cut])
        data = data[cut:]
    return [*parts, data]


def ours(parts: Sequence[bytes]) -> Heard:
    heard, reader = Heard(), MessageReader(MAX_BYTES, is_masked=True)
    for part in parts:
        heard.messages += reader.feed(part)
        heard.pings += reader.pings
        reader.pings.clear()
    heard.code = None if reader.closing is None else reader.closing.code
    return heard


def of_websockets(parts: Sequence[bytes]) -> Heard:
    heard, end = Heard(), Protocol(SERVER, state=State.OPEN, max_size=MAX_BYTES)
    fragments: list[Frame] = []
    for part in parts:
        if end.parser_exc is None and end.close_rcvd is None:
            end.receive_data(part)
        for event in end.events_received():
            if not isinstance(event, Frame):
                continue
            if event.opcode is Opcode.PING:
                heard.pings.append(bytes(event.data))
            elif event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                fragments.append(event)
                if event.fin:
                    kind, data = fragments[0].opcode, b"".join(bytes(each.data) for each in fragments)
                    fragments = []
                    try:
                        heard.messages.append(data.decode() if kind is Opcode.TEXT else data)
                    except UnicodeDecodeError:
                        # websockets leaves text to its caller.
                        heard.code = 1007
                        return heard
    if end.parser_exc is not None and end.close_sent is not None:
        heard.code = end.close_sent.code
    elif end.close_rcvd is not None:
        heard.code = end.close_rcvd.code
    return heard


def of_wsproto(parts: Sequence[bytes]) -> Heard:
    heard, end = Heard(), Connection(ConnectionType.SERVER)
    data: list[str | bytes] = []
    for part in parts:
        try:
            end.receive_data(part)
            for event in end.events():
                if isinstance(event, Ping):
                    heard.pings.append(bytes(event.payload))
                elif isinstance(event, CloseConnection):
                    heard.code = event.code
                    return heard
                elif isinstance(event, Message):
                    data.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
                    if event.message_finished:
                        texts = [each for each in data if isinstance(each, str)]
                        rest = [each for each in data if isinstance(each, bytes)]
                        heard.messages.append("".join(texts) if isinstance(event, TextMessage) else b"".join(rest))
                        data = []
        except (RemoteProtocolError, LocalProtocolError) as error:
            hint = getattr(error, "event_hint", None)
            heard.code = hint.code if isinstance(hint, CloseConnection) else 1002
            return heard
    return heard


# ------------------------------------------------------------------------------------ what we write


@given(st.lists(MESSAGES, max_size=5), MASKS, CUTS)
def test_what_our_client_writes_is_read_by_all(messages: list[str | bytes], mask: bytes, cuts: list[int]) -> None:
    parts = pieces(encode_messages(messages, mask * len(messages)), cuts)
    assert ours(parts).messages == of_websockets(parts).messages == of_wsproto(parts).messages == messages


@given(MESSAGES)
def test_what_our_server_writes_is_what_websockets_writes(message: str | bytes) -> None:
    opcode, data = (Opcode.TEXT, message.encode()) if isinstance(message, str) else (Opcode.BINARY, message)
    assert frame_message(message) == Frame(opcode, data).serialize(mask=False)


@given(st.binary(max_size=125), MASKS)
def test_pongs_are_what_websockets_writes(payload: bytes, mask: bytes) -> None:
    assert frame_pong(payload) == Frame(Opcode.PONG, payload).serialize(mask=False)
    assert ours([encode_pong(payload, mask)]) == of_websockets([encode_pong(payload, mask)]) == Heard()


@given(st.sampled_from([1000, 1001, 1002, 1003, 1007, 1009, 1011, 1012, 3000, 4999]), MASKS)
def test_closes_are_what_websockets_writes(code: int, mask: bytes) -> None:
    assert frame_close(code) == Frame(Opcode.CLOSE, Close(code, "").serialize()).serialize(mask=False)
    written = [encode_close(code, mask)]
    assert ours(written).code == of_websockets(written).code == of_wsproto(written).code == code


# ------------------------------------------------------------------------------------ what we read


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """One frame, mostly as it should be."""
    opcode = draw(st.sampled_from([0, 1, 1, 2, 2, 8, 9, 10]) | st.integers(0, 15))
    first = opcode | (0x80 if draw(st.integers(0, 4)) else 0) | draw(st.sampled_from([0] * 12 + [0x10, 0x20, 0x40]))
    payload = draw(st.binary(max_size=20) | st.builds(str.encode, st.text(max_size=10)) | st.builds(bytes, SIZES))
    if opcode == 8:
        code = draw(st.integers(0, 5_100))
        payload = draw(st.just(b"") | st.just(b"\x03") | st.just(code.to_bytes(2) + payload[:100]))
    mask = draw(MASKS)
    length = len(payload)
    masked = 0x80 if draw(st.integers(0, 15)) else 0
    if length < 126:
        head = bytes((first, masked | length))
    elif length < 65_536:
        head = bytes((first, masked | 126)) + length.to_bytes(2)
    else:
        head = bytes((first, masked | 127)) + length.to_bytes(8)
    if not masked:
        return head + payload
    body = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return head + mask + body


def agree(parts: Sequence[bytes], *, is_whole: bool = True) -> None:
    """Check what all three heard; where the oracles differ from each other, ours may be as either.

    Ours refuses a frame by its first two bytes; the oracles wait for its whole head. So where the last frame may be
    cut short, ours may have found a fault that they have not.
    """
    mine, first, second = ours(parts), of_websockets(parts), of_wsproto(parts)
    if mine.code is None:
        # Nothing was wrong so far: then nobody may have heard anything else.
        assert (mine.messages, mine.pings) == (first.messages, first.pings)
    if is_whole:
        assert (mine.code is None) in (first.code is None, second.code is None)
    else:
        assert mine.code is not None or None in (first.code, second.code)
    if first.code == second.code and (is_whole or first.code is not None):
        assert mine.code == first.code
    if first.messages == second.messages:
        assert mine.messages == first.messages


@settings(max_examples=500, deadline=None)
@given(st.lists(frames(), max_size=6), CUTS)
@example([b"\x81\xfe\x00\x05" + bytes(4) + b"small"], [])
@example([b"\x81\xff" + (5).to_bytes(8) + bytes(4) + b"small"], [])
@example([b"\x89\xfe\x00\x7e" + bytes(4) + bytes(126)], [])
@example([b"\x82\xff" + b"\xff" * 8], [1, 1, 1])
def test_what_clients_write_means_the_same_to_all(each: list[bytes], cuts: list[int]) -> None:
    agree(pieces(b"".join(each), cuts))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), CUTS)
@example(b"\x00\x80", [])
def test_any_bytes_mean_the_same_to_all(data: bytes, cuts: list[int]) -> None:
    agree(pieces(data, cuts), is_whole=False)


@pytest.mark.parametrize("size", [MAX_BYTES - 1, MAX_BYTES, MAX_BYTES + 1])
def test_the_limit_is_the_same(size: int) -> None:
    parts = [encode_messages([bytes(size)], bytes(4))]
    assert ours(parts) == of_websockets(parts)
