"""Which consumers this node owns, and which it wants: claims, releases, and consumers that were taken or freed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from waypost.errors import StorageError
from waypost.logs import fields, get_logger
from waypost.storage.following import QueueFollower
from waypost.storage.postgres.driver import Connection, EngineGone, Pool, Refusal, Warned
from waypost.storage.postgres.nodes.identity import NodeIdentity
from waypost.storage.postgres.problems import problem_of

__all__ = ["Consumers"]

_logger = get_logger(__name__)

_Key: TypeAlias = tuple[str, str]

_CLAIM: Final = "SELECT o_name, o_fence FROM waypost.claim_consumer_1($1, $2, $3, $4)"
_RELEASE: Final = "SELECT waypost.release_consumer_1($1, $2, $3, $4)"
_OWNERS: Final = "SELECT * FROM waypost.owners_1($1, $2)"
_FREE: Final = "SELECT waypost.free_1($1)"
_FENCED: Final = "WP001"


class Consumers:
    """The owners of queues' consumers, as far as this node is concerned with them.

    Args:
        store: The store, as errors name it.
        identity: This node.
        pool: The connection for all of this.
        settled: Waits for this node's earlier writes for a queue.
        owns: Called with a queue when this node owns a consumer of it, before `claim` returns.
    """

    def __init__(
        self,
        store: str,
        identity: NodeIdentity,
        pool: Pool,
        settled: Callable[[str], Awaitable[None]],
        owns: Callable[[str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._identity = identity
        self._pool = pool
        self._settled = settled
        self._owns = owns
        # With what the store counts its owners by.
        self._owned: dict[_Key, int] = {}
        # Consumers of others that were asked for, and who had them.
        self._wanted: dict[_Key, str] = {}
        # Consumers that this node may own without using them: the answer of a call was lost.
        self._doubtful: dict[_Key, None] = {}
        self._follower: QueueFollower | None = None
        self._refusal = ""

    @property
    def owned(self) -> frozenset[_Key]:
        """Queue and name of each consumer that this node owns."""
        return frozenset(self._owned)

    @property
    def queues(self) -> frozenset[str]:
        """The names of the queues of which this node owns a consumer."""
        return frozenset(queue for queue, _ in self._owned)

    def follow(self, follower: QueueFollower) -> None:
        """Set what is told of consumers."""
        self._follower = follower

    def refuse(self, reason: str) -> None:
        """Claim nothing as long as there is a reason, in words; "" ends that."""
        self._refusal = reason

    async def claim(self, queue: str, consumer: str) -> str:
        """Own a consumer, if no other living node does; returns the name of the node that owns it.

        Raises:
            StorageError: The engine can't be reached, or this node is not to own anything at the moment.
        """
        key = queue, consumer
        if self._refusal and key not in self._owned:
            raise StorageError(self._store, self._refusal)
        self._doubtful.pop(key, None)
        row = await self._call(_CLAIM, key)
        owner, fence = str(row["o_name"]), int(row["o_fence"])
        if owner == self._identity.name:
            was_lost = self._owned.get(key, fence) != fence
            self._owned[key] = fence
            self._wanted.pop(key, None)
            if was_lost and self._follower is not None:
                # Another node may have owned it in between.
                self._follower.freed(*key)
            await self._owns(queue)
        else:
            self._owned.pop(key, None)
            self._wanted[key] = owner
        return owner

    async def release(self, queue: str, consumer: str) -> None:
        """Own a consumer no more, after all earlier writes for it.

        Raises:
            StorageError: The engine can't be reached. The consumer is released when it can be.
        """
        key = queue, consumer
        await self._settled(queue)
        was_owned = self._owned.pop(key, None) is not None
        await self._call(_RELEASE, key)
        if was_owned and self._follower is not None:
            asyncio.get_running_loop().call_soon(self._follower.freed, *key)

    async def hand_over(self) -> None:
        """Own nothing any more: other nodes shall, as this one is too far behind.

        Raises:
            EngineGone: The engine can't be reached.
            Refusal: The engine refuses it.
        """
        if self._owned:
            async with self._pool.take() as connection:
                await connection.rows(_FREE, self._identity.id)
            await self.look()

    async def look(self) -> None:
        """Find out which consumers were taken from this node, and which of others are free.

        Raises:
            EngineGone: The engine can't be reached.
            Refusal: The engine refuses it.
        """
        keys = [*self._owned, *self._wanted]
        if keys or self._doubtful:
            async with self._pool.take() as connection:
                await self._release_doubtful(connection)
                rows = await connection.rows(_OWNERS, [key[0] for key in keys], [key[1] for key in keys])
            for row in rows:
                self._compare((row["o_queue"], row["o_consumer"]), row["o_name"])

    def _compare(self, key: _Key, owner: str | None) -> None:
        if key in self._owned:
            if owner == self._identity.name:
                return
            _logger.warning(
                "queue %r: consumer %r was taken from this node, that stood still",
                *key,
                extra=fields(queue=key[0], consumer=key[1]),
            )
            del self._owned[key]
        elif self._wanted.get(key, owner) == owner:
            return
        self._wanted.pop(key, None)
        if self._follower is not None:
            self._follower.freed(*key)

    async def _release_doubtful(self, connection: Connection) -> None:
        for key in [*self._doubtful]:
            await connection.rows(_RELEASE, self._identity.id, self._identity.incarnation, *key)
            self._doubtful.pop(key, None)

    async def _call(self, query: str, key: _Key) -> Any:
        while True:
            incarnation = self._identity.incarnation
            try:
                async with self._pool.take() as connection:
                    return await connection.row(query, self._identity.id, incarnation, *key)
            except Refusal as refusal:
                if refusal.sqlstate != _FENCED:
                    raise problem_of(self._store, refusal) from refusal
            except EngineGone as gone:
                self._doubtful[key] = None
                raise problem_of(self._store, gone) from gone
            except Warned:
                # It is done here, and it may be done again: what a lost standby forgets, the next call finds.
                continue
            try:
                await self._identity.renew(incarnation)
            except (EngineGone, Refusal, Warned) as error:
                raise problem_of(self._store, error) from error
