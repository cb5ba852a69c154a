"""The calls of a journal's lane: events alone the fast way, mixed operations in their order."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import Any, Final
from zlib import crc32

from waypost.storage.postgres.driver import Connection
from waypost.storage.postgres.journals.log import Batch, Done, Log, Operation
from waypost.storage.postgres.lanes import Mark, Write

__all__ = ["LogWork"]

_APPEND: Final = "SELECT o_tick, o_position FROM waypost.append_1($1, $2, $3, $4, $5, $6)"
_WRITE: Final = "SELECT waypost.write_1($1, $2, $3, $4, $5, $6, $7, $8, $9)"
_SETTLE: Final = "SELECT waypost.settle_1($1, $2, $3, $4, $5, $6, $7)"

# Fewer events than this go along with the other operations of their batch.
_RUN = 16
# A mixed batch is a loop in the server, under the lock.
_MOST_MIXED = 256


class LogWork:
    """The calls that write to one journal; see `LaneWork`.

    Args:
        log: The journal's log.
        written: Called with the tick of the last row of each call that was done.
    """

    __slots__ = ("_log", "_written")

    def __init__(self, log: Log, written: Callable[[int], None]) -> None:
        self._log = log
        self._written = written

    def split(self, writes: Sequence[Write[Any]]) -> int:
        """Return how many of the writes go together: a run of events, or operations with some events between."""
        run = 0
        for number, write in enumerate(writes):
            if isinstance(write.payload, bytes):
                run += 1
                continue
            if run >= _RUN:
                return run if number == run else number - run
            run = 0
            if number >= _MOST_MIXED:
                return number
        if run == len(writes) or run < _RUN:
            return len(writes)
        return len(writes) - run

    async def send(self, connection: Connection, writes: Sequence[Write[Any]], mark: Mark) -> Batch:
        """Make one call."""
        payloads: list[bytes | Operation] = [write.payload for write in writes]
        records = [one if isinstance(one, bytes) else one.record for one in payloads]
        sums = [crc32(record) for record in records]
        operations = [one for one in payloads if not isinstance(one, bytes)]
        if not operations:
            row = await connection.row(_APPEND, self._log.number, *mark, records, sums)
            assert row is not None, "a function returns a row"
            return _appended(mark, writes, row["o_tick"], row["o_position"])
        columns = [*zip(*(_columns(one) for one in payloads), strict=True)]
        told = await connection.value(
            _WRITE, self._log.number, *mark, columns[0], columns[1], records, sums, columns[2]
        )
        return _written(mark, writes, json.loads(told))

    async def settle(
        self, connection: Connection, writes: Sequence[Write[Any]], mark: Mark, by: Mark
    ) -> Batch | None:
        """Find out whether a call was done."""
        told = await connection.value(_SETTLE, self._log.number, *mark, self._log.applied, by.incarnation, by.batch)
        if told is None:
            return None
        answer = json.loads(told)
        if "position" in answer:
            return _appended(mark, writes, answer["tick"], answer["position"])
        return _written(mark, writes, answer)

    def finish(self, writes: Sequence[Write[Any]], answer: Batch, mark: Mark) -> None:
        """Apply a batch when its turn has come, and tell other nodes of it."""
        self._log.add_batch(answer)
        self._written(answer.last)

    def lose(self, mark: Mark) -> None:
        """Leave a call to the log: nobody knows whether it was done."""
        self._log.lose(mark)


def _appended(mark: Mark, writes: Sequence[Write[Any]], tick: int, position: int) -> Batch:
    results = [Done(at, {}, b"") for at in range(position, position + len(writes))]
    return Batch(mark, writes, tick, tick + len(writes) - 1, results)


def _written(mark: Mark, writes: Sequence[Write[Any]], answer: dict[str, Any]) -> Batch:
    results = [Done(one["p"], one.get("r", {}), _bytes(one.get("d"))) for one in answer["results"]]
    return Batch(mark, writes, answer["tick"], answer["last"], results)


def _columns(payload: bytes | Operation) -> tuple[int, bytes, str]:
    if isinstance(payload, bytes):
        return 0, b"", "{}"
    return payload.kind, payload.key, payload.arguments


def _bytes(text: str | None) -> bytes:
    return b"" if text is None else b64decode(text)
