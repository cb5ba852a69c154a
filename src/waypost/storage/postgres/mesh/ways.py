"""Connections of clients between nodes: who has a number, and the way there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from waypost.storage.postgres.mesh.connection import MeshConnection
from waypost.storage.postgres.mesh.dialing import Person, dial
from waypost.storage.postgres.mesh.handshake import CONNECTION, Strangers
from waypost.storage.postgres.mesh.mesh import Mesh

__all__ = ["MeshWays", "Place"]

Place: TypeAlias = tuple[str, str]
"""A living node's name and address."""

# Anybody can ask for any number: one that nobody has is not looked up again and again.
_NOBODY_S: Final = 0.5
_MOST_NOBODIES: Final = 1000
_MOST_NUMBER: Final = 2**31 - 1


class MeshWays:
    """The ways to the processes of other nodes; see `waypost.storage.following.Ways`.

    Args:
        mesh: The links of this node.
        find: Looks up in the engine who has a number; ``None`` for no living node. May raise `OSError`.
        label: Stands before the number in the ids of sessions, for balancers; "" for none.

    Attributes:
        number: This node's number.
        suffix: The end of the ids of its clients' sessions.
    """

    def __init__(
        self, mesh: Mesh, number: int, find: Callable[[int], Awaitable[Place | None]], label: str = ""
    ) -> None:
        self.number = str(number)
        self.suffix = f"{label}.{number}" if label else self.number
        self._mesh = mesh
        self._find = find
        self._known: dict[int, Place] = {}
        self._nobodies: dict[int, float] = {}
        self._looking = asyncio.Lock()

    async def open(self, number: str) -> asyncio.Transport | None:
        """Open a connection to a node's process; ``None`` if no living node has the number. May be cancelled.

        Raises:
            OSError: The node is alive, and can't be reached.
        """
        node = int(number)
        if node > _MOST_NUMBER:
            return None
        known = self._known.get(node)
        if known is not None:
            try:
                return await self._dial(known)
            except (OSError, Strangers):
                # It may be gone, or its address has changed.
                self._known.pop(node, None)
        place = await self._look(node)
        if place is None:
            return None
        try:
            transport = await self._dial(place)
        except Strangers as problem:
            raise ConnectionError(str(problem)) from problem
        self._known[node] = place
        return transport

    def serve(self, take: Callable[[asyncio.Transport], None]) -> None:
        """Call a function with each connection that another node has opened; it sets the protocol."""

        def accept(connection: MeshConnection) -> None:
            take(connection.transport)

        self._mesh.accept = accept

    async def _dial(self, place: Place) -> asyncio.Transport:
        me: Person = self._mesh.me
        name, address = place
        connection, _ = await dial(me, name, address, CONNECTION)
        return connection.transport

    async def _look(self, node: int) -> Place | None:
        loop = asyncio.get_running_loop()
        async with self._looking:
            if self._nobodies.get(node, 0.0) > loop.time():
                return None
            place = self._known.get(node) or await self._find(node)
            if place is None:
                self._nobodies.pop(node, None)
                self._nobodies[node] = loop.time() + _NOBODY_S
                while len(self._nobodies) > _MOST_NOBODIES:
                    del self._nobodies[next(iter(self._nobodies))]
            return place
