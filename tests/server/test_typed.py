"""Typed parameters: what fits is converted, what does not is answered with an error and never reaches the handler."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
import pydantic
import pytest

import waypost
from tests.server.model_client import ModelClient, hub_of, running, until
from waypost.errors import ArgumentMismatch
from waypost.typed.parameters import Parameters, read_parameters


@dataclass
class Address:
    street: str
    number: int = 1


@dataclass
class Parcel:
    id: int
    to: Address
    weights: list[float]
    inside: Parcel | None = None


class Driver(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1)]
    since: datetime | None = None


class Van(pydantic.BaseModel):
    plate: str = pydantic.Field(min_length=3)
    seats: int = 2


class Checked(msgspec.Struct):
    pin: int

    def __post_init__(self) -> None:
        raise ValueError(f"pin {self.pin} is taken")


class Where(TypedDict):
    lat: float
    lon: float
    note: NotRequired[str]


class Colour(StrEnum):
    RED = "red"


class Strange:
    pass


Taker = Any


def takes(parameter: Any) -> Parameters:
    """Make the parameters of a handler with one argument of that type."""

    def handler(socket: Any, value: Any) -> None: ...

    handler.__annotations__["value"] = parameter
    parameters = read_parameters("x", handler, 1)
    assert parameters is not None
    return parameters


FITTING: list[tuple[Any, Any, Any]] = [
    (int, 2**70, 2**70),
    (float, 3, 3.0),
    (str, "", ""),
    (bool, True, True),
    (bytes, b"\x00", b"\x00"),
    (bytearray, b"\x00", bytearray(b"\x00")),
    (int | None, None, None),
    (list[int], [1, 2], [1, 2]),
    (tuple[int, str], [1, "a"], (1, "a")),
    (set[str], ["a", "a"], {"a"}),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (Literal["red", "blue"], "blue", "blue"),
    (Colour, "red", Colour.RED),
    (datetime, "2026-11-24T12:00:00Z", datetime(2026, 11, 24, 12, tzinfo=UTC)),
    (datetime, datetime(2026, 11, 24, 12, tzinfo=UTC), datetime(2026, 11, 24, 12, tzinfo=UTC)),
    (Where, {"lat": 1, "lon": 2.5, "extra": 0}, {"lat": 1.0, "lon": 2.5}),
    (Parcel, {"id": 1, "to": {"street": "A"}, "weights": [1]}, Parcel(1, Address("A"), [1.0])),
    ("Parcel", {"id": 1, "to": {"street": "A", "number": 2}, "weights": []}, Parcel(1, Address("A", 2), [])),
    (Driver, {"name": "Ada", "since": None}, Driver("Ada")),
    (Van, {"plate": "ABC"}, Van(plate="ABC")),
    (list[Van], [{"plate": "ABC", "seats": 3}], [Van(plate="ABC", seats=3)]),
    (dict[str, Driver], {"a": {"name": "Ada"}}, {"a": Driver("Ada")}),
    ("list[Parcel] | None", None, None),
]


@pytest.mark.parametrize(("parameter", "came", "converted"), FITTING, ids=lambda value: str(value)[:30])
def test_what_fits_is_converted(parameter: Any, came: Any, converted: Any) -> None:
    (value,) = takes(parameter).convert((came,))
    assert value == converted
    assert type(value) is type(converted)


@pytest.mark.parametrize(
    ("parameter", "came", "problem"),
    [
        (int, "1", "expected int, received str: Expected `int`, got `str`"),
        (int, 1.5, "Expected `int`, got `float`"),
        (int, True, "Expected `int`, got `bool`"),
        (str, None, "Expected `str`, got `null`"),
        (bytes, "AAAA", "Expected `bytes`, got `str`"),
        (list[int], [1, "2"], r"Expected `int`, got `str` - at `\$\[1\]`"),
        (tuple[int, str], [1], "of length 2"),
        (Literal["red"], "blue", "received str: Invalid enum value$"),
        (list[Literal["red"]], ["blue"], r"received list: Invalid enum value - at `\$\[0\]`$"),
        (Where, {"lat": 1}, "missing required field `lon`"),
        (Parcel, {"id": 1, "to": {"street": 7}, "weights": []}, r"expected Parcel, .* - at `\$.to.street`"),
        (Parcel, {}, "missing required field `id`"),
        (Parcel, [1], "Expected `object`, got `array`"),
        (Driver, {"name": ""}, "length >= 1"),
        (Van, {"plate": "A"}, "plate: string_too_short"),
        (Van, {}, "plate: missing"),
        (Checked, {"pin": 5}, "received dict: ValueError$"),
        (list[Checked], [{"pin": 5}], r"received list: ValueError - at `\$\[0\]`$"),
        (list[Van], [{"plate": "ABC", "seats": "x"}], r"seats: int_parsing - at `\$\["),
        (int | None, "x" * 10_000, "received str"),
        (int, [[[[[[[[]]]]]]]], "received list"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_does_not_fit_is_named(parameter: Any, came: Any, problem: str) -> None:
    with pytest.raises(ArgumentMismatch, match=problem) as caught:
        takes(parameter).convert((came,))
    assert str(caught.value).startswith("argument 1 (value): expected ")
    assert len(str(caught.value)) < 400
    assert json.dumps(caught.value.to_payload())
    assert caught.value.__cause__ is None, "a traceback would show it"


def test_what_is_nested_without_end_does_not_fit() -> None:
    value: list[Any] = []
    for _ in range(1020):  # JSON's own limit
        value = [value]
    with pytest.raises(ArgumentMismatch) as caught:
        takes("dict[str, list[Parcel]]").convert((value,))
    assert len(str(caught.value)) < 400


def test_without_annotations_nothing_is_read() -> None:
    def plain(socket: waypost.Socket, a, b: Any, c: object = 1, *rest: Any) -> None: ...  # type: ignore[no-untyped-def]

    assert read_parameters("x", plain, 1) is None
    assert read_parameters("x", lambda socket, value: None, 1) is None
    assert read_parameters("x", [].append, 1) is None


def test_each_argument_has_its_own_type_and_the_rest_one_for_all() -> None:
    def handler(socket: Strange, first: int, second, third: str = "", *rest: float) -> None: ...  # type: ignore[no-untyped-def]

    parameters = read_parameters("x", handler, 1)
    assert parameters is not None
    assert parameters.convert((1, "any")) == (1, "any")
    assert parameters.convert((1, {}, "s", 2, 3)) == (1, {}, "s", 2.0, 3.0)
    for arguments, number, name in [(("1",), 1, "first"), ((1, 2, 3), 3, "third"), ((1, 2, "", 1, "x"), 5, "rest")]:
        with pytest.raises(ArgumentMismatch) as caught:
            parameters.convert(arguments)
        assert (caught.value.number, caught.value.parameter) == (number, name)


def test_methods_objects_and_partials_are_read_too() -> None:
    class Handlers:
        def on_parcel(self, socket: Any, parcel: Parcel) -> None: ...

        def __call__(self, socket: Any, parcel: Parcel) -> None: ...

    def bound(extra: int, socket: Any, parcel: Parcel) -> None: ...

    raw = {"id": 1, "to": {"street": "A"}, "weights": []}
    for handler in (Handlers().on_parcel, Handlers(), partial(bound, 7)):
        parameters = read_parameters("x", handler, 1)
        assert parameters is not None
        assert parameters.convert((raw,)) == (Parcel(1, Address("A"), []),)


@pytest.mark.parametrize("annotation", [Strange, list[Strange], "Unheard", "Strange | None", Van | Driver])
def test_an_annotation_that_nothing_can_be_converted_to_is_refused_at_registration(annotation: Any) -> None:
    io = waypost.Server()

    def handler(socket: Any, value: Any) -> None: ...

    handler.__annotations__["value"] = annotation
    with pytest.raises(waypost.ConfigurationError, match="annotation of value in the handler of parcel"):
        io.on("parcel", handler)


# ------------------------------------------------------------------------------------------ in a server


async def test_an_event_reaches_its_handler_only_if_it_fits() -> None:
    io = waypost.Server(drain_s=0)
    seen: list[Any] = []

    @io.event
    async def pickup(socket: waypost.Socket, parcel: Parcel, by: Driver, *vans: Van) -> dict[str, Any]:
        seen.append((parcel, by, vans))
        return {"id": parcel.id}

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        parcel = {"id": 7, "to": {"street": "A"}, "weights": []}
        assert await client.call("pickup", parcel, {"name": "Ada"}, {"plate": "ABC"}) == [{"id": 7}]
        assert seen == [(Parcel(7, Address("A"), []), Driver("Ada"), (Van(plate="ABC"),))]
        answer = await client.call("pickup", parcel, {"name": 3})
        assert answer == [
            {
                "error": "argument 2 (by): expected Driver, received dict: Expected `str`, got `int` - at `$.name`",
                "data": {
                    "argument": 2,
                    "parameter": "by",
                    "expected": "Driver",
                    "received": "{'name': 3}",
                    "problem": "Expected `str`, got `int` - at `$.name`",
                },
            }
        ]
        client.send('2["pickup",1,2]')  # without an ack: only logged
        assert (await client.call("pickup", parcel))[0]["error"] == "pickup takes at least 2 argument(s), 1 came"
        assert len(seen) == 1


async def test_a_handler_for_once_waits_for_what_fits() -> None:
    io = waypost.Server(drain_s=0)

    @io.once("weigh")
    async def weigh(socket: waypost.Socket, grams: int) -> int:
        return grams

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert "error" in (await client.call("weigh", "x"))[0]
        assert await client.call("weigh", 5) == [5]


async def test_a_catch_all_sees_what_fits_it() -> None:
    io = waypost.Server(drain_s=0)
    seen: list[Any] = []

    @io.on_any
    async def numbers(socket: waypost.Socket, event: str, *values: int) -> None:
        seen.append((event, values))

    @io.event
    async def echo(socket: waypost.Socket, *values: Any) -> tuple[Any, ...]:
        return values

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert await client.call("echo", "one") == ["one"]
        assert await client.call("echo", 1, 2) == [1, 2]
        assert seen == [("echo", (1, 2))]


async def test_auth_that_does_not_fit_is_refused_with_data(caplog: pytest.LogCaptureFixture) -> None:
    io = waypost.Server(drain_s=0)
    seen: list[Credentials] = []

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: Credentials) -> None:
        seen.append(auth)

    async with running(io):
        client = ModelClient(io)
        with caplog.at_level("DEBUG"):
            await client.connect()
            assert client.refusal is not None
            assert client.refusal["message"] == "Invalid auth"
            assert client.refusal["data"]["parameter"] == "auth"
            assert "missing required field `token`" in client.refusal["data"]["error"]
            client.open()
        client = ModelClient(io)
        await client.connect("secret")
        assert client.connected
        assert seen == [Credentials("secret")]
        assert "secret" not in caplog.text
        assert "Traceback" not in caplog.text


@dataclass
class Credentials:
    token: str


@pytest.mark.parametrize("parser", ["json", "msgpack"])
async def test_models_are_encoded_in_acks_and_emits(parser: Literal["json", "msgpack"]) -> None:
    codec = hub_of(waypost.Server(parser=parser)).codec
    parcel = Parcel(1, Address("A"), [1.5])
    args = [parcel, Driver("Ada", datetime(2026, 11, 24, tzinfo=UTC)), Van(plate="ABC"), [Van(plate="XYZ")]]
    reader = codec.make_decoder(max_attachments=10, max_attachment_bytes=1000)
    event = [reader.feed(frame) for frame in codec.encode_event("/", "x", args).frames()][-1]
    ack = [reader.feed(frame) for frame in codec.encode_ack("/", 1, args)][-1]
    assert event is not None
    assert ack is not None
    assert event.data[1:] == ack.data
    assert ack.data[0] == {"id": 1, "to": {"street": "A", "number": 1}, "weights": [1.5], "inside": None}
    assert ack.data[1]["name"] == "Ada"
    assert ack.data[2:] == [{"plate": "ABC", "seats": 2}, [{"plate": "XYZ", "seats": 2}]]


async def test_models_with_bytes_and_large_numbers_are_encoded() -> None:
    class Label(msgspec.Struct):
        image: bytes
        serial: int

    @dataclass
    class Sheet:
        labels: list[Label]
        serial: int

    for parser in ("json", "msgpack"):
        codec = hub_of(waypost.Server(parser=parser)).codec
        reader = codec.make_decoder(max_attachments=10, max_attachment_bytes=1000)
        args = [Label(b"png", 2**70), Sheet([Label(b"jpg", -(2**70))], 2**70)]
        packets = [reader.feed(frame) for frame in codec.encode_event("/", "x", args).frames()]
        assert packets[-1] is not None
        assert packets[-1].data == [
            "x",
            {"image": b"png", "serial": 2.0**70},
            {"labels": [{"image": b"jpg", "serial": -(2.0**70)}], "serial": 2.0**70},
        ]


async def test_what_a_handler_returns_may_be_a_model() -> None:
    io = waypost.Server(drain_s=0)

    @io.event
    async def driver(socket: waypost.Socket) -> Driver:
        await socket.emit("van", Van(plate="ABC"))
        return Driver("Ada")

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert await client.call("driver") == [{"name": "Ada", "since": None}]
        await until(lambda: client.events == [["van", {"plate": "ABC", "seats": 2}]])
