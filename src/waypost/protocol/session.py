"""The server's side of an Engine.IO session as a state machine: frames and the time go in, frames come out.

The session does no I/O and has no clock. Its driver passes ``now`` (seconds on any monotonic clock), hands over what
arrived, takes the frames to send, and calls `EngineSession.tick` at `EngineSession.deadline`.

`session_states` has the states and the transitions between them.

`Revision` holds the differences between the revisions of Engine.IO. Frames on a WebSocket have that revision's form.

Source: Engine.IO protocol, revision 4 ("Upgrade", "Heartbeat", "Transports").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from enum import Enum
from math import inf

from waypost.errors import LimitExceeded, MalformedPacket
from waypost.protocol.engineio import Frame, open_frame
from waypost.protocol.jsonp import unwrap_form
from waypost.protocol.revision import Payload, Revision, Revision4
from waypost.protocol.session_settings import SessionSettings
from waypost.protocol.session_states import TRANSITIONS, State, Step

__all__ = ["EngineSession", "Event"]

_CLOSE = "1"
_PING = "2"
_PONG = "3"
_NOOP = "6"
_PROBE_PING = "2probe"
_PROBE_PONG = "3probe"
_UPGRADE = "5"

_LATEST = Revision4()

_CLOSE_TIMEOUT_S = 30.0
"""Seconds that a polling client has to fetch its last frames. Node's server waits as long."""

_WIDEST_CHARACTER_BYTES = 4


class Event(Enum):
    """An event in a session that its driver must know; the driver takes it from `EngineSession.events`."""

    PING_SENT = "ping sent"
    PONG_RECEIVED = "pong received"
    PROBE_SENT = "probe sent"
    PROBE_ANSWERED = "probe answered"
    PING_RECEIVED = "ping received"
    CLOSED = "closed"


# Python 3.11 resolves a member of an Enum through a property in Python code; each frame needs these members.
_WEBSOCKET = State.WEBSOCKET
_CLOSING = State.CLOSING

_OPEN_STATES = frozenset({State.POLLING, State.PROBING, State.PROBED, State.WEBSOCKET})
_CLOSING_STATES = frozenset({State.CLOSING, State.CLOSING_PROBED})
_PROBE_STATES = frozenset({State.PROBING, State.PROBED, State.CLOSING_PROBED})


class EngineSession:
    """One client's Engine.IO session.

    A method that takes input may append to ``events`` and queue frames; look at both after each call. Input that
    breaks the protocol closes the session and raises a `ProtocolViolation`.

    Args:
        sid: The session's id, a secret.
        transport: The transport that the session opens on: ``"polling"`` or ``"websocket"``.
        settings: The settings that all sessions of a server share.
        now: The time, in seconds on the driver's clock.
        revision: The revision of Engine.IO that the client speaks.

    Attributes:
        closed_by_client: Whether the client has closed the session, and not because its page ends.
        stalled_since: The time since which frames wait and none was taken; infinity if none waits.
        is_plain: Whether frames have the same form here and on a WebSocket; if not, use `encode` and `decode_frame`.
    """

    __slots__ = (
        "_buffer",
        "_close_deadline",
        "_declines_compression",
        "_has_secret",
        "_heartbeat",
        "_poll_open",
        "_post_open",
        "_settings",
        "_upgrade_deadline",
        "buffered_bytes",
        "close_reason",
        "closed_by_client",
        "events",
        "is_plain",
        "overrun",
        "revision",
        "sid",
        "stalled_since",
        "state",
        "transport",
    )

    def __init__(
        self, sid: str, transport: str, settings: SessionSettings, now: float, revision: Revision = _LATEST
    ) -> None:
        self.sid = sid
        self.revision = revision
        self.is_plain = revision.number == _LATEST.number
        self.transport = transport
        self.state = State.WEBSOCKET if transport == "websocket" else State.POLLING
        self.events: list[Event] = []
        self.close_reason: str | None = None
        self.overrun: LimitExceeded | None = None
        self.buffered_bytes = 0
        self._settings = settings
        # Made at the first frame that has to wait: most WebSockets accept every frame at once.
        self._buffer: deque[Frame] | None = None
        self._declines_compression = False
        self._has_secret = True  # the open packet has the session's id
        self._poll_open = False
        self._post_open = False
        self.closed_by_client = False
        self._heartbeat = revision.heartbeat(settings.ping_interval_s, settings.ping_timeout_s, now)
        self._upgrade_deadline = inf
        self._close_deadline = inf
        self.stalled_since = inf
        self._queue(
            open_frame(
                sid,
                settings.upgrades if transport == "polling" else (),
                settings.ping_interval_s,
                settings.ping_timeout_s,
                settings.max_payload_bytes,
            )
        )
        if settings.initial_message is not None:
            self._queue(settings.initial_message)

    @property
    def is_open(self) -> bool:
        """Whether messages still pass in both directions."""
        return self.state in _OPEN_STATES

    @property
    def is_probing(self) -> bool:
        """Whether the session still accepts frames of a probing WebSocket."""
        return self.state in _PROBE_STATES

    @property
    def writable(self) -> bool:
        """Whether a message sent now leaves at once: no frame waits, and a WebSocket or a poll is open."""
        return not self._buffer and (self.state is _WEBSOCKET or self._poll_open)

    @property
    def is_direct(self) -> bool:
        """Whether frames may bypass the buffer: the transport is a WebSocket, and no frame waits."""
        return self.state is _WEBSOCKET and not self._buffer

    def keep_secret(self) -> None:
        """Note that the message queued next holds a secret: its payload is not compressed.

        A compressed payload with the secret and with text that somebody else chose tells by its length whether the
        text has a piece of the secret in it.
        """
        self._has_secret = True

    @property
    def wants_transport(self) -> bool:
        """Whether the driver should call `take_frame`: a frame waits, or the session is ready to close."""
        return bool(self._buffer) or self.state is _CLOSING

    # -- what is to be sent ---------------------------------------------------------------------------------

    def encode(self, frames: Iterable[Frame]) -> tuple[Frame, ...]:
        """Return frames in the form that the session's revision uses on a WebSocket."""
        return tuple(self.revision.encode_frame(frame) for frame in frames)

    def send(self, frames: Iterable[Frame], now: float, *, compress: bool = True) -> None:
        """Queue the frames of one message; if too much waits already, abort the session instead.

        The reason of that abort is ``"slow client"``. A session that is closing queues nothing.

        Args:
            frames: The message's text frame and its attachments.
            now: The time, in seconds.
            compress: Whether compression is worthwhile. A polling payload is left uncompressed only if all its
                messages were sent with ``False``.
        """
        if self.state not in _OPEN_STATES:
            return
        self._declines_compression = not compress and (self._declines_compression or not self._buffer)
        self._queue_within_limits(frames, now)

    def _queue_within_limits(self, frames: Iterable[Frame], now: float) -> None:
        waiting = self.buffered_bytes
        for frame in frames:
            self._queue(frame)
        if self.stalled_since == inf and self.buffered_bytes > waiting:
            self.stalled_since = now
        # A message above the limit passes if it is alone: an abort would repeat at each reconnect, for ever.
        most = self._settings.max_buffered_bytes
        if waiting and self.buffered_bytes > most:
            self.overrun = LimitExceeded("bytes that wait", most, self.buffered_bytes, "max_buffered_bytes")
            self.abort("slow client")

    def take_frame(self, now: float) -> Frame | None:
        """Take the next frame for the WebSocket.

        Returns:
            The frame, or ``None`` if none waits. In CLOSING, ``None`` means that all frames are sent: the session is
            now CLOSED, and the driver closes the WebSocket.
        """
        if self._buffer:
            frame = self._buffer.popleft()
            self.buffered_bytes -= len(frame)
            self._note_taken(now)
            return self.revision.encode_frame(frame)
        if self.state is _CLOSING:
            self._move(Step.ENDS)
        return None

    def take_payload(self, now: float, *, text_only: bool = False) -> Payload | None:
        """Take the response to the open poll, and close that poll.

        Args:
            now: The time, in seconds.
            text_only: Whether the response can't carry bytes; binary frames are then base64.

        Returns:
            The response's body, or ``None`` if the poll has to wait.
        """
        if not self._poll_open:
            return None
        frames: list[Frame]
        compress = True
        if self._buffer and self.state is not _WEBSOCKET:
            frames = self._take_buffered(now)
            compress = not (self._declines_compression or self._has_secret)
            self._has_secret = self._has_secret and bool(self._buffer)
        elif self.state not in _OPEN_STATES:
            # CLOSE gets a payload of its own. The JavaScript client closes before it handles the other events of
            # the payload, keeps them for later, and would get them a second time in a replay.
            frames = [_NOOP if self.closed_by_client else _CLOSE]
            self._move(Step.ENDS)
        elif self.state is State.PROBED or self.state is _WEBSOCKET:
            frames = [_NOOP]
        else:
            return None
        self._poll_open = False
        payload = self.revision.encode_payload(frames, text_only=text_only)
        return payload if compress else replace(payload, compress=False)

    def _take_buffered(self, now: float) -> list[Frame]:
        buffer = self._buffer or deque()
        frames = [buffer.popleft() for _ in range(min(len(buffer), self.revision.max_packets))]
        self.buffered_bytes -= sum(map(len, frames))
        self._note_taken(now)
        return frames

    def _note_taken(self, now: float) -> None:
        if self._buffer:
            self.stalled_since = now
        else:
            self._buffer = None
            self.stalled_since = inf

    # -- what arrived ---------------------------------------------------------------------------------------

    def receive(self, frame: Frame, now: float) -> Frame | None:
        """Take a frame that arrived on the session's own transport.

        Args:
            frame: The frame, after `decode_frame` or `decode_post`.
            now: The time, in seconds.

        Returns:
            The frame if it is a message for the layer above, else ``None``.

        Raises:
            ProtocolViolation: The frame is too large or not allowed here. The session is closed.
        """
        if self.state not in _OPEN_STATES:
            return None
        size = len(frame)
        limit = self._settings.max_payload_bytes
        if size * _WIDEST_CHARACTER_BYTES > limit:
            size = len(frame) if isinstance(frame, bytes) else len(frame.encode("utf-8", "surrogatepass"))
            if size > limit:
                self.abort("transport error")
                raise LimitExceeded("message bytes", limit, size, "max_payload_bytes")
        if isinstance(frame, bytes) or frame.startswith("4"):
            self._heartbeat.hear(now)
            return frame
        self._receive_control(frame, now)
        return None

    def _receive_control(self, frame: str, now: float) -> None:
        if frame == _PONG or frame.startswith(_PING):
            self._receive_heartbeat(frame, now)
        elif frame == _CLOSE:
            self.closed_by_client = True
            self.abort("transport close")
        elif frame != _NOOP:
            self.abort("parse error")
            raise MalformedPacket("a message, heartbeat or close packet", frame)

    def _receive_heartbeat(self, frame: str, now: float) -> None:
        try:
            pulse = self._heartbeat.receive(frame, now)
        except MalformedPacket:
            self.abort("transport error")
            raise
        if pulse.reply is not None:
            self.events.append(Event.PING_RECEIVED)
            # The reply is as long as the client's ping, and a client may send pings and read nothing.
            self._queue_within_limits((pulse.reply,), now)
        if pulse.proves_arrival:
            self.events.append(Event.PROBE_ANSWERED if pulse.answers_probe else Event.PONG_RECEIVED)

    def begin_post(self) -> bool:
        """Note that a POST begins. A second POST at the same time closes the session.

        Returns:
            Whether the driver should read the POST's body.
        """
        if self._post_open:
            self.abort("transport error")
            return False
        self._post_open = True
        return self.is_open

    def end_post(self) -> None:
        """Note that the POST ended, with or without success."""
        self._post_open = False

    def decode_post(self, body: bytes, *, is_form: bool = False) -> Iterator[Frame]:
        """Split the body of a POST into frames, one at a time; pass each of them to `receive`.

        Args:
            body: The whole body.
            is_form: Whether the body is a JSONP form.

        Yields:
            The frames in order, at least one.

        Raises:
            ProtocolViolation: The body is unreadable. The session is closed with ``"parse error"``, and frames before
                what is unreadable are yielded.
        """
        try:
            if is_form:
                body = unwrap_form(body)
            # A packet has at least two bytes: its type and a separator.
            yield from self.revision.read_payload(body, max_packets=self._settings.max_payload_bytes // 2 + 1)
        except (MalformedPacket, LimitExceeded):
            self.abort("parse error")
            raise

    def decode_frame(self, frame: Frame) -> Frame:
        """Decode a frame of the session's WebSocket; pass the result to `receive`.

        Raises:
            MalformedPacket: The frame is unreadable. The session is closed with ``"parse error"``.
        """
        try:
            return self.revision.decode_frame(frame)
        except MalformedPacket:
            self.abort("parse error")
            raise

    def open_poll(self) -> bool:
        """Note that a poll begins. A second poll at the same time closes the session.

        Returns:
            Whether the poll may wait for `take_payload`.
        """
        if self._poll_open:
            self.abort("transport error")
            return False
        if self.state is State.CLOSED or self.state is _WEBSOCKET:
            return False
        self._poll_open = True
        return True

    def lose_transport(self, reason: str, *, by_client: bool = False) -> None:
        """Note that the session's own transport is lost: its WebSocket, or the connection of a waiting poll.

        Args:
            reason: The close reason, if the session was open.
            by_client: Whether the client closed it, and not because its page ends.
        """
        self.closed_by_client = self.closed_by_client or (by_client and self.is_open)
        self._poll_open = False
        self._buffer = None
        self.buffered_bytes = 0
        self.abort(reason)

    # -- the upgrade ----------------------------------------------------------------------------------------

    def open_probe(self, now: float) -> bool:
        """Note that a WebSocket asks to become the transport.

        Returns:
            Whether the session accepts the probe; it does only in POLLING.
        """
        if not self._move(Step.PROBE_OPENS):
            return False
        self._upgrade_deadline = now + self._settings.upgrade_timeout_s
        return True

    @property
    def probe_deadline(self) -> float:
        """The time at which the probe ends without success; infinity without a probe."""
        return self._upgrade_deadline

    def receive_probe(self, frame: Frame) -> Frame | None:
        """Take a frame that arrived on the probing WebSocket.

        Returns:
            The frame to answer with on that WebSocket; ``None`` once the WebSocket is the transport.

        Raises:
            MalformedPacket: The frame is not allowed here. Close that WebSocket and call `end_probe`.
        """
        if frame == _PROBE_PING and self._move(Step.PROBE_PINGS):
            return _PROBE_PONG
        if frame == _UPGRADE and self._move(Step.UPGRADES):
            self.transport = "websocket"
            self._upgrade_deadline = inf
            return None
        raise MalformedPacket("2probe, then 5", frame)

    def end_probe(self) -> None:
        """Note that the probing WebSocket is lost; the session continues to poll."""
        if self._move(Step.PROBE_ENDS):
            self._upgrade_deadline = inf

    # -- time and the end -----------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """The time of the next call of `tick`; infinity once the session is CLOSED."""
        if self.state is State.CLOSED:
            return inf
        if self.state in _CLOSING_STATES:
            return self._close_deadline
        stalled = self.stalled_since + self._settings.max_stalled_s
        return min(self._heartbeat.deadline, self._upgrade_deadline, stalled)

    def tick(self, now: float) -> None:
        """Do the work that is due: send a ping, end a probe, close a session that is silent or stalled."""
        if self.state in _CLOSING_STATES:
            if now >= self._close_deadline:
                self.abort("transport close")
            return
        if self.state is State.CLOSED:
            return
        if self._heartbeat.is_overdue(now):
            self.abort("ping timeout")
        elif now >= self.stalled_since + self._settings.max_stalled_s:
            most, waited = int(self._settings.max_stalled_s), int(now - self.stalled_since)
            self.overrun = LimitExceeded("seconds that frames wait", most, waited, "max_stalled_s")
            self.abort("slow client")
        else:
            if now >= self._upgrade_deadline:
                self.end_probe()
            ping = self._heartbeat.take_ping(now)
            if ping is not None:
                self._queue(ping)
                self.events.append(Event.PING_SENT)

    def probe(self, now: float) -> None:
        """Send a ping out of turn, unless one is unanswered: its answer proves what has arrived."""
        if self.state in _OPEN_STATES and (ping := self._heartbeat.probe()) is not None:
            self._queue_within_limits((ping,), now)
            self.events.append(Event.PROBE_SENT)

    def close(self, reason: str, now: float) -> None:
        """Close gracefully: send the waiting frames, then a CLOSE packet.

        Args:
            reason: The close reason.
            now: The time, in seconds.
        """
        if self._move(Step.CLOSES):
            self._close_deadline = now + _CLOSE_TIMEOUT_S
            self._tell_closed(reason)

    def abort(self, reason: str) -> None:
        """Close at once; frames that wait are dropped.

        Args:
            reason: The close reason.
        """
        if self._move(Step.ENDS):
            self._buffer = None
            self.buffered_bytes = 0
            self._tell_closed(reason)

    def _tell_closed(self, reason: str) -> None:
        if self.close_reason is None:
            self.close_reason = reason
            self.events.append(Event.CLOSED)

    def _move(self, step: Step) -> bool:
        state = TRANSITIONS.get((self.state, step))
        if state is None:
            return False
        self.state = state
        return True

    def _queue(self, frame: Frame) -> None:
        if self._buffer is None:
            self._buffer = deque()
        self._buffer.append(frame)
        self.buffered_bytes += len(frame)
