"""Makes this process a node of an engine, in the order in which that is safe."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from waypost.storage.postgres.driver import Connection, Pool
from waypost.storage.postgres.nodes.beats import beat_of
from waypost.storage.postgres.nodes.entering import Entrance, enter, warn_of_connections
from waypost.storage.postgres.nodes.history import Applied, History
from waypost.storage.postgres.nodes.identity import NodeIdentity
from waypost.storage.postgres.nodes.observing import Beat

__all__ = ["become_node"]


async def become_node(
    store: str,
    entrance: Entrance,
    upkeep: Pool,
    steady: Callable[[], float],
    applied: Callable[[], Sequence[Applied]],
    forked: Callable[[], Awaitable[None]],
) -> tuple[NodeIdentity, History, Beat]:
    """Become a node: check the engine's history, enter, and beat once.

    Args:
        store: The store, as errors name it.
        entrance: What the node says of itself.
        upkeep: The connection for this, and for later incarnations.
        steady: The machine's steady clock.
        applied: See `History`.
        forked: See `History`.

    Returns:
        Who the node is, the engine's history, and the first beat: parts of a `PostgresNodes`.

    Raises:
        EngineGone: The engine can't be reached.
        Refusal: The engine refuses it.
    """
    history = History(store, applied, forked)

    async def come(connection: Connection) -> tuple[int, int]:
        return await enter(connection, entrance)

    async with upkeep.take() as connection:
        # Before it enters: a cold start begins an era, whatever the history.
        await history.check(connection)
        entered = await come(connection)
        history.era = None
        await history.check(connection)
        await history.tell_at_start(connection, entered[0])
        await warn_of_connections(connection, entrance)
        identity = NodeIdentity(entrance.name, entered, upkeep, come)
        return identity, history, await beat_of(connection, identity, steady, 0.0)
