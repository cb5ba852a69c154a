"""What a client has of its namespace, across connections: its place in it, acks, and what waits to be sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from waypost.client.answers import Answers
from waypost.client.connection import Connection
from waypost.client.options import Options
from waypost.errors import AckTimeout, NotConnected
from waypost.protocol.codec import codec_for
from waypost.protocol.engineio import Frame
from waypost.protocol.reconnect import Continuity, Outbox

__all__ = ["Session"]

logger = logging.getLogger("waypost.client")


@dataclass(slots=True, eq=False)
class _Outgoing:
    """A packet that waits to be sent.

    Attributes:
        frames: Its frames.
        size: Roughly how many bytes they are.
        sid: The only session it may be sent in; ``None`` for any.
        written: Whether it was handed to a connection.
    """

    frames: tuple[Frame, ...]
    size: int
    sid: str | None = None
    written: bool = False


class Session:
    """One namespace, seen from the client.

    Emitting works with and without a connection. Whoever has one calls `begin`, runs `write` in a task of its
    own, and calls `lost` at its end.

    Attributes:
        namespace: Its name.
        codec: What its packets are written in.
        continuity: What the next CONNECT tells the server.
        sid: The id of the socket on the server; ``None`` while there is no connection.
        recovered: Whether the last connection went on where the one before had ended.
    """

    def __init__(self, options: Options) -> None:
        self.namespace = options.namespace
        self.codec = codec_for(options.parser)
        self.continuity = Continuity()
        self.sid: str | None = None
        self.recovered = False
        self._outbox: Outbox[_Outgoing] = Outbox(
            max_items=options.max_buffered_events, max_bytes=options.max_buffered_bytes
        )
        self._acks: dict[int, tuple[_Outgoing, asyncio.Future[list[Any]]]] = {}
        self._next_ack_id = 0
        self._answers = Answers()
        self._filled = asyncio.Event()
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()

    def begin(self, sid: str, pid: str | None) -> None:
        """Take note that the server has accepted this client."""
        self.sid = sid
        self.recovered = self.continuity.accept(pid)
        self._answers.begin(sid)

    def lost(self) -> None:
        """Take note that the connection is gone: what was sent on it will not be acknowledged any more."""
        sid, self.sid = self.sid, None
        for outgoing, answer in self._acks.values():
            if outgoing.written and not answer.done():
                answer.set_exception(NotConnected(sid, self.namespace, "await an acknowledgement"))
        self._changed.set()

    async def emit(self, event: str, args: Sequence[Any]) -> None:
        """Put an event at the end of what is to be sent; wait while there is no room, if there is a connection.

        Raises:
            EncodingFailed: The event can't be encoded.
            NotConnected: There is neither a connection nor room.
        """
        encoded = self.codec.encode_event(self.namespace, event, args)
        await self._push(_Outgoing(encoded.frames(), encoded.size), event)

    async def call(self, event: str, args: Sequence[Any], timeout_s: float) -> Any:
        """Emit an event and await its acknowledgement.

        Returns:
            The acknowledgement's only argument, a tuple of several, or ``None``.

        Raises:
            AckTimeout: There was none in time; if the event was not sent yet, it won't be.
            EncodingFailed: The event can't be encoded.
            NotConnected: The connection was lost after the event was sent; or there was neither a connection nor
                room.
        """
        encoded = self.codec.encode_event(self.namespace, event, args)
        ack_id = self._next_ack_id
        self._next_ack_id += 1
        outgoing = _Outgoing(encoded.frames_with_ack(ack_id), encoded.size)
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._acks[ack_id] = (outgoing, answer)
        try:
            async with asyncio.timeout(timeout_s):
                await self._push(outgoing, event)
                values = await answer
        except TimeoutError:
            raise AckTimeout(event, timeout_s) from None
        finally:
            del self._acks[ack_id]
            if not outgoing.written:
                self._outbox.remove(outgoing, outgoing.size)
        return values[0] if len(values) == 1 else tuple(values) or None

    def acknowledged(self, ack_id: int, values: list[Any]) -> None:
        """Take an acknowledgement from the server; one that nobody awaits is ignored."""
        _, answer = self._acks.get(ack_id, (None, None))
        if answer is not None and not answer.done():
            answer.set_result(values)

    def take(self, data: list[Any], ack_id: int | None) -> list[Any] | None:
        """Take an event from the server.

        Returns:
            Its name and arguments, or ``None`` if it was taken before: if it asks for an acknowledgement again, it is
            answered as it was.
        """
        if ack_id is None or self._answers.expect(ack_id):
            return self.continuity.take(data, ack_id)
        frames = self._answers.get(ack_id)
        if frames:
            self._answer(frames, self.sid)
        return None

    def answer(self, ack_id: int, frames: tuple[Frame, ...], sid: str | None) -> None:
        """Send an acknowledgement, if the session that asked for it is still there when its turn comes."""
        self._answers.keep(ack_id, frames, sid)
        self._answer(frames, sid)

    def _answer(self, frames: tuple[Frame, ...], sid: str | None) -> None:
        self._push_over_limit(_Outgoing(frames, sum(map(len, frames)), sid))

    async def leave(self) -> None:
        """Tell the server that this client leaves, after all that waits was sent."""
        frames = self.codec.encode_disconnect(self.namespace)
        self._push_over_limit(_Outgoing(frames, len(frames[0]), self.sid))
        await self._idle.wait()

    async def write(self, connection: Connection) -> None:
        """Send what waits and what comes, until the connection ends or the task is cancelled."""
        while True:
            outgoing = self._outbox.pop()
            if outgoing is None:
                self._idle.set()
                self._filled.clear()
                await self._filled.wait()
                continue
            self._changed.set()
            if outgoing.sid is not None and outgoing.sid != self.sid:
                logger.debug("an acknowledgement is dropped: session %s is over", outgoing.sid)
                continue
            outgoing.written = True
            if not await connection.send(outgoing.frames):
                outgoing.written = False
                self._outbox.put_back(outgoing, outgoing.size)
                return

    async def _push(self, outgoing: _Outgoing, event: str) -> None:
        while not self._outbox.push(outgoing, outgoing.size):
            if self.sid is None:
                waiting = f"emit {event!r}, with {len(self._outbox)} events waiting to be sent"
                raise NotConnected(None, self.namespace, waiting)
            self._changed.clear()
            await self._changed.wait()
        self._wake_writer()

    def _push_over_limit(self, outgoing: _Outgoing) -> None:
        self._outbox.push_over_limit(outgoing, outgoing.size)
        self._wake_writer()

    def _wake_writer(self) -> None:
        self._idle.clear()
        self._filled.set()
