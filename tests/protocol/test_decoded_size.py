"""What a message takes once it is decoded, measured, and estimated before."""

from __future__ import annotations

import json
from sys import getsizeof
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.protocol.decoded_size import custom_size, json_size, msgpack_size

COUNT = 10_000


def nested(levels: int, inside: dict[str, Any] | list[Any]) -> Any:
    value = inside
    for _ in range(levels):
        value = [value] if isinstance(inside, list) else {"": value}
    return value


SHAPES: dict[str, Any] = {
    "empty lists": [[]] * COUNT,
    "empty objects": [{}] * COUNT,
    "nested lists": [nested(200, [])] * 50,
    "nested objects": [nested(200, {})] * 50,
    "objects": [{"a": 1}] * COUNT,
    "points": [{"x": number, "y": number} for number in range(COUNT)],
    "keys": {str(number): 1_000 + number for number in range(COUNT)},
    "numbers": [1_000 + number for number in range(COUNT)],
    "small numbers": [-6] * COUNT,
    "floats": [number + 0.5 for number in range(COUNT)],
    "strings": [str(number) for number in range(COUNT)],
    "accents": ["\u00e9" * 3] * COUNT,
    "text": "lorem ipsum dolor " * COUNT,
    "text with a wide character": "x" * COUNT + "\U0001f600",
}


def measured(data: Any) -> int:
    """Measure what was decoded. An allocation takes a multiple of 16 bytes."""
    seen: dict[int, int] = {}
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if id(value) not in seen:
            seen[id(value)] = (getsizeof(value) + 15) // 16 * 16
            waiting += value if isinstance(value, list) else []
            waiting += [*value, *value.values()] if isinstance(value, dict) else []
    return sum(seen.values())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_estimate_of_json_is_near(shape: Any) -> None:
    text = json.dumps(["x", shape], separators=(",", ":"), ensure_ascii=False)
    takes = measured(orjson.loads(text))
    assert takes / len(text) < 48
    assert takes * 0.85 < json_size(text) < takes * 8


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_estimate_of_msgpack_is_near(shape: Any) -> None:
    message = msgspec.msgpack.encode(["x", shape])
    data = msgspec.msgpack.decode(message)
    takes = measured(data)
    assert takes / len(message) < 96
    for estimate in (msgpack_size(message, data), msgpack_size(message, None)):
        assert takes * 0.85 < estimate
    assert msgpack_size(message, data) < takes * 8


def test_bytes_that_look_like_containers_are_measured() -> None:
    message = msgspec.msgpack.encode(["x", b"\x80" * 100_000])
    assert msgpack_size(message, msgspec.msgpack.decode(message)) < 101_000


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=100,
)


@given(VALUES)
def test_whatever_is_decoded_is_not_estimated_too_low(value: Any) -> None:
    values = ["x" * 1_000, value]
    text = json.dumps(values, separators=(",", ":"), ensure_ascii=False)
    assert json_size(text) > measured(json.loads(text)) * 0.7
    message = msgspec.msgpack.encode(values)
    assert msgpack_size(message, msgspec.msgpack.decode(message)) > measured(values) * 0.7
    assert custom_size(message, values) > measured(values) * 0.7
