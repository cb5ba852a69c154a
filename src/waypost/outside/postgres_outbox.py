"""The outbox on PostgreSQL, over a connection of the emitter's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Final

from waypost.errors import StorageError, StorageUncertain
from waypost.outside.emitting import emit_arguments
from waypost.protocol.codec import EncodedEvent
from waypost.server.basics.targets import Target
from waypost.server.queues.options import QueueOptions
from waypost.server.queues.publishing import publish_arguments, without_nul
from waypost.storage.database_address import Address
from waypost.storage.foreign import Argument, error_of
from waypost.storage.outside import OutsideWrite
from waypost.storage.postgres.driver import Connection, EngineGone, Refusal, Warned, connect
from waypost.storage.queue_records import NewMessageRow

__all__ = ["PostgresOutbox"]

_KINDS: Final = {"join": 18, "leave": 19, "end": 20}
# A call that is refused after a new connection as well is told.
_TRIES: Final = 2


class PostgresOutbox:
    """The outbox of a store on PostgreSQL; see `waypost.outside.outbox.Outbox`.

    Args:
        address: Where it is.
        queues: The options of queues without their own; ``None`` for those that these have by default.
    """

    def __init__(self, address: Address, queues: QueueOptions | None) -> None:
        self._address = address
        self._queues = queues
        self._connection: Connection | None = None
        # One call at a time, so that the order of the calls is that of the commits.
        self._turn = asyncio.Lock()

    async def emit(
        self, namespace: str, target: Target, event: EncodedEvent, *, write_id: str, window_s: float
    ) -> None:
        """Take an event."""
        arguments = emit_arguments(namespace, target, event, write_id or None, window_s)
        await self._call("emit an event", "emit_1", arguments, may_repeat=bool(write_id) and window_s > 0)

    async def change(self, write: OutsideWrite) -> None:
        """Take a change of rooms or sessions."""
        rooms = None if write.rooms is None else [_hex(room) for room in write.rooms]
        named: dict[str, object] = {"rooms": rooms, "except": [_hex(room) for room in write.except_]}
        if write.kind == "end":
            named["note"] = write.content.hex()
        else:
            named["moved"] = [_hex(room) for room in write.moved]
        arguments = (
            Argument("text", without_nul("namespace", write.journal)),
            Argument("smallint", _KINDS[write.kind]),
            Argument("jsonb", json.dumps(named)),
            Argument("boolean", False),
        )
        # To do it twice is to do it once.
        await self._call("change rooms or sessions", "change_1", arguments, may_repeat=True)

    async def publish(self, queue: str, message: NewMessageRow, *, has_own_id: bool) -> None:
        """Take a message for a queue."""
        arguments = publish_arguments(queue, message, self._queues, has_own_id=has_own_id)
        operation = f"put a message into queue {queue}"
        await self._call(operation, "publish_1", arguments, may_repeat=has_own_id, ids=(message.id,))

    async def close(self) -> None:
        """Close the connection."""
        async with self._turn:
            connection, self._connection = self._connection, None
            if connection is not None:
                await connection.close()

    async def _call(
        self,
        operation: str,
        function: str,
        arguments: Sequence[Argument],
        *,
        may_repeat: bool,
        ids: tuple[str, ...] = (),
    ) -> None:
        """Call a function; once more over a new connection, if that can't do it twice."""
        marks = ", ".join(f"${number}::{one.type}" for number, one in enumerate(arguments, 1))
        query = f"SELECT waypost.{function}({marks})"
        values = [one.value for one in arguments]
        store = self._address.shown
        async with self._turn:
            for left in reversed(range(_TRIES)):
                try:
                    await (await self._connected()).value(query, *values)
                except EngineGone as gone:
                    if left and (may_repeat or not gone.was_sent):
                        continue
                    if gone.was_sent:
                        raise StorageUncertain(store, operation, gone.problem, ids=ids) from gone
                    problem = f"PostgreSQL can't be reached: {gone.problem}; nothing was stored"
                    raise StorageError(store, problem) from gone
                except Warned as warned:
                    raise StorageUncertain(store, operation, str(warned), ids=ids) from warned
                except Refusal as refusal:
                    raise error_of(store, refusal.sqlstate, refusal.message, refusal.detail) from refusal
                return

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed:
            self._connection = await connect(self._address.dsn, "emitter", pooled=self._address.pooled)
        return self._connection


def _hex(name: str) -> str:
    return name.encode().hex()
