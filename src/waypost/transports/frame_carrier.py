"""One WebSocket whose frames pass directly between the network and their taker.

No task, no queue and no ASGI message stands between a frame and the Engine.IO session. An idle connection costs only
this one object. Source: RFC 6455, sections 5 to 7.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Protocol

from waypost.errors import LimitExceeded, ProtocolViolation
from waypost.logs import by_client, get_logger
from waypost.protocol.engineio import Frame
from waypost.protocol.websocket import GOING_AWAY, Closing, FrameEncoder, MessageReader, frame_close, frame_pong
from waypost.server.basics.slices import Slices
from waypost.server.basics.traffic import Traffic
from waypost.server.basics.write_turn import WriteTurn
from waypost.server.connections.ends import LateReceiver

__all__ = ["FrameCarrier", "FrameTaker"]

logger = get_logger("waypost.websocket")

_NORMAL, _LOST, _TOO_BIG, _RESTART = 1000, 1006, 1009, 1012
_LARGE_BYTES = 16_384
_PIECE_BYTES = 8_192
"""About 1,200 frames of the smallest size. Most reads from the network return less."""
_MOST_WAITING = 64
"""Larger frames, and more of them, are written at once, so that asyncio can call `pause_writing` in time."""
_MESSAGE_TOO_BIG = 1009
_CLOSE_TIMEOUT_S = 10.0
"""Seconds that a client has to read its last frames and to answer the close frame."""
_LATE_TIMEOUT_S = 60.0
"""Seconds instead of these for a client that has messages of a queue in hand, and may be busy with one."""


class FrameTaker(Protocol):
    """The receiver of a carrier's frames: a connection, or the mailbox of an ASGI application."""

    def receive(self, frame: Frame, /) -> None:
        """Take a frame.

        Raises:
            ProtocolViolation: The frame breaks the protocol. The taker has told the carrier to close.
        """
        ...

    def flush(self) -> None:
        """Note that the carrier accepts frames again."""
        ...

    def lose_transport(self, reason: str, /, *, client_left: bool = False, client_closed: bool = False) -> None:
        """Note that the WebSocket is lost; whether its page was left, or the client has closed it otherwise."""
        ...


class FrameCarrier(asyncio.Protocol):
    """Carries the frames of a WebSocket after its handshake. A `WireOutlet`.

    Args:
        transport: The network transport.
        max_message_bytes: The largest message that is accepted, in bytes.
        carriers: The set of open carriers, which a stopping server closes.

    Attributes:
        is_ready: Whether the carrier accepts frames now.
    """

    __slots__ = (
        "_backlog",
        "_carriers",
        "_close_timer",
        "_encoder",
        "_is_paused",
        "_late",
        "_reader",
        "_slices",
        "_taker",
        "_traffic",
        "_transport",
        "_turn",
        "_waiting",
        "is_ready",
    )

    def __init__(self, transport: asyncio.Transport, max_message_bytes: int, carriers: set[Any]) -> None:
        self.is_ready = True
        self._transport = transport
        self._encoder = FrameEncoder()
        self._turn = WriteTurn()
        self._slices = Slices()
        self._traffic = Traffic()
        self._backlog: bytes | None = None
        self._is_paused = False
        self._waiting: list[bytes] | None = None
        self._reader = MessageReader(max_message_bytes, is_masked=True)
        self._taker: FrameTaker | None = None
        self._late: LateReceiver | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._carriers = carriers
        carriers.add(self)

    @property
    def close_code(self) -> int:
        """The code that ended the WebSocket: the client's, the server's, or 1006 for a lost connection."""
        closing = self._reader.closing
        return _LOST if closing is None else closing.code

    def share(self, encoder: FrameEncoder, turn: WriteTurn, slices: Slices, traffic: Traffic) -> None:
        """Share encoder, turn, slices and counts with the server's other carriers.

        A broadcast is then encoded once, and written to all of them in one iteration of the event loop.

        Args:
            encoder: The shared encoder.
            turn: Collects the carriers that have frames to write.
            slices: The time that the input of all has.
            traffic: Counts the bytes of all.
        """
        self._encoder = encoder
        self._turn = turn
        self._slices = slices
        self._traffic = traffic

    def serve(self, taker: FrameTaker, came: Iterable[Frame] = ()) -> None:
        """Pass all frames to a taker from now on, after those that arrived already.

        Args:
            taker: The receiver of the frames.
            came: The frames that arrived already, in order.
        """
        self._taker = taker
        try:
            for message in came:
                taker.receive(message)
        except ProtocolViolation as problem:
            self._drop(problem)

    # -- asyncio's side -------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take bytes from the network, with all messages in them; many bytes in slices."""
        if self._backlog is not None:
            self._backlog += data
            return
        if len(data) > _PIECE_BYTES:
            self._receive_pieces(data)
            return
        self._traffic.received += len(data)
        reader, taker = self._reader, self._taker or self._late
        try:
            for message in reader.feed(data):
                if taker is not None:
                    taker.receive(message)
        except ProtocolViolation as problem:
            self._late = None
            self._drop(problem)
        if reader.pings or reader.closing is not None:
            self._answer_control()

    def _receive_pieces(self, data: bytes) -> None:
        """Receive while there is time; the network is read no further while something is left."""
        for end in range(_PIECE_BYTES, len(data) + _PIECE_BYTES, _PIECE_BYTES):
            self.data_received(data[end - _PIECE_BYTES : end])
            if end < len(data) and (self._is_paused or not self._slices.has_time()):
                self._backlog = data[end:]
                if not self._transport.is_closing():
                    self._transport.pause_reading()
                if not self._is_paused:
                    self._slices.when_next(self._go_on)
                return

    def _go_on(self) -> None:
        if self._backlog is None or self._is_paused:
            return
        backlog, self._backlog = self._backlog, None
        self._receive_pieces(backlog)
        if self._backlog is None:
            self._read_network()

    def _read_network(self) -> None:
        if not self._is_paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """Note that the client reads more slowly than the server writes."""
        self.is_ready = False

    def resume_writing(self) -> None:
        """Note that the client has caught up."""
        self.is_ready = True
        if self._reader.pings:
            self._answer_control()
        if self._taker is not None:
            self._taker.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the network connection is lost."""
        self._carriers.discard(self)
        self.is_ready = False
        self._backlog = self._late = None
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
        self._lose_taker()

    def shutdown(self) -> None:
        """Close at once, because the server stops; called by uvicorn."""
        if self._reader.closing is None:
            self._reader.closing = Closing(_RESTART)
        self._end(_RESTART)

    # -- the taker's side -----------------------------------------------------------------------------------

    def write(self, frames: tuple[Frame, ...]) -> None:
        """Write frames; see `WireOutlet.write`."""
        data = self._encoder.encode(frames)
        if self._waiting is None:
            self._waiting = [data]
            self._turn.add(self)
        else:
            self._waiting.append(data)
        if len(data) > _LARGE_BYTES or len(self._waiting) > _MOST_WAITING:
            self.write_out()

    def write_out(self) -> None:
        """Write the frames of this turn to the network; see `WriteTurn`."""
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            # The transport may be lost by now. uvloop's write would raise, and the carriers after this one in the
            # turn would not be written.
            if not self._transport.is_closing():
                data = waiting[0] if len(waiting) == 1 else b"".join(waiting)
                self._traffic.sent += len(data)
                self._transport.write(data)

    def pause_reading(self) -> None:
        """Stop reading from the network for a while. A few frames that were read already still reach the taker."""
        self._is_paused = True
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read from the network again, after what was read already."""
        self._is_paused = False
        if self._backlog is None:
            self._read_network()
        else:
            self._slices.when_next(self._go_on)

    def close(self, problem: ProtocolViolation | None = None, late: LateReceiver | None = None) -> None:
        """Close after the written frames; see `WireOutlet.close`."""
        self._late = late
        self.close_with(_TOO_BIG if isinstance(problem, LimitExceeded) else _NORMAL)

    def close_with(self, code: int, reason: str = "") -> None:
        """Close after the written frames.

        Args:
            code: The close code of RFC 6455.
            reason: The reason for the client; a reason that is too long is cut.
        """
        self._taker = None
        if self._close_timer is None and not self._transport.is_closing():
            self._write_close(code, reason)
            self.resume_reading()  # for the client's own close frame

    # -- within ---------------------------------------------------------------------------------------------

    def _drop(self, problem: ProtocolViolation) -> None:
        logger.debug("the rest of what came is dropped: %s", type(problem).__name__)

    def _answer_control(self) -> None:
        reader = self._reader
        if reader.pings and self.is_ready:
            # One pong answers all earlier pings (section 5.5.3), so a client that only pings fills no buffer.
            self.write_out()
            self._transport.write(frame_pong(reader.pings[-1]))
            reader.pings.clear()
        del reader.pings[:-1]
        if reader.closing is not None and not self._transport.is_closing():
            if reader.closing.problem is not None:
                level = logging.WARNING if reader.closing.code == _MESSAGE_TOO_BIG else logging.DEBUG
                logger.log(level, "closing a WebSocket for %s", reader.closing.problem, extra=by_client())
            self._end(reader.closing.code)
            self._lose_taker()

    def _end(self, code: int) -> None:
        self._write_close(code)
        self._transport.close()

    def _write_close(self, code: int, reason: str = "") -> None:
        if self._close_timer is None and not self._transport.is_closing():
            self.write_out()
            self._transport.write(frame_close(code, reason))
            # A client that does not read would delay a graceful close for ever.
            loop = asyncio.get_running_loop()
            timeout_s = _CLOSE_TIMEOUT_S if self._late is None else _LATE_TIMEOUT_S
            self._close_timer = loop.call_later(timeout_s, self._transport.abort)

    def _lose_taker(self) -> None:
        if self._taker is not None:
            taker, self._taker = self._taker, None
            closing, code = self._reader.closing, self.close_code
            is_closed = closing is not None and closing.problem is None and code != GOING_AWAY
            taker.lose_transport("transport close", client_left=code == GOING_AWAY, client_closed=is_closed)
