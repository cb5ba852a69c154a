"""The steps of a history, each a method: what is done to the server, to clients, and to what lies between."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol

from tests.sim.client import ClientSocket, Manager
from tests.sim.history import Circumstances, Step
from tests.sim.network import Link
from tests.sim.operations import Operations
from tests.sim.trace import Trace
from tests.sim.world import World
from waypost.application import Server
from waypost.server.emitting.operator import Operator
from waypost.server.namespaces.socket import Socket
from waypost.server.queues.queue import Queue

__all__ = ["Actions", "ServerActions"]


class Scene(Protocol):
    """What steps need of the world, whatever servers there are."""

    trace: Trace
    operations: Operations
    circumstances: Circumstances
    managers: dict[str, Manager]
    notes: set[int]

    def in_server(self, step: Step, make: Callable[[Server], Coroutine[Any, Any, Any]]) -> None:
        """Run something in the server that a step is about, if it lives."""
        ...

    def with_socket(self, step: Step, make: Callable[[Socket], Coroutine[Any, Any, Any]]) -> None:
        """Run something with the socket that a step is about, in its server."""
        ...

    def after(self, seconds: float, callback: Callable[..., object], *args: object) -> Any:
        """Call something after a while."""
        ...


class Actions:
    """Does the steps: here those with emits, rooms, clients and their links.

    Args:
        world: To whom.
        others: What does the other steps.
    """

    def __init__(self, world: Scene, *others: object) -> None:
        self._world = world
        self._operations = world.operations
        self._others = others
        self._said = 0

    def do(self, step: Step) -> None:
        """Do one."""
        self._world.trace.note("STEP {}", step)
        doer = next(one for one in (self, *self._others) if hasattr(one, step.do))
        getattr(doer, step.do)(step)

    # -- on the server --------------------------------------------------------------------------------------

    def _operator(self, server: Server, step: Step) -> Operator:
        rooms, except_ = step.what
        namespace = server.of(step.where)
        return (namespace.except_() if rooms is None else namespace.to(*rooms)).except_(*except_)

    def emit(self, step: Step) -> None:
        self._world.in_server(step, lambda server: self._emit(server, step, 1))

    def pair(self, step: Step) -> None:
        self._world.in_server(step, lambda server: self._emit(server, step, 2))

    async def _emit(self, server: Server, step: Step, count: int) -> None:
        rooms, except_ = step.what
        for number in range(count):
            extra = ("text",) if step.at * 1000 % 2 else ()
            await self._operations.emit(self._operator(server, step), step.where, rooms, except_, *extra[number:])

    def burst(self, step: Step) -> None:
        rooms, except_ = step.what
        for number in range(8):
            padding = "x" * (200 * (number % 3))
            self._world.in_server(
                step,
                lambda server, padding=padding: self._operations.emit(  # type: ignore[misc]
                    self._operator(server, step), step.where, rooms, except_, padding
                ),
            )

    def volatile(self, step: Step) -> None:
        rooms, except_ = step.what
        self._world.in_server(
            step, lambda server: self._operations.volatile(self._operator(server, step), step.where, rooms, except_)
        )

    def socket_emit(self, step: Step) -> None:
        self._world.with_socket(step, self._operations.socket_emit)

    def socket_to(self, step: Step) -> None:
        self._world.with_socket(step, lambda socket: self._operations.socket_to(socket, step.what))

    def join(self, step: Step) -> None:
        self._world.with_socket(step, lambda socket: self._operations.join(socket, step.what))

    def leave(self, step: Step) -> None:
        self._world.with_socket(step, lambda socket: self._leave(socket, step.what))

    async def _leave(self, socket: Socket, rooms: tuple[str, ...]) -> None:
        if self._world.circumstances.late or socket.connected:
            await self._operations.leave(socket, rooms)

    def move(self, step: Step) -> None:
        kind, rooms, changed = step.what

        def make(server: Server) -> Coroutine[Any, Any, None]:
            namespace = server.of(step.where)
            operator = namespace.except_() if rooms is None else namespace.to(*rooms)
            return self._operations.move(operator, kind, step.where, rooms, changed)

        self._world.in_server(step, make)

    def call(self, step: Step) -> None:
        self._world.with_socket(step, lambda socket: self._operations.call(socket, step.what[0]))

    def kick(self, step: Step) -> None:
        self._world.with_socket(step, lambda socket: socket.disconnect(close=step.what[0]))

    # -- clients and their links ----------------------------------------------------------------------------

    def _socket(self, step: Step) -> ClientSocket:
        return self._world.managers[step.who].socket(step.where)

    def _link(self, step: Step) -> Link | None:
        return self._world.managers[step.who].link

    def walk_in(self, step: Step) -> None:
        self._socket(step).connect()

    def walk_out(self, step: Step) -> None:
        self._socket(step).disconnect()

    def say(self, step: Step) -> None:
        self._said += 1
        if step.what[0] == "note":
            self._world.notes.add(self._said)
        self._socket(step).emit("say", self._said, *step.what, ack_id=self._said)

    def cut(self, step: Step) -> None:
        link = self._link(step)
        if link is None:
            return
        client_s, server_s = step.what
        link.cut()
        if client_s is not None:
            self._world.after(client_s, link.client_notices)
        if server_s is not None:
            self._world.after(server_s, link.server_notices)

    def stall(self, step: Step) -> None:
        link = self._link(step)
        if link is None:
            return
        which, seconds = step.what
        for pipe in {"up": [link.up], "down": [link.down], "both": [link.up, link.down]}[which]:
            pipe.stall()
            self._world.after(seconds, pipe.resume)


class ServerActions:
    """Does the steps of a history of one server: with its queues, its life, and its clock.

    Args:
        world: To whom.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._operations = world.operations

    def queue(self, step: Step) -> None:
        self._world.in_server(step, lambda server: self._operations.queue(server, step.where, step.what[0]))

    def message(self, step: Step) -> None:
        self._world.in_server(step, lambda server: self._operations.message(server, step.where, *step.what))

    def seek(self, step: Step) -> None:
        consumer, to, back = step.what
        place = to if back is None else max(1, self._world.disk.store._queues.found(step.where).top - back)
        self._manage(step, consumer, lambda queue: queue.get_consumer(consumer).seek(place))

    def pause(self, step: Step) -> None:
        consumer, seconds = step.what
        until = datetime.fromtimestamp(self._world.wall_time() + seconds, UTC)
        if consumer is None:
            self._manage(step, "", lambda queue: queue.pause(until=until))
        else:
            self._manage(step, consumer, lambda queue: queue.get_consumer(consumer).pause(until=until))

    def resume(self, step: Step) -> None:
        (consumer,) = step.what
        if consumer is None:
            self._manage(step, "", lambda queue: queue.resume())
        else:
            self._manage(step, consumer, lambda queue: queue.get_consumer(consumer).resume())

    def redrive(self, step: Step) -> None:
        (rate_per_s,) = step.what
        self._manage(step, "", lambda queue: queue.redrive(rate_per_s=rate_per_s))

    def discard(self, step: Step) -> None:
        self._manage(step, "", lambda queue: queue.discard_dead_letters())

    def away(self, step: Step) -> None:
        seconds, how = step.what
        self._world.queue_clients.be_away(self._world.time() + seconds, is_silent=how == "silent")

    def _manage(self, step: Step, consumer: str, work: Callable[[Queue], Coroutine[Any, Any, object]]) -> None:
        self._world.in_server(
            step,
            lambda server: self._operations.manage(
                step.do, step.where, consumer, lambda: work(server.queue(step.where))
            ),
        )

    # -- the server's life ----------------------------------------------------------------------------------

    def crash(self, step: Step) -> None:
        self._world.crash(step.what[0])

    def arm(self, step: Step) -> None:
        gate, count, down_s = step.what
        self._world.arm(gate, count, down_s)

    def stop(self, step: Step) -> None:
        self._world.stop(step.what[0])

    def clock(self, step: Step) -> None:
        self._world.jump_clock(step.what[0])
