"""The handled messages of queues, in a client's file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from waypost.client.answers import MemoryHandledMessages
from waypost.client.state_file import StateFile
from waypost.errors import EncodingFailed, StorageError
from waypost.logs import fields, get_logger
from waypost.protocol import socketio
from waypost.protocol.extension import DeliveryMark
from waypost.protocol.records import read_values

__all__ = ["FileHandledMessages"]

logger = get_logger("waypost.client")


class FileHandledMessages:
    """`HandledMessages` in a file, so that they survive the process. They are read once, then kept in memory too.

    Args:
        file: The client's file.
        namespace: The namespace in which the messages arrive.
    """

    __slots__ = ("_file", "_memory", "_namespace")

    def __init__(self, file: StateFile, namespace: str) -> None:
        self._file = file
        self._namespace = namespace
        self._memory: MemoryHandledMessages | None = None

    async def find(self, mark: DeliveryMark) -> Sequence[Any] | None:
        """Return the acknowledgement of a handled message; ``None`` if the message was not handled.

        Raises:
            StorageError: The file can't be read.
        """
        return await (await self._remembered()).find(mark)

    async def remember(self, mark: DeliveryMark, values: Sequence[Any]) -> None:
        """Store that a message was handled, and its acknowledgement.

        If the disk refuses the record, memory keeps it, and the log has an error.
        """
        memory = await self._remembered()
        await memory.remember(mark, values)
        try:
            record = socketio.encode_event("/", "ack", values).to_record()
            await self._file.run(lambda connection: self._write(connection, mark, record))
        except (EncodingFailed, StorageError) as problem:
            logger.error(
                "message %s of %s was handled, and only memory knows: %s",
                mark.id,
                mark.queue,
                problem,
                extra=fields(message_id=mark.id, queue=mark.queue),
            )

    def _write(self, connection: sqlite3.Connection, mark: DeliveryMark, record: bytes) -> None:
        where = (self._namespace, mark.queue, mark.consumer)
        connection.execute(
            "DELETE FROM handled WHERE namespace = ? AND queue = ? AND consumer = ? "
            "AND (epoch != ? OR position <= ?)",
            (*where, mark.epoch, mark.cursor),
        )
        connection.execute(
            "INSERT OR REPLACE INTO handled (namespace, queue, consumer, epoch, position, record) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (*where, mark.epoch, mark.position, record),
        )

    async def _remembered(self) -> MemoryHandledMessages:
        if self._memory is None:
            memory = MemoryHandledMessages()
            for queue, consumer, epoch, position, record in await self._file.run(self._read):
                mark = DeliveryMark(
                    queue=queue, consumer=consumer, id="", epoch=epoch, position=position, cursor=0, attempt=1
                )
                await memory.remember(mark, tuple(read_values(record)[1:]))
            self._memory = memory
        return self._memory

    def _read(self, connection: sqlite3.Connection) -> list[tuple[str, str, str, int, bytes]]:
        return connection.execute(
            "SELECT queue, consumer, epoch, position, record FROM handled WHERE namespace = ?", (self._namespace,)
        ).fetchall()
