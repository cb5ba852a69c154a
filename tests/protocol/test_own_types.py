"""Values of the application's own types: replaced by ``json_default``; without it the error names their place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from tests.support.require import require_module
from waypost.errors import EncodingFailed
from waypost.protocol.codec import codec_for
from waypost.protocol.packet import Packet

np = require_module("numpy")


@dataclass
class Line:
    price: Any


class Order(msgspec.Struct):
    lines: list[Any]


class Bill(BaseModel):
    total: Any


def plain(value: Any) -> Any:
    if isinstance(value, Decimal | Path):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, complex):
        return value.real, value.imag
    if isinstance(value, memoryview | range):
        return bytes(value)
    raise TypeError(f"{type(value).__name__} has no plain form")


CASES: list[tuple[Any, Any]] = [
    (Decimal("1.50"), "1.50"),
    ({"sizes": {3, 1, 2}}, {"sizes": [1, 2, 3]}),
    ([Path("a") / "b"], ["a/b"]),
    (np.arange(3), [0, 1, 2]),
    (np.float32(0.5), 0.5),
    (Line(np.int64(7)), {"price": 7}),
    (Order([1j]), {"lines": [[0.0, 1.0]]}),
    (Bill(total=1j), {"total": [0.0, 1.0]}),
    ({"picture": range(3), "raw": b"x"}, {"picture": b"\0\1\2", "raw": b"x"}),
]


def received(parser: str, frames: tuple[str | bytes, ...]) -> Packet:
    decoder = codec_for(parser).make_decoder(max_attachments=10, max_attachment_bytes=100)
    packets = [decoder.feed(frame) for frame in frames]
    assert packets[-1] is not None
    return packets[-1]


@pytest.mark.parametrize("parser", ["json", "msgpack"])
@pytest.mark.parametrize(("value", "expected"), CASES, ids=lambda value: re.sub(r"\W+", " ", repr(value)))
def test_every_packet_carries_what_the_function_returns(parser: str, value: Any, expected: Any) -> None:
    codec = codec_for(parser, 10, plain)
    event = codec.encode_event("/", "order", (1, value))
    assert received(parser, event.frames()).data == ["order", 1, expected]
    assert codec.restore_event(event.to_record(), "/").frames() == event.frames()
    assert received(parser, codec.encode_ack("/", 3, (value,))).data == [expected]
    if not isinstance(value, dict) or "raw" not in value:
        assert received(parser, codec.encode_connect("/", {"auth": value})).data == {"auth": expected}
        assert received(parser, codec.encode_connect_error("/", {"data": value})).data == {"data": expected}


PLACES: list[tuple[tuple[Any, ...], str]] = [
    ((1j,), "args[0]: "),
    ((1, {"items": [{"price": 1j}]}), "args[1]['items'][0]['price']: "),
    ((Line(Line([0, 1j])),), "args[0].price.price[1]: "),
    ((Order([{"a": 1j}]),), "args[0].lines[0]['a']: "),
    ((Bill(total={"x": 1j}),), "args[0].total['x']: "),
]


@pytest.mark.parametrize("parser", ["json", "msgpack"])
@pytest.mark.parametrize(("args", "place"), PLACES)
def test_the_error_names_the_place(parser: str, args: tuple[Any, ...], place: str) -> None:
    for codec in (codec_for(parser, 10), codec_for(parser, 10, lambda value: 1 / 0)):
        with pytest.raises(EncodingFailed) as failed:
            codec.encode_event("/", "order", args)
        assert failed.value.problem.startswith(place)
        with pytest.raises(EncodingFailed) as failed:
            codec.encode_ack("/", 1, args)
        assert failed.value.problem.startswith(place)
        with pytest.raises(EncodingFailed) as failed:
            codec.encode_connect("/", {"token": args})
        assert failed.value.problem.startswith(place.replace("args", "payload['token']"))


def test_the_error_says_how_to_carry_the_value() -> None:
    with pytest.raises(EncodingFailed, match="json_default can replace it"):
        codec_for("json").encode_event("/", "order", ({1},))


@pytest.mark.parametrize("parser", ["json", "msgpack"])
def test_a_value_that_contains_itself_has_an_end(parser: str) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(EncodingFailed) as failed:
        codec_for(parser).encode_event("/", "order", (endless,))
    assert len(str(failed.value)) < 400
