"""Drives one Engine.IO session: its timer, the waiting of transports for output, and what is told above.

Transports (HTTP, WebSocket) call a `Connection`; what is above gets told through a `Receiver`. All
decisions are `protocol.session`'s; this file only adds the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from math import inf
from typing import Any, Protocol

from waypost.errors import ProtocolViolation
from waypost.protocol.engineio import Frame
from waypost.protocol.revision import Payload
from waypost.protocol.session import EngineSession, Event
from waypost.server.basics.handshake import Handshake
from waypost.server.basics.slices import Share, Slices
from waypost.server.connections.deadlines import Deadlines
from waypost.server.watching.hooks import ConnectionClosed, Hooks, PacketSent
from waypost.server.watching.masking import mask_text

__all__ = ["Connection", "Receiver", "WireOutlet"]

logger = logging.getLogger("waypost.engine")


class Receiver(Protocol):
    """What a connection tells those above it."""

    def receive_message(self, message: Frame) -> None:
        """Take a message; raises `ProtocolViolation` to have the connection closed."""
        ...

    def receive_control(self) -> None:
        """Count a packet that is no message: a heartbeat or a noop; raises `ProtocolViolation` for too many."""
        ...

    def heartbeat_sent(self) -> None:
        """Note that a ping was queued behind all that was sent so far."""
        ...

    def heartbeat_answered(self) -> None:
        """Note that all that was sent before the last ping has arrived."""
        ...

    def heartbeat_came(self) -> None:
        """Note that the client gave a sign of life of its own, as those of Engine.IO 3 do."""
        ...

    def disconnect_all(self) -> None:
        """Say goodbye to the client in every namespace."""
        ...

    def connection_closed(self, reason: str) -> None:
        """Note that nothing goes either way any more. Called once."""
        ...


class WireOutlet(Protocol):
    """A WebSocket that takes frames as they come, without being asked for them.

    Attributes:
        is_ready: Whether it takes any now; when it does again, it calls `Connection.flush`.
    """

    is_ready: bool

    def write(self, frames: tuple[Frame, ...]) -> None:
        """Write frames; the same tuple for many connections is encoded once."""
        ...

    def pause_reading(self) -> None:
        """Take no more input for a while."""
        ...

    def resume_reading(self) -> None:
        """Take input again."""
        ...

    def close(self, problem: ProtocolViolation | None) -> None:
        """Close it behind what is written; with a problem, if the client has broken the protocol."""
        ...


class Connection:
    """One client's Engine.IO connection, whatever it is carried by.

    Made by `Engine.open`. Methods are called from the event loop only.

    Attributes:
        number: Its number, which no other connection of this server has; unlike its sid no secret.
        handshake: What the client said of itself when it came.
        receiver: Who is told of it.
        when_aborted: Called when it ends without anything left to flush; set by a transport that may be stuck.
        when_probe_ends: Called when a WebSocket that wants to take over is not wanted any more, or has taken over.
    """

    __slots__ = (
        "_awaiting_output",
        "_awaiting_room",
        "_deadlines",
        "_forget",
        "_hooks",
        "_loop",
        "_opened_at",
        "_outlet",
        "_paused_by",
        "_problem",
        "_readable",
        "_rings_at",
        "_session",
        "_slices",
        "handshake",
        "number",
        "receiver",
        "when_aborted",
        "when_probe_ends",
    )

    def __init__(
        self,
        session: EngineSession,
        handshake: Handshake,
        number: int,
        hooks: Hooks,
        deadlines: Deadlines,
        slices: Slices,
        forget: Callable[[Connection], None],
    ) -> None:
        self.number = number
        self.handshake = handshake
        self.receiver: Receiver
        self.when_aborted: Callable[[], object] | None = None
        self.when_probe_ends: Callable[[], object] | None = None
        self._session = session
        self._forget = forget
        self._hooks = hooks
        self._outlet: WireOutlet | None = None
        self._problem: ProtocolViolation | None = None
        self._loop = asyncio.get_running_loop()
        self._opened_at = self._loop.time()
        self._deadlines = deadlines
        self._slices = slices
        self._rings_at = inf
        # Tuples, since almost always they are empty, and there are very many connections.
        self._awaiting_output: tuple[asyncio.Future[None], ...] = ()
        self._awaiting_room: tuple[tuple[int, asyncio.Future[None]], ...] = ()
        self._paused_by: tuple[object, ...] = ()
        self._readable: asyncio.Event | None = None

    # -- for those above ------------------------------------------------------------------------------------

    @property
    def sid(self) -> str:
        """The Engine.IO session id; a secret of this client."""
        return self._session.sid

    @property
    def transport(self) -> str:
        """The name of the transport in use."""
        return self._session.transport

    @property
    def revision(self) -> int:
        """The number of the revision of Engine.IO that the client speaks, 3 or 4."""
        return self._session.revision.number

    @property
    def is_open(self) -> bool:
        """Whether messages still go both ways."""
        return self._session.is_open

    @property
    def writable(self) -> bool:
        """Whether a message sent now leaves at once."""
        return self._session.writable

    def send(self, frames: tuple[Frame, ...], *, compress: bool = True) -> None:
        """Send a message's frames, in order, after all that was sent before. Delivery: at most once."""
        session = self._session
        if self._hooks.packet_sent.observers and frames and session.is_open:
            self._hooks.packet_sent.tell(PacketSent(self.number, frames))
        outlet = self._outlet
        if outlet is not None and outlet.is_ready and session.is_direct:
            # What goes to many is one tuple, which an outlet knows again.
            outlet.write(frames if session.is_plain else session.encode(frames))
            return
        session.send(frames, self._loop.time(), compress=compress)
        self._after()

    def close(self, reason: str) -> None:
        """Close in an orderly way, after what was sent."""
        self._session.close(reason, self._loop.time())
        self._after()

    def dismiss(self) -> None:
        """Disconnect the client from all its namespaces, so that it does not come back by itself, and close."""
        self.receiver.disconnect_all()
        self.close("forced server close")

    def abort(self, reason: str) -> None:
        """End at once."""
        self._session.abort(reason)
        self._after()

    @property
    def buffered_bytes(self) -> int:
        """How much waits to be sent."""
        return self._session.buffered_bytes

    async def wait_for_room(self, below_bytes: int) -> bool:
        """Wait until less than this waits to be sent; returns whether the connection is still open.

        May be cancelled.
        """
        while self._session.is_open and self._session.buffered_bytes >= below_bytes:
            future = self._loop.create_future()
            self._awaiting_room += ((below_bytes, future),)
            await future
        return self._session.is_open

    def pause_reading(self, by: object) -> None:
        """Take no more input until whoever asked for it calls `resume_reading`; what is read already still comes."""
        if not self._paused_by and self._outlet is not None:
            self._outlet.pause_reading()
        if by not in self._paused_by:
            self._paused_by += (by,)

    def resume_reading(self, by: object) -> None:
        """Take input again, unless somebody else wants none yet."""
        self._paused_by = tuple(one for one in self._paused_by if one is not by)
        if not self._paused_by:
            self._wake_readers()

    def _wake_readers(self) -> None:
        if self._outlet is not None:
            self._outlet.resume_reading()
        if self._readable is not None:
            self._readable.set()
            self._readable = None

    # -- for transports -------------------------------------------------------------------------------------

    def attach(self, outlet: WireOutlet) -> None:
        """Write to a WebSocket from now on, beginning with what waits; it is told to close when that is due."""
        self._outlet = outlet
        if self._paused_by:
            outlet.pause_reading()
        self._after()

    def flush(self) -> None:
        """Write what waits, now that the outlet is ready again."""
        self._after()

    @property
    def is_readable(self) -> bool:
        """Whether nobody has asked to pause reading."""
        return not self._paused_by

    async def wait_until_readable(self) -> None:
        """Wait while reading is paused."""
        while self._paused_by and self._session.is_open:
            if self._readable is None:
                self._readable = asyncio.Event()
            await self._readable.wait()

    def receive(self, frame: Frame) -> None:
        """Take a frame from the session's own WebSocket.

        Raises:
            ProtocolViolation: It broke the protocol. Only this connection is closed, and that it was is logged.
        """
        session = self._session
        try:
            if not session.is_plain:
                frame = session.decode_frame(frame)
            message = session.receive(frame, self._loop.time())
            if message is not None:
                # A message leaves nothing to do: what those above make of it comes back as calls of their own.
                self.receiver.receive_message(message)
                return
            if session.is_open:
                self.receiver.receive_control()
        except ProtocolViolation as problem:
            self._refuse_input(problem)
            self._after()
            raise
        self._after()

    def _refuse_input(self, problem: ProtocolViolation) -> None:
        logger.warning("closing %s: %s", self._label(), mask_text(str(problem)))
        self._problem = problem
        # Those above see a forced close for what they refused; what the session refused it closed itself.
        self._session.abort("forced close")

    def begin_post(self) -> bool:
        """Note that a POST begins; ``False`` means that it is to be refused."""
        accepted = self._session.begin_post()
        self._after()
        return accepted

    def end_post(self) -> None:
        """Note that the POST ended, whatever became of it."""
        self._session.end_post()

    def receive_post(self, body: bytes, *, is_form: bool = False) -> Coroutine[Any, Any, bool] | None:
        """Take the body of a POST.

        Args:
            body: The whole body.
            is_form: Whether the body is a JSONP form.

        Returns:
            ``None`` if all of it is taken. Otherwise a coroutine that takes the rest, between the turns of others and
            while reading is not paused. It returns False if the connection ended before that, and raises as this
            does. It may be cancelled.

        Raises:
            ProtocolViolation: It broke the protocol. Only this connection is closed, and that it was is logged.
        """
        frames = self._session.decode_post(body, is_form=is_form)
        share = Share(self._slices)
        return None if self._receive_some(frames, share) else self._receive_rest(frames, share)

    async def _receive_rest(self, frames: Iterator[Frame], share: Share) -> bool:
        while True:
            await self._slices.next()
            await self.wait_until_readable()
            if not self._session.is_open:
                return False
            if self._receive_some(frames, share):
                return True

    def _receive_some(self, frames: Iterator[Frame], share: Share) -> bool:
        """Take frames while there is time; returns whether none is left."""
        session, now = self._session, self._loop.time()
        try:
            for frame in frames:
                message = session.receive(frame, now)
                if message is not None:
                    self.receiver.receive_message(message)
                elif session.is_open:
                    self.receiver.receive_control()
                else:
                    return True
                if not share.take(len(frame)):
                    return False
        except ProtocolViolation as problem:
            self._refuse_input(problem)
            raise
        finally:
            self._after()
        return True

    @property
    def slices(self) -> Slices:
        """The time that this connection's input shares with that of all others."""
        return self._slices

    def open_poll(self) -> bool:
        """Note that a poll begins; ``False`` means that it is to be refused."""
        opened = self._session.open_poll()
        if not opened:
            self._after()
        return opened

    def take_payload(self, *, text_only: bool = False) -> Payload | None:
        """Take what answers the open poll; ``None`` while there is nothing, or once the connection is lost.

        With ``text_only`` the payload holds no bytes, for an answer that can't carry any.
        """
        payload = self._session.take_payload(self._loop.time(), text_only=text_only)
        if payload is not None:
            self._after()
        return payload

    async def next_frame(self) -> Frame | None:
        """Wait for the next frame for the WebSocket; ``None`` means that it is to be closed. May be cancelled."""
        while True:
            frame = self._session.take_frame(self._loop.time())
            if frame is not None:
                if self._awaiting_room:
                    self._announce_room()
                return frame
            if not self._session.is_open:
                self._after()
                return None
            await self.wait_for_output()

    def lose_transport(self, reason: str) -> None:
        """Note that what carried the session is gone."""
        self._outlet = None
        self._session.lose_transport(reason)
        self._after()

    def open_probe(self) -> bool:
        """Note that a WebSocket wants to take over; ``False`` means that it is to be refused."""
        accepted = self._session.open_probe(self._loop.time())
        self._after()
        return accepted

    def receive_probe(self, frame: Frame) -> Frame | None:
        """Take a frame from the probing WebSocket; returns the answer, ``None`` once it has taken over.

        Raises:
            MalformedPacket: That WebSocket is to be closed; the session goes on polling.
        """
        answer = self._session.receive_probe(frame)
        self._after()
        return answer

    def end_probe(self) -> None:
        """Note that the probing WebSocket is gone."""
        self._session.end_probe()
        self._after()

    @property
    def probing(self) -> bool:
        """Whether a probing WebSocket is still wanted."""
        return self._session.is_probing

    @property
    def probe_deadline(self) -> float:
        """When a probe is given up, on the event loop's clock; infinity without one."""
        return self._session.probe_deadline

    def next_output(self) -> asyncio.Future[None]:
        """Give a future that is done when something has changed, so that there may be something to send."""
        future = self._loop.create_future()
        self._awaiting_output += (future,)
        return future

    async def wait_for_output(self) -> None:
        """Wait until something has changed, so that there may be something to send. May be cancelled."""
        await self.next_output()

    # -- after each step ------------------------------------------------------------------------------------

    def _after(self) -> None:
        """Do what a step of the session left to do: pass events up, wake transports, set the timer."""
        session = self._session
        if self._outlet is not None and session.wants_transport:
            self._write_out(self._outlet)
        if session.events:
            self._pass_events_up()
        if self._awaiting_output:
            waiting, self._awaiting_output = self._awaiting_output, ()
            for future in waiting:
                if not future.done():
                    future.set_result(None)
        if self._awaiting_room:
            self._announce_room()
        if self.when_probe_ends is not None and not session.is_probing:
            ended, self.when_probe_ends = self.when_probe_ends, None
            ended()
        deadline = session.deadline
        if deadline == inf:
            self._finish()
        elif deadline < self._rings_at:
            # A deadline that moves on is left as it is: the tick will set the next one.
            self._rings_at = self._deadlines.move(self, self._rings_at, deadline)

    def _write_out(self, outlet: WireOutlet) -> None:
        now = self._loop.time()
        while outlet.is_ready and (frame := self._session.take_frame(now)) is not None:
            outlet.write((frame,))

    def _finish(self) -> None:
        self._forget(self)
        self._rings_at = self._deadlines.move(self, self._rings_at, inf)
        if self.when_aborted is not None:
            aborted, self.when_aborted = self.when_aborted, None
            aborted()
        if self._outlet is not None:
            outlet, self._outlet = self._outlet, None
            outlet.close(self._problem)

    def tick(self) -> None:
        """Do what is due at this time; `Deadlines` calls it."""
        self._rings_at = inf
        self._session.tick(self._loop.time())
        self._after()

    def catch_up(self) -> None:
        """Do what is due by now, also if its tick is late: a request asks."""
        if self._session.deadline <= self._loop.time():
            self._rings_at = self._deadlines.move(self, self._rings_at, inf)
            self.tick()

    def _pass_events_up(self) -> None:
        session = self._session
        events, session.events = session.events, []
        for event in events:
            if event is Event.PING_SENT:
                self.receiver.heartbeat_sent()
            elif event is Event.PONG_RECEIVED:
                self.receiver.heartbeat_answered()
            elif event is Event.PING_RECEIVED:
                self.receiver.heartbeat_came()
            else:
                reason = session.close_reason or "transport close"
                logger.debug("closed %s: %s", self._label(), reason)
                self._wake_readers()
                if self._hooks.connection_closed.observers:
                    duration_s = self._loop.time() - self._opened_at
                    closed = ConnectionClosed(self.number, session.transport, reason, duration_s)
                    self._hooks.connection_closed.tell(closed)
                self.receiver.connection_closed(reason)

    def _announce_room(self) -> None:
        buffered = self._session.buffered_bytes if self._session.is_open else -1
        still = []
        for below_bytes, future in self._awaiting_room:
            if buffered >= below_bytes:
                still.append((below_bytes, future))
            elif not future.done():
                future.set_result(None)
        self._awaiting_room = tuple(still)

    def _label(self) -> str:
        # The sid is a secret: its beginning is enough to follow a client through the log.
        return f"{self._session.transport} connection {self._session.sid[:6]}… from {self.handshake.address or '?'}"
