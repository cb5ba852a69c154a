"""Opens this node's links: the secret that nodes share, and the address at which the others reach it."""

from __future__ import annotations

import errno
import secrets
from collections.abc import Callable
from typing import Final

from waypost.errors import ConfigurationError
from waypost.storage.postgres.driver import Connection, EngineGone, Pool, Refusal
from waypost.storage.postgres.mesh.dialing import Person, parse_place
from waypost.storage.postgres.mesh.mesh import Mesh
from waypost.storage.postgres.mesh.progress import Progress
from waypost.storage.postgres.mesh.ways import MeshWays, Place

__all__ = ["have_ways", "open_mesh"]

_MAKE: Final = "INSERT INTO waypost.setting VALUES ('mesh_secret', $1) ON CONFLICT DO NOTHING"
_SECRET: Final = "SELECT value FROM waypost.setting WHERE key = 'mesh_secret'"
_FIND: Final = "SELECT name, address FROM waypost.node WHERE id = $1 AND state = 'alive'"
_SECRET_BYTES = 32
# Workers on one machine have the same option: each takes a port of its own.
_MOST_PORTS = 64
_EXPECTED = '"host", or "host:port" with a free port from 1 to 65535; up to 63 workers take the ports after it'


async def open_mesh(
    store: str,
    name: str,
    node_address: str | None,
    connection: Connection,
    progress: Progress,
    after_writes: Callable[[Callable[[], None]], None],
) -> tuple[Mesh, str]:
    """Listen for other nodes.

    Args:
        store: The store, as errors name it.
        name: This node's name.
        node_address: The option of that name: ``host:port``, ``host``, or "" for this machine's address on its
            connection to the engine; ``None`` for a node that is no server, and that nobody reaches.
        connection: A connection to the engine.
        progress: What this node has applied.
        after_writes: See `Mesh`.

    Returns:
        The links, and the address at which other nodes reach this one; "" if they can't.

    Raises:
        ConfigurationError: There is no listening at the address.
        EngineGone: The engine can't be reached.
        Refusal: The engine refuses it.
    """
    mesh = Mesh(store, Person(name, await _secret(connection)), progress, after_writes)
    if node_address is None:
        return mesh, ""
    host, port = _place(node_address) if node_address else (connection.local_host, 0)
    for offset in range(_MOST_PORTS if port else 1):
        try:
            return mesh, await mesh.start(host, port + offset if port else 0)
        except (OSError, OverflowError) as problem:
            if getattr(problem, "errno", None) != errno.EADDRINUSE or offset == _MOST_PORTS - 1:
                raise ConfigurationError(
                    "waypost_node_address", node_address or host, f"{_EXPECTED}; {problem}"
                ) from None
    raise ConfigurationError("waypost_node_address", node_address, _EXPECTED)


def have_ways(mesh: Mesh, number: int, label: str, pool: Pool, known: Callable[[int], Place | None]) -> None:
    """Let connections of clients come and go, once this node has its number.

    Args:
        mesh: The links.
        number: The node's number.
        label: The label of its machine; "" for none.
        pool: A connection to the engine.
        known: Returns where a node was that lived when the engine answered last; asked while it does not.
    """

    async def find(node: int) -> Place | None:
        try:
            async with pool.take() as connection:
                row = await connection.row(_FIND, node)
        except (EngineGone, Refusal) as problem:
            place = known(node)
            if place is not None:
                return place
            raise ConnectionError(f"the engine does not say where the node is: {problem}") from problem
        return None if row is None else (str(row["name"]), str(row["address"]))

    mesh.ways = MeshWays(mesh, number, find, label)


async def _secret(connection: Connection) -> bytes:
    found = await connection.value(_SECRET)
    if found is None:
        async with connection.transaction():
            # What another node has read must not be lost.
            await connection.rows("SELECT waypost.begin_write_1()")
            await connection.rows(_MAKE, secrets.token_hex(_SECRET_BYTES))
        found = await connection.value(_SECRET)
    return str(found).encode()


def _place(node_address: str) -> tuple[str, int]:
    try:
        host, port = parse_place(node_address if _has_port(node_address) else f"{node_address}:0")
    except ValueError:
        raise ConfigurationError("waypost_node_address", node_address, _EXPECTED) from None
    if not host or not 0 <= port <= 65535:
        raise ConfigurationError("waypost_node_address", node_address, _EXPECTED)
    return host, port


def _has_port(node_address: str) -> bool:
    # "::1" is an address of IPv6 without one, "[::1]:7000" one with.
    return ":" in node_address.rpartition("]")[2] and (node_address.startswith("[") or node_address.count(":") == 1)
