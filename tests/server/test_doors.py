"""Every door through which an application hands in a name: what it refuses and what it takes, on every store."""

from __future__ import annotations

import asyncio
import enum
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import waypost
from tests.server.model_client import ModelClient, running, until
from waypost import errors

STORES = ["memory", "sqlite"]


@dataclass
class House:
    """A server with one client in it, and the file of its store, if it has one."""

    io: waypost.Server
    client: ModelClient
    socket: waypost.Socket
    path: Path

    @property
    def queue(self) -> waypost.Queue:
        return self.io.queue("jobs")


@pytest_asyncio.fixture(params=STORES)
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    path = tmp_path / "store.db"
    io = waypost.Server(store="memory:" if request.param == "memory" else path, drain_s=0)
    sockets: list[waypost.Socket] = []

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        sockets.append(socket)

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        yield House(io, client, sockets[0], path)


Door = Callable[[House, Any], Any]


def parent_of(house: House) -> waypost.ParentNamespace:
    return house.io.of(lambda name, auth: True)


async def remote(house: House) -> waypost.RemoteSocket:
    return next(iter(await house.io.fetch_sockets()))


async def remote_join(house: House, room: Any) -> None:
    await (await remote(house)).join(room)


async def remote_leave(house: House, room: Any) -> None:
    await (await remote(house)).leave(room)


def add_worker(house: House, **options: Any) -> None:
    house.io.consumer(**options)


def publish_beside(house: House, **options: Any) -> None:
    with closing(sqlite3.connect(house.path)) as connection, connection:
        house.io.queue("jobs").publish(connection, "job", **options)


def publish_alone(house: House, queue: Any = "jobs", **options: Any) -> None:
    with closing(sqlite3.connect(house.path)) as connection, connection:
        waypost.publish(connection, queue, "job", **options)


def keyed(**names: Any) -> Any:
    return waypost.DeadLetterFilter(**names)


ROOM_DOORS: dict[str, Door] = {
    "server.to": lambda house, room: house.io.to(room).emit("x"),
    "server.in_": lambda house, room: house.io.in_(room).emit("x"),
    "server.except_": lambda house, room: house.io.except_(room).emit("x"),
    "server.sockets_join": lambda house, room: house.io.sockets_join(room),
    "server.sockets_leave": lambda house, room: house.io.sockets_leave(room),
    "namespace.to": lambda house, room: house.io.of("/x").to(room).emit("x"),
    "namespace.except_": lambda house, room: house.io.of("/x").except_(room).emit("x"),
    "namespace.sockets_join": lambda house, room: house.io.of("/x").sockets_join(room),
    "parent.to": lambda house, room: parent_of(house).to(room).emit("x"),
    "parent.in_": lambda house, room: parent_of(house).in_(room).emit("x"),
    "parent.sockets_leave": lambda house, room: parent_of(house).sockets_leave(room),
    "operator.to": lambda house, room: house.io.volatile.to("a").to(room).emit("x"),
    "operator.except_": lambda house, room: house.io.local.to("a").except_(room).emit("x"),
    "operator.call": lambda house, room: house.io.timeout(1).to(room).call("x"),
    "operator.fetch_sockets": lambda house, room: house.io.to(room).fetch_sockets(),
    "operator.sockets_join": lambda house, room: house.io.to("a").sockets_join("b", room),
    "socket.join": lambda house, room: house.socket.join(room),
    "socket.join second": lambda house, room: house.socket.join("a", room),
    "socket.leave": lambda house, room: house.socket.leave(room),
    "socket.to": lambda house, room: house.socket.to(room).emit("x"),
    "socket.in_": lambda house, room: house.socket.in_(room).emit("x"),
    "socket.except_": lambda house, room: house.socket.except_(room).emit("x"),
    "socket.broadcast.to": lambda house, room: house.socket.broadcast.to(room).emit("x"),
    "socket.volatile.to": lambda house, room: house.socket.volatile.to(room).emit("x"),
    "remote.join": remote_join,
    "remote.leave": remote_leave,
}

NAME_DOORS: dict[str, Door] = {
    "server.queue": lambda house, name: house.io.queue(name).emit("job"),
    "server.consumer queue": lambda house, name: add_worker(house, queue=name),
    "server.consumer consumer": lambda house, name: add_worker(house, queue="jobs", consumer=name),
    "queue.consumer": lambda house, name: house.queue.get_consumer(name).create(),
    "queue.emit id": lambda house, name: house.queue.emit("job", id=name),
    "queue.emit key": lambda house, name: house.queue.emit("job", key=name),
    "NewMessage id": lambda house, name: house.queue.emit_many([waypost.NewMessage("job", id=name)]),
    "NewMessage key": lambda house, name: house.queue.emit_many([waypost.NewMessage("job", key=name)]),
    "socket.consume queue": lambda house, name: house.socket.consume(name),
    "socket.consume consumer": lambda house, name: house.socket.consume("jobs", consumer=name),
    "socket.stop_consuming": lambda house, name: house.socket.stop_consuming(name),
    "socket.stop_consuming consumer": lambda house, name: house.socket.stop_consuming("jobs", consumer=name),
    "socket.extend_lease": lambda house, name: house.socket.extend_lease(name, seconds=1),
    "socket.extend_lease consumer": lambda house, name: house.socket.extend_lease("a", consumer=name, seconds=1),
    "filter id": lambda house, name: house.queue.redrive(keyed(id=name)),
    "filter key": lambda house, name: house.queue.dead_letters(keyed(key=name)),
    "filter consumer": lambda house, name: house.queue.discard_dead_letters(keyed(consumer=name)),
}

FILE_DOORS: dict[str, Door] = {
    "queue.publish id": lambda house, name: publish_beside(house, id=name),
    "queue.publish key": lambda house, name: publish_beside(house, key=name),
    "waypost.publish queue": lambda house, name: publish_alone(house, queue=name),
    "waypost.publish id": lambda house, name: publish_alone(house, id=name),
    "waypost.publish key": lambda house, name: publish_alone(house, key=name),
}


class Depot(enum.StrEnum):
    NORTH = "north"


async def knock(door: Door, house: House, value: Any) -> Any:
    found = door(house, value)
    return await found if hasattr(found, "__await__") else found


BAD: list[Any] = [None, True, 7.0, b"a", {"a": 1}, object(), 10**5000, "\ud800"]
BAD_ROOMS: list[Any] = [*BAD, [["a"]], ("a", None), {7.5}, [b"a"], ["a", "\udfff"]]
BAD_NAMES: list[Any] = [*BAD, "", ["a"], ("a",)]
GOOD: list[Any] = [7, -7, 10**30, "7", "ü", "a b", "with 'quotes'", "\0", Depot.NORTH]


async def test_what_is_no_name_of_a_room_is_refused(house: House) -> None:
    for door in ROOM_DOORS:
        for value in BAD_ROOMS:
            error = await refused(house, ROOM_DOORS, door, value)
            assert (error.option, str(error)[:5], "text" in str(error)) == ("room", "room=", True)
    await still_works(house)


async def test_what_is_no_name_is_refused(house: House) -> None:
    for door in NAME_DOORS:
        for value in BAD_NAMES:
            is_optional = door.startswith("filter") or door.endswith((" id", " key"))
            if value is not None or not is_optional:
                assert "text" in str(await refused(house, NAME_DOORS, door, value))
    await still_works(house)


async def test_what_is_a_name_of_a_room_is_taken(house: House) -> None:
    for door in ROOM_DOORS.values():
        for value in [*GOOD, "", [], ["a", 7], (), {"a"}, frozenset({7}), {"a": 1}.keys()]:
            await knock(door, house, value)
    await still_works(house)


async def test_what_is_a_name_is_taken(house: House) -> None:
    for door in NAME_DOORS.values():
        for value in GOOD:
            await knock(door, house, value)
    await still_works(house)


async def refused(
    house: House,
    doors: dict[str, Door],
    door: str,
    value: Any,
    error: type[waypost.WaypostError] = waypost.ConfigurationError,
) -> Any:
    """Check that a door refuses a value; return the error."""
    try:
        await asyncio.wait_for(knock(doors[door], house, value), 5)
    except error as caught:
        return caught
    pytest.fail(f"{door} takes {errors.shorten(value)}")


async def still_works(house: House) -> None:
    """Check that the client is served, and that its session can be stored and found again."""
    before = len(house.client.events)
    await house.socket.join("after all")
    await house.io.to("after all").emit("still there")
    await until(lambda: "still there" in [event[0] for event in house.client.events[before:]])
    sid = house.client.sid
    await house.client.cut()
    await house.client.connect()
    assert (house.client.recovered, house.client.sid) == (True, sid)


async def test_doors_of_files(tmp_path: Path) -> None:
    io = waypost.Server(store=tmp_path / "store.db", drain_s=0)
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        house = House(io, client, None, tmp_path / "store.db")  # type: ignore[arg-type]
        for door in FILE_DOORS:
            for value in BAD_NAMES:
                if value is not None or door.endswith(" queue"):
                    assert "text" in str(await refused(house, FILE_DOORS, door, value))
            for value in GOOD:
                await knock(FILE_DOORS[door], house, value)


async def test_numbers_are_their_decimal_text(house: House) -> None:
    await house.socket.join(7, [8, "nine"])
    assert {"7", "8", "nine"} <= house.socket.rooms
    await house.socket.leave(8)
    assert "8" not in house.socket.rooms
    await house.io.to(7).emit("seven")
    await house.io.to("7").except_(["nine"]).emit("nobody")
    await house.io.to(["a", 7], "nine").emit("once")
    await until(lambda: len(house.client.events) >= 2)
    assert [event[0] for event in house.client.events] == ["seven", "once"]
    receipt = await house.io.queue(7).emit("job", id=12, key=3)
    assert (receipt.id, receipt.duplicate) == ("12", False)
    assert (await house.io.queue("7").emit("job", id="12")).duplicate
    found = (await house.io.queue("7").peek())[0]
    assert (found.id, found.key) == ("12", "3")
    await house.io.queue(7).get_consumer(1).create()
    assert [one.name for one in await house.io.queue("7").consumers()] == ["1"]


async def test_members_of_enums_are_their_values(house: House) -> None:
    await house.socket.join(Depot.NORTH)
    assert "north" in house.socket.rooms
    assert all(type(room) is str for room in house.socket.rooms)


async def test_rooms_with_numbers_recover_where_two_tie(house: House) -> None:
    await house.socket.join(7)
    await house.socket.join(8, "eight")
    await house.client.cut()
    await house.io.to(7, 8).emit("missed")
    await house.io.to([7, 8], "eight").emit("missed too")
    await house.client.connect()
    await until(lambda: len(house.client.events) == 2)
    assert house.client.recovered
    assert [event[0] for event in house.client.events] == ["missed", "missed too"]


NUMBER_DOORS: dict[str, Door] = {
    "peek after": lambda house, number: house.queue.peek(after=number),
    "peek limit": lambda house, number: house.queue.peek(limit=number),
    "purge upto": lambda house, number: house.queue.purge(upto=number),
    "dead_letters after": lambda house, number: house.queue.dead_letters(after=number),
    "dead_letters limit": lambda house, number: house.queue.dead_letters(limit=number),
    "consumers limit": lambda house, number: house.queue.consumers(limit=number),
    "queue_infos limit": lambda house, number: house.io.queue_infos(limit=number),
    "seek": lambda house, number: house.queue.get_consumer().seek(number),
    "create start": lambda house, number: house.queue.get_consumer("new one").create(start=number),
    "consume start": lambda house, number: house.socket.consume("jobs", start=number),
    "consume prefetch": lambda house, number: house.socket.consume("jobs", prefetch=number),
    "filter numbers": lambda house, number: house.queue.redrive(keyed(numbers=[number])),
    "concurrency": lambda house, number: add_worker(house, queue="jobs", concurrency=number),
}

SECONDS_DOORS: dict[str, Door] = {
    "ttl_s": lambda house, seconds: house.queue.emit("job", ttl_s=seconds),
    "delay_s": lambda house, seconds: house.queue.emit("job", delay_s=seconds),
    "timeout": lambda house, seconds: house.io.timeout(seconds),
    "socket.call": lambda house, seconds: house.socket.call("x", timeout_s=seconds),
    "extend_lease": lambda house, seconds: house.socket.extend_lease("jobs", seconds=seconds),
    "redrive rate": lambda house, seconds: house.queue.redrive(rate_per_s=seconds),
    "close": lambda house, seconds: house.io.close(drain_s=seconds),
    "died_after": lambda house, seconds: house.queue.redrive(keyed(died_after=seconds)),
}


async def test_what_is_no_whole_number_is_refused(house: House) -> None:
    await house.queue.get_consumer().create()
    for door in NUMBER_DOORS:
        for value in ["x", 2.5, True, 1 << 63, 10**5000, -1, b"1"]:
            if not (value == -1 and door == "filter numbers"):
                await refused(house, NUMBER_DOORS, door, value)


async def test_what_is_no_time_is_refused(house: House) -> None:
    for door in SECONDS_DOORS:
        for value in ["x", float("nan"), float("inf"), True, 10**5000, b"1", [1]]:
            await refused(house, SECONDS_DOORS, door, value)


TEXT_DOORS: dict[str, Door] = {
    "consumers after": lambda house, text: house.queue.consumers(after=text),
    "queue_infos after": lambda house, text: house.io.queue_infos(after=text),
    "filter reason": lambda house, text: house.queue.redrive(keyed(reason=text)),
    "server.on": lambda house, event: house.io.on(event, print),
    "socket.on": lambda house, event: house.socket.on(event, print),
    "on_server_side": lambda house, event: house.io.on_server_side(event, print),
    "server_side_emit": lambda house, event: house.io.server_side_emit(event),
    "namespace": lambda house, name: house.io.of(name),
    "child": lambda house, name: parent_of(house).of(name),
}


def other_than_bool(value: Any) -> Any:
    return "no" if isinstance(value, bool) else value


OTHER_DOORS: dict[str, Door] = {
    "operator.compress": lambda house, value: house.io.compress(other_than_bool(value)),
    "socket.compress": lambda house, value: house.socket.compress(other_than_bool(value)),
    "emit_many": lambda house, value: house.queue.emit_many([value]),
    "redrive": lambda house, value: house.queue.redrive(value),
    "dead_letters": lambda house, value: house.queue.dead_letters(value),
    "discard_dead_letters": lambda house, value: house.queue.discard_dead_letters(value),
    "asgi": lambda house, value: house.io.asgi(value),
    "environment": lambda house, value: waypost.Server(environment=value),
    "use_store": lambda house, value: waypost.Server().use_store(value),
    "host": lambda house, value: waypost.Server().run(host=value),
    "port": lambda house, value: waypost.Server().run(port=value),
    "off": lambda house, value: house.io.off(value),
    "socket.off": lambda house, value: house.socket.off(value),
    "url": lambda house, value: waypost.Client(value),
    "Client.off": lambda house, value: waypost.Client("http://localhost").off(value),
    "Client.io.on": lambda house, value: waypost.Client("http://localhost").io.on(value, print),
    "Client.on_any_outgoing": lambda house, value: waypost.Client("http://localhost").on_any_outgoing(value),
}


async def test_what_is_of_another_type_is_refused(house: House) -> None:
    for door in OTHER_DOORS:
        for value in [2.5, True, b"a", ["a"], {"a": 1}, object()]:
            await refused(house, OTHER_DOORS, door, value)
    with pytest.raises(waypost.ConfigurationError, match='did you mean "reconnect"'):
        waypost.Client("http://localhost").io.on("reconect", print)


EMIT_DOORS: dict[str, Door] = {
    "server.emit": lambda house, event: house.io.emit(event),
    "server.call": lambda house, event: house.io.call(event),
    "operator.emit": lambda house, event: house.io.to("a").emit(event),
    "volatile.emit": lambda house, event: house.io.volatile.emit(event),
    "socket.emit": lambda house, event: house.socket.emit(event),
    "socket.call": lambda house, event: house.socket.call(event),
    "queue.emit": lambda house, event: house.queue.emit(event),
    "parent.emit": lambda house, event: parent_of(house).emit(event),
}


async def test_what_is_no_text_is_refused(house: House) -> None:
    for door in TEXT_DOORS:
        for value in [5, b"a", ["a"], 2.5, True]:
            await refused(house, TEXT_DOORS, door, value)


async def test_what_is_no_event_is_refused(house: House) -> None:
    for door in EMIT_DOORS:
        for value in [None, 5, b"a", ["a"], "connect", "\ud800"]:
            await refused(house, EMIT_DOORS, door, value, waypost.EncodingFailed)
    await still_works(house)


CLIENT_DOORS: dict[str, Callable[[waypost.Client, Any], Any]] = {
    "on": lambda client, event: client.on(event, print),
    "once": lambda client, event: client.once(event, print),
    "events": lambda client, event: client.events(event),
    "of": lambda client, name: client.of(name),
}


@pytest.mark.parametrize("door", CLIENT_DOORS)
def test_doors_of_clients(door: str) -> None:
    client = waypost.Client("http://localhost")
    for value in [5, None, b"a", ["a"], True]:
        with pytest.raises(waypost.ConfigurationError):
            CLIENT_DOORS[door](client, value)


async def test_timeouts_of_clients() -> None:
    client = waypost.Client("http://localhost")
    for value in ["x", 0, float("nan"), float("inf"), True]:
        with pytest.raises(waypost.ConfigurationError, match="timeout_s"):
            await client.call("x", timeout_s=value)  # type: ignore[call-overload]
    for event in [None, 5, b"a", ["a"], "connect", "\ud800"]:
        with pytest.raises(waypost.EncodingFailed):
            await client.emit(event)  # type: ignore[arg-type]
