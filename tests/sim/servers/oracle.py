"""What must hold for several servers on one store: judged by the one order in which the disk took their writes.

The servers' own bookkeeping of rooms and sessions is not consulted. An event is meant for a session if it came after
the session's beginning, and the session was in its rooms by the writes before it, from whichever server. Every client
must have been shown a part of that one order, with the offsets of the disk, without a hole, and nothing twice.
"""

from __future__ import annotations

import orjson

from tests.sim.client import ClientSocket, Epoch, Shown
from tests.sim.disk import Write
from tests.sim.oracle_queues import check_queues
from tests.sim.oracle_reasons import check_reason
from tests.sim.servers.lives import check_lives_over_servers
from tests.sim.servers.rooms import Meant
from tests.sim.servers.world import ServersWorld

__all__ = ["check_ghosts", "check_live", "check_told"]

_NAMESPACES = ("/", "/n")


def check_told(world: ServersWorld) -> None:
    """Check what every client was shown against what was meant for it, and what emits returned."""
    writes = [write for write in world.disk.log if write.kind == "append"]
    _check_accepted(world, {number_of(write): write for write in writes})
    messages = {one.sid: one.number for one in world.operations.all if one.kind == "queue"}
    check_queues(world, lambda write: messages.get(write.what[0]))
    meant = Meant(world.disk.log, world.operations.all, number_of)
    for namespace in _NAMESPACES:
        mine = [write for write in writes if write.where == namespace]
        if [write.position for write in mine] != list(range(1, len(mine) + 1)):
            world.wrong(f"positions of {namespace} are {[write.position for write in mine]}")
        for socket in world.client_sockets:
            if socket.namespace == namespace:
                _check_socket(world, socket, mine, meant)


def _check_accepted(world: ServersWorld, written: dict[int, Write]) -> None:
    for operation in world.operations.all:
        write = written.get(operation.number)
        if operation.kind == "call" and operation.outcome.startswith("answered"):
            world.wrong(f"call #{operation.number} was {operation.outcome}")
        if operation.kind == "call" and operation.number >= world.last_calls and operation.outcome != "accepted":
            world.wrong(f"call #{operation.number} is {operation.outcome}, and its client only changed the server")
        if operation.kind != "emit" or operation.outcome in ("open", "StorageUncertain"):
            continue
        if operation.outcome != "accepted":
            if write is not None:
                world.wrong(f"#{operation.number} was refused ({operation.outcome}) and is on the disk")
        elif write is None:
            world.wrong(f"#{operation.number} was accepted and is not on the disk")
        elif not operation.asked <= write.index < (operation.done or 0):
            world.wrong(f"#{operation.number} was written outside of its await")


def _check_socket(world: ServersWorld, socket: ClientSocket, writes: list[Write], meant: Meant) -> None:
    before: Epoch | None = None
    for epoch in socket.epochs:
        if before is not None or epoch.asked[0] is not None:
            check_reason(world, socket, epoch, before)
        _Judge(world, f"{socket.label} ({epoch.sid})", epoch, writes, meant).check(
            must_be_whole=epoch is socket.epochs[-1]
        )
        before = epoch


class _Judge:
    """Judges what a client was shown in one session."""

    def __init__(self, world: ServersWorld, who: str, epoch: Epoch, writes: list[Write], meant: Meant) -> None:
        self._world = world
        self._who = who
        self._epoch = epoch
        self._by_number = {number_of(write): write for write in writes}
        self._writes = writes
        self._mine = [write for write in writes if meant.is_for(write, epoch.sid)]

    def _wrong(self, problem: str) -> None:
        self._world.wrong(f"{self._who} {problem}")

    def check(self, *, must_be_whole: bool) -> None:
        """Check it.

        Args:
            must_be_whole: Whether all must have been shown by now.
        """
        self._check_volatile_and_calls()
        seen: set[int] = set()
        last = 0
        for one in self._epoch.shown:
            if one.name == "e":
                last = self._see(one, seen, last)
            elif one.name == "v":
                self._check_offset(one, seen)
        for write in self._mine:
            if number_of(write) not in seen and (write.position < last or must_be_whole):
                operation = self._world.operations.all[number_of(write)]
                self._wrong(f"was not shown #{number_of(write)} ({operation.outcome}) at {write.position}")

    def _see(self, one: Shown, seen: set[int], last: int) -> int:
        number = one.arguments[0]
        write = self._by_number.get(number)
        if write is None:
            self._wrong(f"was shown #{number}, which was never stored")
            return last
        if number in seen:
            self._wrong(f"was shown #{number} again")
        elif write.position <= last:
            self._wrong(f"was shown #{number} out of order")
        seen.add(number)
        if _position(one) != write.position:
            self._wrong(f"was shown #{number} at {one.offset}, it is at {write.position}")
        if write not in self._mine:
            self._wrong(f"was shown #{number}, which was not meant for it")
        return max(last, write.position)

    def _check_offset(self, one: Shown, seen: set[int]) -> None:
        """Check that a client that comes back with the offset of a volatile event has seen all before it."""
        missed = [
            number_of(write)
            for write in self._mine
            if write.position <= _position(one) and number_of(write) not in seen
        ]
        if missed:
            self._wrong(f"was shown volatile #{one.arguments[0]} at {one.offset}, and before it not {missed}")

    def _check_volatile_and_calls(self) -> None:
        volatile = [one.arguments[0] for one in self._epoch.shown if one.name == "v"]
        if len(volatile) != len(set(volatile)):
            self._wrong(f"was shown a volatile event twice: {volatile}")
        calls = [(one.link, one.arguments[0]) for one in self._epoch.shown if one.name == "c"]
        if len(calls) != len(set(calls)):
            self._wrong(f"was called twice over one link: {calls}")
        for one in self._epoch.shown:
            operation = self._world.operations.all[one.arguments[0]] if one.name == "c" else None
            if operation is not None and operation.kind == "call" and operation.sid != self._epoch.sid:
                self._wrong(f"was called with {one.arguments}, meant for {operation.sid}")


def _position(one: Shown) -> int:
    return int((one.offset or ".0").partition(".")[2])


def number_of(write: Write) -> int:
    """Return the number of the operation that has emitted an event."""
    # A record is: four bytes of length, that many of whom it is for, one byte of kind, the event's JSON.
    record = write.what[0]
    number: int = orjson.loads(record[4 + int.from_bytes(record[:4], "big") + 1 :])[1]
    return number


def check_live(world: ServersWorld) -> None:
    """Check, while everyone is connected, that each session is in use at one server."""
    for namespace in _NAMESPACES:
        cores = [node.hub.directory.core(namespace) for node in world.nodes.values()]
        owners = [key for core in cores for key in core.ownership._owners]
        attached = world.disk.attached(namespace)
        expected = sum(socket.connected and socket.namespace == namespace for socket in world.client_sockets)
        indexed = sum(len(core.index) for core in cores)
        if len(owners) != len(set(owners)):
            world.wrong(f"{namespace}: a session has owners at two servers")
        if set(owners) != attached:
            lost, extra = len(set(owners) - attached), len(attached - set(owners))
            world.wrong(f"{namespace}: {lost} connected sessions are detached on disk, {extra} others attached")
        if len(owners) != expected or indexed != expected:
            world.wrong(
                f"{namespace}: {expected} clients, {len(owners)} owners of sessions, {indexed} in the indexes"
            )


def check_ghosts(world: ServersWorld) -> None:
    """Check, when everyone has left, that nothing of them is left, and that their lives went as they must."""
    for problem in check_lives_over_servers(world):
        world.wrong(problem)
    left: dict[str, int] = {}
    for node in world.nodes.values():
        name = f"server {node.life.number}"
        left[f"connections of {name}"] = len(node.hub.engine)
        left[f"tasks of {name}"] = len(node.hub.tasks)
        for namespace in _NAMESPACES:
            one = node.hub.directory.core(namespace)
            left[f"index of {namespace} of {name}"] = len(one.index) + len(one.index._rooms)
            left[f"owners of {namespace} of {name}"] = len(one.ownership._owners)
    for namespace in _NAMESPACES:
        left[f"attached in {namespace}"] = len(world.disk.attached(namespace))
    ghosts = {name: count for name, count in left.items() if count}
    if ghosts:
        world.wrong(f"left behind when everyone was gone: {ghosts}")
