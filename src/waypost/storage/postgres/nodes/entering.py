"""How a node comes to an engine and leaves it, and the check of the engine's configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from waypost.logs import fields, get_logger
from waypost.storage.postgres.driver import Connection
from waypost.storage.postgres.nodes.identity import Entered

__all__ = ["Entrance", "enter", "leave", "warn_of_connections"]

_logger = get_logger(__name__)

_ENTER: Final = "SELECT o_node, o_incarnation, o_is_cold FROM waypost.enter_1($1, $2, $3, $4::jsonb, $5, $6)"
_LEAVE: Final = "SELECT waypost.leave_1($1, $2, $3)"
_DIFFERING: Final = """
    SELECT name, options::text AS options FROM waypost.node
    WHERE state = 'alive' AND address <> '' AND name <> $1 AND options <> $2::jsonb ORDER BY id LIMIT 1
"""
_CONNECTIONS: Final = """
    SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS most,
        (SELECT count(*) FROM waypost.node WHERE state = 'alive' AND address <> '') AS nodes,
        (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used
"""


@dataclass(frozen=True, slots=True)
class Entrance:
    """A node, as it presents itself to the others.

    Attributes:
        name: Its name, that no other node ever had.
        address: Where other nodes reach it; "" for a command, which is no server.
        version: Its version of Waypost.
        options: The options that all nodes should have alike.
        orphan_ttl_s: Seconds for which a session is kept whose node is dead.
        connections: How many connections it opens.
        knows: The newest version of the schema that it knows.
    """

    name: str
    address: str
    version: str
    options: dict[str, Any]
    orphan_ttl_s: float
    connections: int
    knows: int


async def enter(connection: Connection, entrance: Entrance) -> Entered:
    """Make a node known; returns its number and incarnation.

    Raises:
        EngineGone: The connection broke.
        Refusal: The engine refuses it.
    """
    options = json.dumps(entrance.options, sort_keys=True)
    row = await connection.row(
        _ENTER,
        entrance.name,
        entrance.address,
        entrance.version,
        options,
        entrance.orphan_ttl_s,
        entrance.knows,
    )
    assert row is not None
    other = await connection.row(_DIFFERING, entrance.name, options)
    if other is not None and entrance.address:
        theirs = json.loads(other["options"])
        differences = [
            f"{name} {theirs.get(name)!r} (here {entrance.options.get(name)!r})"
            for name in sorted({*theirs, *entrance.options})
            if theirs.get(name) != entrance.options.get(name)
        ]
        _logger.warning(
            "node %s has other options of the store than this one: %s; those of the node that does the upkeep count",
            other["name"], ", ".join(differences), extra=fields(node=other["name"]),
        )  # fmt: skip
    return int(row["o_node"]), int(row["o_incarnation"])


async def leave(connection: Connection, entered: Entered, orphan_ttl_s: float) -> None:
    """Leave: what the node still has, others may have at once. Raises as `enter`."""
    await connection.rows(_LEAVE, *entered, orphan_ttl_s)


async def warn_of_connections(connection: Connection, entrance: Entrance) -> None:
    """Warn if the engine has too few connections for its nodes. Raises as `enter`."""
    row = await connection.row(_CONNECTIONS)
    assert row is not None
    needed = int(row["nodes"]) * entrance.connections
    if max(needed, int(row["used"])) > int(row["most"]):
        _logger.warning(
            "the engine takes %d connections, and %d nodes with %d each want %d (%d are open now): raise"
            " max_connections, or lower waypost_connections",
            row["most"], row["nodes"], entrance.connections, needed, row["used"],
            extra=fields(option="waypost_connections", count=row["used"]),
        )  # fmt: skip
