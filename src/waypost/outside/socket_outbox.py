"""The way to a service of several workers whose store is in memory: the unix socket of the parent process."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Final

import msgspec

from waypost.errors import ConfigurationError, StorageError, StorageUncertain
from waypost.protocol.codec import EncodedEvent
from waypost.server.basics.targets import Target, write_record
from waypost.server.queues.options import QueueOptions
from waypost.storage.outside import OutsideWrite
from waypost.storage.queue_records import NewMessageRow
from waypost.storage.wire.frames import FrameReader, FrameWriter
from waypost.storage.wire.outside import ANSWERS, Answer, Publish, Refused, Request, Write
from waypost.storage.wire.problems import from_problem

__all__ = ["SocketOutbox"]

_READ_BYTES: Final = 64 << 10
_TRIES: Final = 2


class SocketOutbox:
    """The socket of a service; see `waypost.outside.outbox.Outbox`.

    Args:
        path: The socket.
        queues: The options of queues without their own.
    """

    def __init__(self, path: str, queues: QueueOptions) -> None:
        self._path = path
        self._queues = queues
        self._numbers = count(1)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        # One call at a time, so that the order of the calls is that of the writes.
        self._turn = asyncio.Lock()

    async def emit(
        self, namespace: str, target: Target, event: EncodedEvent, *, write_id: str, window_s: float
    ) -> None:
        """Take an event."""
        write = OutsideWrite("emit", namespace, content=write_record(target, event))
        request = Write(next(self._numbers), write, write_id, window_s)
        await self._call("emit an event", request, may_repeat=bool(write_id) and window_s > 0)

    async def change(self, write: OutsideWrite) -> None:
        """Take a change of rooms or sessions."""
        # To do it twice is to do it once.
        await self._call("change rooms or sessions", Write(next(self._numbers), write), may_repeat=True)

    async def publish(self, queue: str, message: NewMessageRow, *, has_own_id: bool) -> None:
        """Take a message for a queue."""
        window_s = self._queues.deduplication_s if has_own_id else 0.0
        request = Publish(next(self._numbers), queue, message, window_s)
        operation = f"put a message into queue {queue}"
        await self._call(operation, request, may_repeat=window_s > 0, ids=(message.id,))

    async def close(self) -> None:
        """Close the connection."""
        async with self._turn:
            self._drop()

    async def _call(self, operation: str, request: Request, *, may_repeat: bool, ids: tuple[str, ...] = ()) -> None:
        """Ask for something; once more over a new connection, if that can't do it twice."""
        frame = FrameWriter()
        frame.add(request)
        data = frame.take()
        async with self._turn:
            for left in reversed(range(_TRIES)):
                reader, writer = await self._connected()
                try:
                    writer.write(data)
                    await writer.drain()
                    answer = await self._answer(reader)
                except (OSError, EOFError) as error:
                    self._drop()
                    if left and may_repeat:
                        continue
                    reason = f"the connection to the service broke ({error})"
                    raise StorageUncertain(self._path, operation, reason, ids=ids) from error
                except BaseException:
                    # Given up: an answer that comes yet is to nobody.
                    self._drop()
                    raise
                if isinstance(answer, Refused):
                    raise from_problem(answer.problem, self._path)
                return

    async def _answer(self, reader: asyncio.StreamReader) -> Answer:
        frames: FrameReader[Answer] = FrameReader(ANSWERS)
        while data := await reader.read(_READ_BYTES):
            try:
                for answers in frames.feed(data):
                    return answers[0]
            except msgspec.MsgspecError as error:
                raise StorageError(self._path, f"no service of this version answers there: {error}") from error
        raise EOFError("it ended")

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            try:
                self._streams = await asyncio.open_unix_connection(self._path)
            except OSError as error:
                expected = "the socket of a service: `waypost serve --workers N --emitter-socket PATH`"
                if isinstance(error, FileNotFoundError):
                    raise ConfigurationError("store", f"unix:{self._path}", expected) from error
                raise StorageError(self._path, f"no service answers there ({error}); expected {expected}") from error
        return self._streams

    def _drop(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
