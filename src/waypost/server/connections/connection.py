"""Drives one Engine.IO session: sets its timer, wakes its transport, and notifies its receiver.

Transports (HTTP, WebSocket) call a `Connection`, and a `Connection` calls its `Receiver`. `protocol.session` makes
all decisions; this file only adds the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from math import inf
from typing import Any

from waypost.errors import ProtocolViolation
from waypost.logs import by_client, fields, get_logger
from waypost.masking import mask_text
from waypost.protocol.engineio import Frame
from waypost.protocol.revision import Payload
from waypost.protocol.session import EngineSession, Event
from waypost.server.basics.handshake import Handshake
from waypost.server.basics.slices import Share, Slices
from waypost.server.basics.traffic import Traffic
from waypost.server.connections.deadlines import Deadlines
from waypost.server.connections.ends import NOBODY, LateReceiver, Receiver, WireOutlet
from waypost.server.connections.room import RoomWaiters
from waypost.server.watching.hooks import ConnectionClosed, Hooks, PacketSent

__all__ = ["Connection"]

logger = get_logger("waypost.engine")


class Connection:
    """One client's Engine.IO connection, on any transport.

    Made by `Engine.open`. Call its methods only from the event loop.

    Attributes:
        client_left: Whether the client has closed it as a browser does when a page is left.
        number: The connection's number, unique in this server. Unlike the sid, it is no secret.
        handshake: The client's request for the connection.
        receiver: The layer above.
        late: Takes what the client sends before it notices the connection's end; ``None`` drops that. The engine
            removes it after a while.
        when_aborted: Called when the connection ends with nothing left to send; set by a transport that may be stuck.
        when_probe_ends: Called when a probing WebSocket is refused or has become the transport.
    """

    __slots__ = (
        "_awaiting_output",
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
        "_room",
        "_session",
        "_slices",
        "_traffic",
        "client_left",
        "handshake",
        "late",
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
        traffic: Traffic,
        forget: Callable[[Connection], None],
    ) -> None:
        self.number = number
        self.client_left = False
        self.handshake = handshake
        self.receiver: Receiver
        self.when_aborted: Callable[[], object] | None = None
        self.when_probe_ends: Callable[[], object] | None = None
        self._session = session
        self._forget = forget
        self._hooks = hooks
        self._outlet: WireOutlet | None = None
        self._problem: ProtocolViolation | None = None
        self.late: LateReceiver | None = None
        self._loop = asyncio.get_running_loop()
        self._opened_at = self._loop.time()
        self._deadlines = deadlines
        self._slices = slices
        self._traffic = traffic
        self._rings_at = inf
        # Tuples, or nothing: they are almost always empty, and there are many connections.
        self._awaiting_output: tuple[asyncio.Future[None], ...] = ()
        self._room: RoomWaiters | None = None
        self._paused_by: tuple[object, ...] = ()
        self._readable: asyncio.Event | None = None

    # -- for those above ------------------------------------------------------------------------------------

    @property
    def sid(self) -> str:
        """The Engine.IO session id; the client's secret."""
        return self._session.sid

    @property
    def transport(self) -> str:
        """The name of the current transport."""
        return self._session.transport

    @property
    def revision(self) -> int:
        """The number of the revision of Engine.IO that the client speaks, 3 or 4."""
        return self._session.revision.number

    @property
    def is_open(self) -> bool:
        """Whether messages still pass in both directions."""
        return self._session.is_open

    @property
    def hears_late(self) -> bool:
        """Whether it is closed, and takes what the client sent before it noticed that."""
        return self.late is not None and not self._session.is_open

    @property
    def closed_by_client(self) -> bool:
        """Whether the client has closed it, and not the network, the server, or the end of a page."""
        return self._session.closed_by_client

    @property
    def stalled_since(self) -> float:
        """The time since which frames wait and none was taken; infinity if none waits."""
        return self._session.stalled_since

    @property
    def writable(self) -> bool:
        """Whether a message sent now leaves at once."""
        return self._session.writable

    def send_secret(self, frames: tuple[Frame, ...]) -> None:
        """Send a message that holds a secret of the client: a poll's response with it is not compressed."""
        self._session.keep_secret()
        self.send(frames)

    def send(self, frames: tuple[Frame, ...], *, compress: bool = True) -> None:
        """Send a message's frames after all earlier messages.

        Args:
            frames: The text frame and the attachments, or no frames.
            compress: Whether the transport may compress the message.

        Delivery: at most once, in order.
        """
        session = self._session
        if self._hooks.packet_sent.observers and frames and session.is_open:
            self._hooks.packet_sent.tell(PacketSent(self.number, frames))
        outlet = self._outlet
        if outlet is not None and outlet.is_ready and session.is_direct:
            # A broadcast passes the identical tuple to all connections, and the outlet's encoder caches it.
            outlet.write(frames if session.is_plain else session.encode(frames))
            return
        session.send(frames, self._loop.time(), compress=compress)
        self._after()

    def probe(self) -> None:
        """Ask the client for a sign that all messages so far have arrived."""
        self._session.probe(self._loop.time())
        self._after()

    def close(self, reason: str) -> None:
        """Close gracefully, after all frames are sent."""
        self._session.close(reason, self._loop.time())
        self._after()

    def dismiss(self) -> None:
        """Disconnect the client from all its namespaces, so that it does not reconnect by itself, and close."""
        self.receiver.disconnect_all()
        self.close("forced server close")

    def abort(self, reason: str) -> None:
        """Close at once; frames that wait are dropped."""
        self._session.abort(reason)
        self._after()

    @property
    def buffered_bytes(self) -> int:
        """The number of bytes that wait to be sent."""
        return self._session.buffered_bytes

    async def wait_for_room(self, below_bytes: int) -> bool:
        """Wait until fewer bytes than this wait to be sent. May be cancelled.

        Returns:
            Whether the connection is still open.
        """
        while self._session.is_open and self._session.buffered_bytes >= below_bytes:
            self._room = self._room or RoomWaiters()
            await self._room.next_change(below_bytes)
        return self._session.is_open

    def pause_reading(self, by: object) -> None:
        """Stop reading until the same caller resumes it. Input that was read already is still handled.

        Args:
            by: The caller; several may pause at the same time.
        """
        if not self._paused_by and self._outlet is not None:
            self._outlet.pause_reading()
        if by not in self._paused_by:
            self._paused_by += (by,)

    def resume_reading(self, by: object) -> None:
        """End a caller's pause; reading starts again when no pause is left."""
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
        """Write to a WebSocket from now on, starting with the waiting frames; it is closed with the connection."""
        self._outlet = outlet
        if self._paused_by:
            outlet.pause_reading()
        self._after()

    def flush(self) -> None:
        """Write the waiting frames, because the outlet accepts frames again."""
        self._after()

    @property
    def is_readable(self) -> bool:
        """Whether reading is not paused."""
        return not self._paused_by

    async def wait_until_readable(self) -> None:
        """Wait while reading is paused. May be cancelled."""
        while self._paused_by and self._session.is_open:
            if self._readable is None:
                self._readable = asyncio.Event()
            await self._readable.wait()

    def receive(self, frame: Frame) -> None:
        """Take a frame of the session's own WebSocket.

        Raises:
            ProtocolViolation: The frame breaks the protocol. Only this connection is closed, and the log has a
                warning.
        """
        session = self._session
        try:
            if not session.is_plain:
                frame = session.decode_frame(frame)
            message = session.receive(frame, self._loop.time())
            if message is not None:
                # A message needs no `_after`: the receiver's reactions are calls of their own.
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
        logger.warning(
            "closing %s: %s", self._label(), mask_text(str(problem)), extra=by_client(fields(connection=self.number))
        )
        self._problem = problem
        # If the session refused the input, it is closed already, and this abort has no effect.
        self._session.abort("forced close")

    def begin_post(self) -> bool:
        """Note that a POST begins; returns whether it is accepted, perhaps only for what comes late."""
        is_late = self.hears_late
        accepted = self._session.begin_post()
        self._after()
        return accepted or is_late

    def end_post(self) -> None:
        """Note that the POST ended, with or without success."""
        self._session.end_post()

    def receive_post(self, body: bytes, *, is_form: bool = False) -> Coroutine[Any, Any, bool] | None:
        """Take the body of a POST.

        Args:
            body: The whole body.
            is_form: Whether the body is a JSONP form.

        Returns:
            ``None`` if all frames are taken. Otherwise a coroutine that takes the rest in later iterations of the
            event loop, while reading is not paused. It returns False if the connection ends before, and raises as
            this method does. It may be cancelled.

        Raises:
            ProtocolViolation: The body breaks the protocol. Only this connection is closed, and the log has a
                warning.
        """
        self._traffic.received += len(body)
        frames = self._session.decode_post(body, is_form=is_form)
        if self.late is not None and not self._session.is_open:
            for frame in frames:
                self.late.receive(frame)
            return None
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
        """Take frames while the slice lasts; returns whether none is left."""
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
        """The time slices that the input of all connections shares."""
        return self._slices

    def open_poll(self) -> bool:
        """Note that a poll begins; returns whether it is accepted."""
        opened = self._session.open_poll()
        if not opened:
            self._after()
        return opened

    def take_payload(self, *, text_only: bool = False) -> Payload | None:
        """Take the response to the open poll.

        Args:
            text_only: Whether the response can't carry bytes.

        Returns:
            The response's body; ``None`` while no frame waits, or once the connection is lost.
        """
        payload = self._session.take_payload(self._loop.time(), text_only=text_only)
        if payload is not None:
            self._traffic.sent += len(payload.body)
            self._after()
        return payload

    async def next_frame(self) -> Frame | None:
        """Await the next frame for the WebSocket. May be cancelled.

        Returns:
            The frame; ``None`` if the WebSocket must be closed.
        """
        while True:
            frame = self._session.take_frame(self._loop.time())
            if frame is not None:
                if self._room is not None:
                    self._announce_room(self._room)
                return frame
            if not self._session.is_open:
                self._after()
                return None
            await self.wait_for_output()

    def lose_transport(self, reason: str, *, client_left: bool = False, client_closed: bool = False) -> None:
        """Note that the session's transport is lost.

        Args:
            reason: The close reason, if the session was open.
            client_left: Whether the client has closed it as a browser does when a page is left.
            client_closed: Whether the client has closed it for another reason.
        """
        self._outlet = None
        self.client_left = self.client_left or (client_left and self.is_open)
        self._session.lose_transport(reason, by_client=client_closed)
        self._after()

    def open_probe(self) -> bool:
        """Note that a WebSocket asks to become the transport; returns whether the probe is accepted."""
        accepted = self._session.open_probe(self._loop.time())
        self._after()
        return accepted

    def receive_probe(self, frame: Frame) -> Frame | None:
        """Take a frame of the probing WebSocket.

        Returns:
            The answer; ``None`` once the WebSocket is the transport.

        Raises:
            MalformedPacket: The frame is not allowed here. Close that WebSocket; the session continues to poll.
        """
        answer = self._session.receive_probe(frame)
        self._after()
        return answer

    def end_probe(self) -> None:
        """Note that the probing WebSocket is lost."""
        self._session.end_probe()
        self._after()

    @property
    def probing(self) -> bool:
        """Whether the session still accepts frames of a probing WebSocket."""
        return self._session.is_probing

    @property
    def probe_deadline(self) -> float:
        """The time at which a probe ends without success, on the event loop's clock; infinity without a probe."""
        return self._session.probe_deadline

    def next_output(self) -> asyncio.Future[None]:
        """Return a future that is done at the next change, when there may be frames to send."""
        future = self._loop.create_future()
        self._awaiting_output += (future,)
        return future

    async def wait_for_output(self) -> None:
        """Wait for the next change, when there may be frames to send. May be cancelled."""
        await self.next_output()

    # -- after each step ------------------------------------------------------------------------------------

    def _after(self) -> None:
        """Handle the consequences of a step of the session: notify the receiver, wake transports, set the timer."""
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
        if self._room is not None:
            self._announce_room(self._room)
        if self.when_probe_ends is not None and not session.is_probing:
            ended, self.when_probe_ends = self.when_probe_ends, None
            ended()
        deadline = session.deadline
        if deadline == inf:
            self._finish()
        elif deadline < self._rings_at:
            # A later deadline leaves the timer unchanged: the next tick sets it.
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
            outlet.close(self._problem, self.late)
        # Nothing refers back from here, so that all of it is freed at once; the garbage collector comes seldom.
        self.receiver = NOBODY
        self._problem = None
        self._paused_by = ()

    def tick(self) -> None:
        """Do the work that is due; called by `Deadlines`."""
        self._rings_at = inf
        self._session.tick(self._loop.time())
        self._after()

    def catch_up(self) -> None:
        """Do the work that is due, even if its tick is late; called for each request."""
        # It rings at the deadline or before, for deadlines move on.
        if self._rings_at <= self._loop.time():
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
            elif event is Event.PROBE_SENT:
                self.receiver.probe_sent()
            elif event is Event.PROBE_ANSWERED:
                self.receiver.probe_answered()
            elif event is Event.PING_RECEIVED:
                self.receiver.heartbeat_came()
            else:
                reason = session.close_reason or "transport close"
                if session.overrun is not None:
                    logger.info(
                        "closed %s, a slow client: %s",
                        self._label(),
                        session.overrun,
                        extra=by_client(fields(connection=self.number)),
                    )
                logger.debug("closed %s: %s", self._label(), reason, extra=fields(connection=self.number))
                self._wake_readers()
                if self._hooks.connection_closed.observers:
                    duration_s = self._loop.time() - self._opened_at
                    closed = ConnectionClosed(self.number, session.transport, reason, duration_s)
                    self._hooks.connection_closed.tell(closed)
                self.receiver.connection_closed(reason)

    def _announce_room(self, room: RoomWaiters) -> None:
        room.announce(self._session.buffered_bytes if self._session.is_open else -1)
        if not room:
            self._room = None

    def _label(self) -> str:
        # The sid is a secret. Its first characters are enough to find a client in the log.
        return f"{self._session.transport} connection {self._session.sid[:6]}… from {self.handshake.address or '?'}"
