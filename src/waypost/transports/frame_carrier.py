"""One WebSocket whose frames go straight to whoever takes them, and from there straight to the network.

Between a frame and the Engine.IO session stand no task, no queue and no ASGI message; an idle connection costs this
one object. Source: RFC 6455, sections 5 to 7.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Protocol

from waypost.errors import LimitExceeded, ProtocolViolation
from waypost.protocol.engineio import Frame
from waypost.protocol.websocket import Closing, FrameEncoder, MessageReader, frame_close, frame_pong
from waypost.server.basics.turn import Turn

__all__ = ["FrameCarrier", "FrameTaker"]

logger = logging.getLogger("waypost.websocket")

_NORMAL, _LOST, _TOO_BIG, _RESTART = 1000, 1006, 1009, 1012
_LARGE_BYTES = 16_384
_MOST_WAITING = 64
"""What is larger, or more, goes out at once: the network says by it when it takes no more."""
_CLOSE_TIMEOUT_S = 10.0
"""How long a client may take to read what is left for it, and to answer that the WebSocket closes."""


class FrameTaker(Protocol):
    """What a carrier brings frames to: a connection, or an ASGI application that has not handed its frames over."""

    def receive(self, frame: Frame, /) -> None:
        """Take a frame; raises `ProtocolViolation` when it has told the carrier to close."""
        ...

    def flush(self) -> None:
        """Note that the carrier is ready again."""
        ...

    def lose_transport(self, reason: str, /) -> None:
        """Note that the WebSocket is gone."""
        ...


class FrameCarrier(asyncio.Protocol):
    """Carries the frames of a WebSocket whose handshake is done. An `Outlet`.

    Args:
        transport: The network.
        max_message_bytes: The largest message that is taken.
        carriers: Where it stands while it is open, for the server that stops.

    Attributes:
        is_ready: Whether it takes frames now.
    """

    __slots__ = (
        "_carriers",
        "_close_timer",
        "_encoder",
        "_reader",
        "_taker",
        "_transport",
        "_turn",
        "_waiting",
        "is_ready",
    )

    def __init__(self, transport: asyncio.Transport, max_message_bytes: int, carriers: set[Any]) -> None:
        self.is_ready = True
        self._transport = transport
        self._encoder = FrameEncoder()
        self._turn = Turn()
        self._waiting: list[bytes] | None = None
        self._reader = MessageReader(max_message_bytes, is_masked=True)
        self._taker: FrameTaker | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._carriers = carriers
        carriers.add(self)

    @property
    def close_code(self) -> int:
        """The code that ended it: the client's, that of what it broke, or the server's stop; 1006 for none."""
        closing = self._reader.closing
        return _LOST if closing is None else closing.code

    def share(self, encoder: FrameEncoder, turn: Turn) -> None:
        """Write as all carriers of a server do: what goes to many is encoded once, and goes out in the same turn."""
        self._encoder = encoder
        self._turn = turn

    def serve(self, taker: FrameTaker, came: Iterable[Frame] = ()) -> None:
        """Bring all that comes from now on to somebody, after what came already."""
        self._taker = taker
        try:
            for message in came:
                taker.receive(message)
        except ProtocolViolation as problem:
            self._drop(problem)

    # -- asyncio's side -------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take what came, all messages of it at once."""
        reader, taker = self._reader, self._taker
        try:
            for message in reader.feed(data):
                if taker is not None:
                    taker.receive(message)
        except ProtocolViolation as problem:
            self._drop(problem)
        if reader.pings or reader.closing is not None:
            self._answer_control()

    def pause_writing(self) -> None:
        """Note that the client takes less than is written."""
        self.is_ready = False

    def resume_writing(self) -> None:
        """Note that it has caught up."""
        self.is_ready = True
        if self._reader.pings:
            self._answer_control()
        if self._taker is not None:
            self._taker.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the network connection is gone."""
        self._carriers.discard(self)
        self.is_ready = False
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
        self._lose_taker()

    def shutdown(self) -> None:
        """Close at once, because the server stops; uvicorn calls it."""
        if self._reader.closing is None:
            self._reader.closing = Closing(_RESTART)
        self._end(_RESTART)

    # -- the taker's side -----------------------------------------------------------------------------------

    def write(self, frames: tuple[Frame, ...]) -> None:
        """Write frames; see `Outlet.write`."""
        data = self._encoder.encode(frames)
        if self._waiting is None:
            self._waiting = [data]
            self._turn.add(self)
        else:
            self._waiting.append(data)
        if len(data) > _LARGE_BYTES or len(self._waiting) > _MOST_WAITING:
            self.write_out()

    def write_out(self) -> None:
        """Write to the network what was written in this turn; see `Turn`."""
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            # It may have been lost since; uvloop raises then, and would take their turn from all who come next.
            if not self._transport.is_closing():
                self._transport.write(waiting[0] if len(waiting) == 1 else b"".join(waiting))

    def pause_reading(self) -> None:
        """Take no more input for a while; what has been read already still comes."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take input again."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self, problem: ProtocolViolation | None = None) -> None:
        """Close behind what is written; see `Outlet.close`."""
        self.close_with(_TOO_BIG if isinstance(problem, LimitExceeded) else _NORMAL)

    def close_with(self, code: int, reason: str = "") -> None:
        """Close behind what is written, with a code of RFC 6455 and a reason for the client."""
        self._taker = None
        if self._close_timer is None and not self._transport.is_closing():
            self._write_close(code, reason)
            self._transport.resume_reading()  # for the client's own close frame

    # -- within ---------------------------------------------------------------------------------------------

    def _drop(self, problem: ProtocolViolation) -> None:
        logger.debug("the rest of what came is dropped: %s", type(problem).__name__)

    def _answer_control(self) -> None:
        reader = self._reader
        if reader.pings and self.is_ready:
            # The last one answers for all before it (section 5.5.3); a client that only pings fills no buffer.
            self.write_out()
            self._transport.write(frame_pong(reader.pings[-1]))
            reader.pings.clear()
        del reader.pings[:-1]
        if reader.closing is not None and not self._transport.is_closing():
            if reader.closing.problem is not None:
                logger.debug("closing a WebSocket for %s", reader.closing.problem)
            self._end(reader.closing.code)
            self._lose_taker()

    def _end(self, code: int) -> None:
        self._write_close(code)
        self._transport.close()

    def _write_close(self, code: int, reason: str = "") -> None:
        if self._close_timer is None and not self._transport.is_closing():
            self.write_out()
            self._transport.write(frame_close(code, reason))
            # A client that takes nothing would hold a graceful close for ever.
            loop = asyncio.get_running_loop()
            self._close_timer = loop.call_later(_CLOSE_TIMEOUT_S, self._transport.abort)

    def _lose_taker(self) -> None:
        if self._taker is not None:
            taker, self._taker = self._taker, None
            taker.lose_transport("transport close")
