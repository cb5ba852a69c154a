"""The application that runs on the simulated server: middleware and handlers that wait, emit, join and refuse."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Protocol

from tests.sim.history import ROOMS, Circumstances
from tests.sim.lives import LifeLog
from tests.sim.operations import Operations
from waypost.application import Server
from waypost.errors import ConnectionRefused, NotConnected, StorageError
from waypost.server.namespaces.socket import Socket

__all__ = ["World", "install"]


_GROWING = 2


class World(Protocol):
    """What the application needs of the world."""

    operations: Operations
    lives: LifeLog
    sockets: dict[tuple[str, str], Socket]
    is_healed: bool

    def entered(self, socket: Socket) -> None:
        """Note that a connect handler began."""
        ...

    def handled(self, socket: Socket, number: int) -> None:
        """Note that an event of a client was handled."""
        ...


def install(
    server: Server, number: int, circumstances: Circumstances, world: World, chance: Random, leaving: Random
) -> None:
    """Register the application.

    Args:
        server: The server.
        number: The how many-eth life of the server it is.
        circumstances: What holds.
        world: Where it is told what happens.
        chance: What decides.
        leaving: What decides when somebody has left: of its own, so that all else stays as it was.
    """
    for name in ("/", "/n"):
        _Application(server, number, name, circumstances, world, chance, leaving).install()


class _Application:
    def __init__(
        self,
        server: Server,
        number: int,
        name: str,
        circumstances: Circumstances,
        world: World,
        chance: Random,
        leaving: Random,
    ) -> None:
        self._server = server
        self._number = number
        self._name = name
        self._circumstances = circumstances
        self._world = world
        self._chance = chance
        self._leaving = leaving

    def install(self) -> None:
        namespace = self._server.of(self._name)
        namespace.use(self._middleware)
        namespace.on("connect", self._connect)
        namespace.on("disconnect", self._disconnect)
        namespace.on("say", self._say)

    async def _pause(self) -> None:
        if self._circumstances.pause_s and self._chance.random() < 0.5:
            await asyncio.sleep(self._chance.random() * self._circumstances.pause_s)

    def _may(self, likely: float) -> bool:
        return not self._world.is_healed and self._chance.random() < likely

    async def _middleware(self, socket: Socket) -> None:
        client = socket.handshake.auth["name"]
        await self._pause()
        if self._circumstances.early and socket.recovered and self._may(0.3):
            await self._world.operations.leave(socket, (self._chance.choice(ROOMS),))
        elif self._circumstances.early and self._may(0.3):
            await self._world.operations.join(socket, (self._chance.choice(ROOMS),), early=True)
        if self._may(0.2):
            await self._world.operations.emit_to_all(self._server, self._name, None, f"{client} in middleware")
        await self._pause()
        if self._may(self._circumstances.handler_fault):
            raise ConnectionRefused("not now")

    async def _connect(self, socket: Socket) -> None:
        with self._world.lives.told(self._number, socket.id, "connect"):
            await self._welcome(socket)

    async def _disconnect(self, socket: Socket, reason: str) -> None:
        with self._world.lives.told(self._number, socket.id, "disconnect"):
            if self._leaving.random() < 0.5:
                await asyncio.sleep(self._leaving.random() * self._circumstances.pause_s)

    async def _welcome(self, socket: Socket) -> None:
        client = socket.handshake.auth["name"]
        operations = self._world.operations
        self._world.entered(socket)
        self._world.sockets[client, self._name] = socket
        if self._may(0.3):
            await operations.join(socket, (self._chance.choice(ROOMS),))
        await self._pause()
        if self._may(0.3):
            await operations.socket_emit(socket, "welcome")
        if self._may(0.2):
            await operations.emit_to_all(self._server, self._name, (self._chance.choice(ROOMS),))
        consumed = self._circumstances.consumes.get(client)
        if consumed is not None and self._name == "/":
            try:
                plan = self._circumstances.queue
                # Named, it is there from the beginning; else it grows.
                prefetch = plan.prefetch if plan is not None and plan.prefetch > _GROWING else None
                await socket.consume(
                    consumed[0], consumer=consumed[1], order=self._circumstances.order, prefetch=prefetch
                )
            except (StorageError, NotConnected):
                # Without it there would be no messages for the rest of this connection.
                await socket.disconnect()
        if self._may(self._circumstances.handler_fault):
            raise ConnectionRefused("not at all")

    async def _say(self, socket: Socket, number: int, what: str, room: str) -> Any:
        with self._world.lives.told(self._number, socket.id, "event"):
            return await self._do(socket, number, what, room)

    async def _do(self, socket: Socket, number: int, what: str, room: str) -> Any:
        self._world.handled(socket, number)
        operations = self._world.operations
        await self._pause()
        if what == "note":
            socket.data["noted"] = number
        elif what == "emit":
            await operations.socket_to(socket, (room,))
        elif what == "leave":
            if self._circumstances.late or socket.connected:
                await operations.leave(socket, (room,))
        elif self._circumstances.late or socket.connected:
            await operations.join(socket, (room,))
        return number
