"""The size of the schema, and how far back its journals reach."""

from __future__ import annotations

from waypost.storage.postgres.driver import Connection
from waypost.storage.postgres.engine import Engine
from waypost.storage.store_numbers import MOST_JOURNALS, StoreSize

__all__ = ["read_size"]

_BYTES = """
    SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint AS bytes FROM pg_class
    WHERE relnamespace = 'waypost'::regnamespace AND relkind IN ('r', 'm')
"""

# Rows that were trimmed may wait for their removal.
_OLDEST = """
    SELECT name, at FROM waypost.journal JOIN LATERAL (
        SELECT at FROM waypost.log WHERE journal = id AND kind = 0 AND position >= coalesce(
            (SELECT position FROM waypost.trimmed WHERE journal = id ORDER BY number DESC LIMIT 1), 0)
        ORDER BY position LIMIT 1
    ) AS oldest ON true LIMIT $1
"""


async def read_size(engine: Engine) -> StoreSize:
    """Return the size of an engine's schema. The free space of its disk is not known here.

    Raises:
        StorageError: The engine can't be reached, or refuses it.
    """

    async def read(connection: Connection) -> StoreSize:
        (found,) = await connection.rows(_BYTES)
        oldest = await connection.rows(_OLDEST, MOST_JOURNALS)
        return StoreSize(found["bytes"], None, {str(row["name"]): row["at"] for row in oldest})

    return await engine.read(read)
