"""Typed events, as on the server: arguments become what a handler's annotations say, and models may be sent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypedDict, assert_type

import msgspec
import pydantic

import waypost
import waypost.sync


@dataclass
class Parcel:
    id: int
    weight: float = 1


class Stop(msgspec.Struct):
    street: str


class Driver(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=2)


class Where(TypedDict):
    lat: float


class State(Enum):
    READY = "ready"


async def test_each_kind_of_model_goes_both_ways(url: str) -> None:
    client = waypost.Client(url)
    seen: list[Any] = []

    @client.on("tour")
    async def tour(parcel: Parcel, stop: Stop, driver: Driver, where: Where, state: State = State.READY) -> Stop:
        seen.append((parcel, stop, driver, where, state))
        return stop

    @client.once("parcels")
    def parcels(first: int, *rest: Parcel) -> tuple[Driver, Parcel]:
        seen.append((first, rest))
        return Driver(name="Ada"), rest[0]

    @client.on_any
    def look(event: str, *args: object) -> None:
        seen.append(event)

    @client.event
    async def disconnect(reason: str, details: waypost.client.DisconnectDetails) -> None:
        seen.append(reason)

    models = (Parcel(1), Stop("Main St"), Driver(name="Ada"), Where(lat=1))
    async with client:
        assert await client.call("ask", "tour", *models) == {"answer": {"street": "Main St"}}
        assert await client.call("ask", "parcels", 7, Parcel(2), Parcel(3, 0.5)) == {
            "answer": [{"name": "Ada"}, {"id": 2, "weight": 1.0}]
        }
        assert await client.call("echo", *models[:3]) == (
            {"id": 1, "weight": 1},
            {"street": "Main St"},
            {"name": "Ada"},
        )
        short = Driver.model_construct(name="A")
        for wrong in (("x", *models[1:]), (*models[:2], short, models[3]), (*models, "away")):
            assert await client.call("ask", "tour", *wrong) == {"answer": {"nack": "ArgumentMismatch"}}
    await client.wait_closed()
    assert seen == [
        *("tour", (*models, State.READY)),
        *("parcels", (7, (Parcel(2), Parcel(3, 0.5)))),
        *(["tour"] * 3),
        "io client disconnect",
    ]


async def test_a_loop_gives_what_came_and_answers_with_models(io: waypost.Server, url: str) -> None:
    async with waypost.Client(url) as client, client.events("pickup") as pickups:
        asked = asyncio.create_task(client.call("ask", "pickup", Parcel(5)))
        async for event in pickups:
            assert_type(event.name, str)
            assert event.arg == {"id": 5, "weight": 1}
            await event.ack(Stop("Main St"))
            break
        assert await asked == {"answer": {"street": "Main St"}}


async def test_the_blocking_client_does_the_same(url: str) -> None:
    def use() -> Any:
        with waypost.sync.Client(url) as client:

            @client.event
            def pickup(parcel: Parcel) -> Parcel:
                return Parcel(parcel.id + 1)

            assert_type(pickup(Parcel(1)), Parcel)  # a decorator leaves the function as it was
            return client.call("ask", "pickup", Parcel(1))

    assert await asyncio.to_thread(use) == {"answer": {"id": 2, "weight": 1}}


def _types_are_kept(client: waypost.sync.Client) -> None:
    """What mypy has to know of the methods that block; nobody calls this."""
    assert_type(client.connect(retry=True), None)
    assert_type(client.outbox.count(), int)
    assert_type(client.outbox.pending(max_events=1), list[waypost.sync.PendingEvent])
    assert_type(client.volatile.emit("x"), bool)
    assert_type(client.events("x").next().reject("no", retry_in_s=1), None)
    client.emit()  # type: ignore[call-arg]
    client.call("x", timeout_s="soon")  # type: ignore[call-overload]
    client.outbox.discard(7)  # type: ignore[arg-type]
