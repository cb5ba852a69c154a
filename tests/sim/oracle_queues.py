"""What must hold for queues: every message accepted is acknowledged in the end, in order, by each consumer.

Or it is a dead letter, and then not without reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tests.sim.client import ClientSocket, Shown
from tests.sim.disk import Disk, Write
from tests.sim.history import Circumstances
from tests.sim.operations import Operations, message_key

__all__ = ["check_queues"]

_MAX_DELIVERIES = 20


class World(Protocol):
    """What is judged, whatever servers there were."""

    circumstances: Circumstances
    disk: Disk
    operations: Operations
    acknowledged: list[tuple[str, str, int]]
    opened: list[tuple[str, float]]

    @property
    def client_sockets(self) -> list[ClientSocket]:
        """List all clients' sockets."""
        ...

    def wrong(self, problem: str) -> None:
        """Note that something happened that must never happen."""
        ...


def check_queues(world: World, operation_of: Callable[[Write], int | None] = lambda write: write.operation) -> None:
    """Check every queue and consumer.

    Args:
        world: What is judged.
        operation_of: Returns the number of the operation that has put a message into its queue.
    """
    stored: dict[int, Write] = {}
    ids: set[str] = set()
    for write in world.disk.log:
        operation_number = operation_of(write) if write.kind == "enqueue" else None
        if operation_number is not None:
            # A clock that an opening sets on may end the window in which a repeated id is recognised.
            if write.what[0] in ids and not world.disk.leaps:
                world.wrong(f"message {write.what[0]} is stored twice")
            ids.add(write.what[0])
            stored[operation_number] = write
    for operation in world.operations.all:
        if operation.kind == "queue" and operation.outcome == "accepted" and operation.sid not in ids:
            world.wrong(f"message {operation.sid} was accepted and is not stored")
    positions = {number: write.position for number, write in stored.items()}
    for queue, consumer in sorted(set(world.circumstances.consumes.values())):
        _check_consumer(world, queue, consumer, positions)


def _check_consumer(world: World, queue: str, consumer: str, positions: dict[int, int]) -> None:
    where = f"consumer {consumer} of {queue}"
    shown = _shown(world, queue, consumer)
    first: dict[int, None] = {}
    for one in shown:
        position = positions.get(one.arguments[1])
        if position is None:
            world.wrong(f"{where} was shown {one.arguments}, which is not stored")
        else:
            first.setdefault(position)
    for group in _ordered_groups(world, list(first), positions):
        if group != sorted(group):
            world.wrong(f"{where} was shown messages out of order: {group}")
    buried = _check_buried(world, queue, consumer)
    acknowledged = {number for one, other, number in world.acknowledged if (one, other) == (queue, consumer)}
    removed = _removed_before(world, queue, consumer)
    if removed is not None:
        for number, position in positions.items():
            if number not in acknowledged and position not in removed and position not in buried:
                world.wrong(f"{where} never acknowledged #{number} at {position}")
    _check_settled(world, queue, consumer, shown, positions)


def _ordered_groups(world: World, first: list[int], positions: dict[int, int]) -> list[list[int]]:
    """Split the positions, as they were first shown, into those among which an order is kept."""
    order = world.circumstances.order
    if order == "strict":
        return [first]
    if order == "none":
        return []
    groups: dict[str, list[int]] = {}
    keys = {position: message_key(number) for number, position in positions.items()}
    for position in first:
        groups.setdefault(keys[position], []).append(position)
    return list(groups.values())


def _check_buried(world: World, queue: str, consumer: str) -> set[int]:
    """Return the positions of a consumer's dead letters."""
    buried: set[int] = set()
    for write in world.disk.log:
        if write.kind == "bury" and (write.where, write.who) == (queue, consumer):
            for attempt in write.what:
                buried.add(attempt.position)
                attempts = attempt.failures + attempt.losses
                if attempt.failures < world.circumstances.max_failures and attempts < _MAX_DELIVERIES:
                    world.wrong(f"consumer {consumer} of {queue} gave up too early: {attempt}")
    return buried


def _shown(world: World, queue: str, consumer: str) -> list[Shown]:
    shown = [
        one
        for socket in world.client_sockets
        if socket.namespace == "/" and world.circumstances.consumes.get(socket.manager.name) == (queue, consumer)
        for epoch in socket.epochs
        for one in epoch.shown
        if one.name == "q"
    ]
    return sorted(shown, key=lambda one: one.time)


def _removed_before(world: World, queue: str, consumer: str) -> set[int] | None:
    """Return the messages that were gone before a consumer came; ``None`` if it never came."""
    settled: dict[str, set[int]] = {}
    for write in world.disk.log:
        if write.where != queue:
            continue
        if write.kind == "consumer":
            if write.who == consumer and consumer not in settled:
                return set.intersection(*settled.values()) if settled else set()
            settled.setdefault(write.who, set())
        elif write.kind == "settle":
            settled.setdefault(write.who, set()).update(write.what)
        elif write.kind == "bury":
            settled.setdefault(write.who, set()).update(attempt.position for attempt in write.what)
    return None


def _check_settled(world: World, queue: str, consumer: str, shown: list[Shown], positions: dict[int, int]) -> None:
    settled_at: dict[int, float] = {}
    for write in world.disk.log:
        if write.kind == "settle" and (write.where, write.who) == (queue, consumer):
            for position in write.what:
                settled_at.setdefault(position, write.time)
    began = dict(world.opened)
    for one in shown:
        settled = settled_at.get(positions.get(one.arguments[1], 0))
        if settled is not None and settled < began.get(one.link, 0.0):
            world.wrong(f"consumer {consumer} of {queue} was shown {one.arguments}, which was settled long before")
