"""What must hold, whatever happened: judged by the order of writes on the disk and by what the application asked for.

The server's own bookkeeping of rooms and sessions is not consulted. An event on the disk is meant for a client if it
came after its session and matched the rooms that the application had let it join, in the order of the disk. Of what
is meant for it a client must have been shown a beginning without a hole, once and in order; and all of it, unless the
server told it that it starts anew.
"""

from __future__ import annotations

from bisect import bisect_right

import orjson

from tests.sim.client import ClientSocket, Epoch, Shown
from tests.sim.disk import Write
from tests.sim.lives import check_lives
from tests.sim.operations import Operation
from tests.sim.oracle_deliveries import check_deliveries
from tests.sim.oracle_queues import check_queues
from tests.sim.oracle_reasons import check_reason
from tests.sim.oracle_rooms import Rooms
from tests.sim.world import World

__all__ = ["check_ghosts", "check_live", "check_told"]

_GRACE_S = 10.0
"""The server's default for ``handler_grace_s``."""


class _Events:
    """The plain events of one namespace, as they are on the disk."""

    def __init__(self, world: World, namespace: str) -> None:
        self.writes = [write for write in world.disk.log if write.kind == "append" and write.where == namespace]
        self.by_number = {_number(write): write for write in self.writes}

    def after(self, index: int) -> list[Write]:
        indexes = [write.index for write in self.writes]
        return self.writes[bisect_right(indexes, index) :]


def check_told(world: World) -> None:
    """Check what every client was shown against what was meant for it."""
    rooms = Rooms(world)
    _check_accepted(world)
    for namespace in ("/", "/n"):
        events = _Events(world, namespace)
        _check_positions(world, namespace, events)
        for socket in world.client_sockets:
            if socket.namespace == namespace:
                _check_socket(world, socket, events, rooms)
    if world.circumstances.queue is None:
        check_queues(world)
    else:
        check_deliveries(world)


def _check_positions(world: World, namespace: str, events: _Events) -> None:
    positions = [write.position for write in events.writes]
    if positions != list(range(1, len(positions) + 1)):
        world.wrong(f"positions of {namespace} are {positions}")


def _check_accepted(world: World) -> None:
    written = {write.operation: write for write in world.disk.log if write.kind == "append"}
    last_done = 0
    for operation in world.operations.all:
        if operation.kind != "emit":
            continue
        write = written.get(operation.number)
        if write is None:
            if operation.outcome == "accepted":
                world.wrong(f"#{operation.number} was accepted and is not on the disk")
        elif operation.outcome == "accepted":
            if not operation.asked <= write.index < (operation.done or 0):
                world.wrong(f"#{operation.number} was written outside of its await")
        elif operation.outcome != "open":
            world.wrong(f"#{operation.number} was refused ({operation.outcome}) and is on the disk")
        last_done = max(last_done, operation.done or 0)


def _check_socket(world: World, socket: ClientSocket, events: _Events, rooms: Rooms) -> None:
    for number, epoch in enumerate(socket.epochs):
        is_last = number == len(socket.epochs) - 1
        if number or epoch.asked[0] is not None:
            check_reason(world, socket, epoch, socket.epochs[number - 1] if number else None)
        _check_epoch(world, socket, epoch, events, rooms, must_be_whole=is_last)
        _check_once(world, socket, epoch)


def _meant(world: World, namespace: str, sid: str, operation: Operation, index: int, rooms: Rooms) -> bool | None:
    def any_of(names: tuple[str, ...]) -> bool | None:
        answers = [rooms.was_in(namespace, sid, room, index) for room in names]
        return True if True in answers else None if None in answers else False

    inside = True if operation.rooms is None else any_of(operation.rooms)
    outside = any_of(operation.except_)
    if inside is False or outside is True:
        return False
    return None if inside is None or outside is None else True


def _check_epoch(
    world: World, socket: ClientSocket, epoch: Epoch, events: _Events, rooms: Rooms, *, must_be_whole: bool
) -> None:
    opened = [write for write in world.disk.log if write.kind == "open" and write.who == epoch.sid]
    if len(opened) != 1:
        world.wrong(f"{socket.label} has session {epoch.sid}, which the disk has {len(opened)} times")
        return
    shown = [one for one in epoch.shown if one.name == "e"]
    where = f"{socket.label} ({epoch.sid})"
    offsets = _check_order(world, where, shown, events)
    reached = max(offsets.values(), default=-1)
    for write in events.after(opened[0].index):
        operation = world.operations.all[_number(write)]
        meant = _meant(world, socket.namespace, epoch.sid, operation, write.index, rooms)
        if operation.number in offsets:
            if meant is False:
                world.wrong(f"{where} was shown #{operation.number}, which was not meant for it")
        elif meant and (write.index < reached or must_be_whole):
            world.wrong(f"{where} was not shown #{operation.number} ({operation.outcome}) at {write.position}")
    early = [number for number, index in offsets.items() if index < opened[0].index]
    if early:
        world.wrong(f"{where} was shown {early}, from before its session")


def _check_order(world: World, where: str, shown: list[Shown], events: _Events) -> dict[int, int]:
    """Check that what was shown is stored, comes once and in order; returns the index of each one's write."""
    offsets: dict[int, int] = {}
    for one in shown:
        number = one.arguments[0]
        write = events.by_number.get(number)
        if write is None:
            world.wrong(f"{where} was shown #{number}, which was never stored")
        elif number in offsets:
            world.wrong(f"{where} was shown #{number} again")
        else:
            if write.index < max(offsets.values(), default=-1):
                world.wrong(f"{where} was shown #{number} out of order")
            offsets[number] = write.index
            if (one.offset or "").partition(".")[2] != str(write.position):
                world.wrong(f"{where} was shown #{number} at {one.offset}, it is at {write.position}")
    return offsets


def _number(write: Write) -> int:
    number: int = orjson.loads(write.what[0][_json_start(write.what[0]) :])[1]
    return number


def _json_start(record: bytes) -> int:
    # A record is: four bytes of length, that many of whom it is for, one byte of kind, the event's JSON.
    return 4 + int.from_bytes(record[:4], "big") + 1


def _check_once(world: World, socket: ClientSocket, epoch: Epoch) -> None:
    volatile = [one.arguments[0] for one in epoch.shown if one.name == "v"]
    if len(volatile) != len(set(volatile)):
        world.wrong(f"{socket.label} was shown a volatile event twice: {volatile}")
    calls = [(one.link, one.arguments[0]) for one in epoch.shown if one.name == "c"]
    if len(calls) != len(set(calls)):
        world.wrong(f"{socket.label} was called twice over one link: {calls}")
    for one in epoch.shown:
        operation = world.operations.all[one.arguments[0]] if one.name in ("v", "c") else None
        if operation is not None and operation.kind == "call" and operation.sid != epoch.sid:
            world.wrong(f"{socket.label} was called with {one.arguments}, meant for {operation.sid}")


def check_live(world: World) -> None:
    """Check, while everyone is connected, that the sessions in use are those of the connected."""
    if world.process is None:
        world.wrong("there is no server at the end")
        return
    for namespace in ("/", "/n"):
        live = world.process.hub.directory.core(namespace)
        owners = set(live.ownership._owners)
        attached = world.disk.attached(namespace)
        expected = sum(socket.connected and socket.namespace == namespace for socket in world.client_sockets)
        if owners != attached:
            lost, extra = len(owners - attached), len(attached - owners)
            world.wrong(f"{namespace}: {lost} connected sessions are detached on disk, {extra} others attached")
        if len(owners) != expected or len(live.index) != expected:
            world.wrong(
                f"{namespace}: {expected} clients, {len(owners)} owners of sessions, {len(live.index)} in the index"
            )


def check_ghosts(world: World) -> None:
    """Check, when everyone has left, that nothing of them is left in the server, and that it told all their ends."""
    process = world.process
    empty = None if process is None or process.is_stopping else process.life.number
    for problem in check_lives(world.lives, _GRACE_S, empty=empty):
        world.wrong(problem)
    if world.process is None:
        return
    hub = world.process.hub
    left = {
        "connections": len(hub.engine),
        "runners": len(hub.deliveries._runners),
        "tasks": len(hub.tasks),
    }
    for namespace in ("/", "/n"):
        one = hub.directory.core(namespace)
        left[f"index of {namespace}"] = len(one.index) + len(one.index._rooms)
        left[f"owners of {namespace}"] = len(one.ownership._owners)
        left[f"attached in {namespace}"] = len(world.disk.attached(namespace))
    ghosts = {name: count for name, count in left.items() if count}
    if ghosts:
        world.wrong(f"left behind when everyone was gone: {ghosts}")
