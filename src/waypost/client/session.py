"""The client's session in one namespace, across connections: recovery position, calls, and packets to send."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Sequence
from typing import Any

from waypost.client.answers import Answers
from waypost.client.calls import Calls
from waypost.client.durable import Durable
from waypost.client.engine import DisconnectDetails
from waypost.client.flow import Flow
from waypost.client.handlers import Handlers
from waypost.client.inbox import Delivery, Inbox
from waypost.client.options import Auth, Options
from waypost.client.ordered import MemoryOutbox, OrderedSender
from waypost.client.outbox import Outbox, StoredEvent
from waypost.client.outbox_sender import OutboxSender
from waypost.client.outgoing import PacketSource
from waypost.client.packets import Outgoing
from waypost.client.size_limit import SizeLimit
from waypost.client.streams import Streams
from waypost.errors import (
    AckTimeout,
    ConnectFailed,
    EventRefused,
    MalformedPacket,
    NotConnected,
    WaypostError,
)
from waypost.logs import fields, get_logger
from waypost.own_loop import OwnLoop
from waypost.protocol.answers import answer_value
from waypost.protocol.codec import EncodedEvent, codec_for
from waypost.protocol.engineio import Frame
from waypost.protocol.extension import ANSWER_FIELD, OutboxMark, split_mark
from waypost.protocol.packet import Packet
from waypost.protocol.reconnect import Continuity, SendBuffer
from waypost.protocol.records import read_values
from waypost.protocol.rejections import Rejection, read_rejection
from waypost.typed.handlers import check_handler

__all__ = ["Session"]

logger = get_logger("waypost.client")

_OUTBOX_WINDOW = 64
"""The most unacknowledged events of the outbox, with a Waypost server."""


class Session:
    """One namespace, as the client sees it. `membership.Membership` connects and disconnects it.

    Attributes:
        namespace: The namespace's name.
        auth: The auth payload, or the function that returns it.
        handlers: The application's functions.
        streams: The application's loops over events.
        sid: The id of the socket on the server; ``None`` while it is not connected.
        recovered: Whether the server recovered the session at the last connect.
        outbox: Sends the events of the durable outbox; ``None`` without one.
        size_limit: Refuses packets that are larger than the server accepts.
    """

    def __init__(
        self,
        namespace: str,
        auth: Auth,
        options: Options,
        packet_source: PacketSource,
        flow: Flow,
        durable: Durable,
        own_loop: OwnLoop,
    ) -> None:
        self.namespace = namespace
        self.auth = auth
        self.handlers = Handlers()
        self.streams = Streams(own_loop)
        self.calls = Calls()
        self.sid: str | None = None
        self.recovered = False
        self.size_limit = SizeLimit(options.transports)
        self._codec = codec_for(options.parser, options.max_attachments, options.json_default)
        self._continuity = Continuity()
        self._options = options
        self._packet_source = packet_source
        self._buffer: SendBuffer[Outgoing] = SendBuffer(
            max_items=options.max_buffered_events, max_bytes=options.max_buffered_bytes
        )
        self._answers = Answers()
        self._server_revision = 0
        self._changed = asyncio.Event()
        self._flow = flow
        self._own_loop = own_loop
        hook = options.on_undelivered
        self._undelivered = None if hook is None else check_handler("on_undelivered", hook, 0, typed=False)
        self._ordered = self._make_ordered(options) if options.retries else None
        outbox = durable.outbox(namespace)
        self.outbox = None if outbox is None else self._make_sender(outbox, options.outbox_retries)
        self._inbox = Inbox(
            self.handlers,
            self.streams,
            answers=self._answers,
            handled=durable.handled(namespace),
            acknowledge=self._acknowledge,
            flow=flow,
        )

    def _make_ordered(self, options: Options) -> OrderedSender:
        outbox = MemoryOutbox(
            self.namespace, most_events=options.max_buffered_events, most_bytes=options.max_buffered_bytes
        )
        return OrderedSender(outbox, ask=self._ask, retries=options.retries, on_given_up=self._given_up)

    def _make_sender(self, outbox: Outbox, retries: int | None) -> OutboxSender:
        def send(event: StoredEvent, settled: int) -> Awaitable[Rejection | None]:
            return self._send_stored(event, outbox.mark(event, settled))

        return OutboxSender(
            outbox,
            send=send,
            # Other servers can't recognise a repeat, and may handle the next event before it.
            window=lambda: _OUTBOX_WINDOW if self._server_revision else 1,
            retries=retries,
            on_given_up=lambda event, error: self._report_undelivered(event.record, error),
        )

    # -- in and out of the namespace ------------------------------------------------------------------------

    async def request(self) -> tuple[Frame, ...]:
        """Return the CONNECT packet.

        Raises:
            ConnectFailed: The application's function for the auth payload raised an exception, or returned one that
                can't be encoded.
        """
        try:
            credentials = self.auth() if callable(self.auth) else self.auth
            if inspect.isawaitable(credentials):
                credentials = await credentials
            return self._codec.encode_connect(self.namespace, self._continuity.request(credentials))
        except Exception as error:
            logger.exception("there is no auth to send")
            raise ConnectFailed(self.namespace, f"getting auth raised {type(error).__name__}") from error

    def begin(self, sid: str, answer: dict[str, Any]) -> None:
        """Note that the server has accepted the client."""
        pid, revision = answer.get("pid"), answer.get(ANSWER_FIELD)
        self.sid = sid
        self._server_revision = revision if type(revision) is int else 0
        self.recovered = self._continuity.accept(
            pid if isinstance(pid, str) else None, always_offset=self._server_revision > 0
        )
        self._answers.begin(sid)
        self.tell("connect")
        self._packet_source.open(self)
        if self._ordered is not None:
            self._ordered.go_on()
        if self.outbox is not None:
            self.outbox.go_on()

    def lose(self, reason: str, details: DisconnectDetails) -> None:
        """Note that the connection is lost; its pending calls fail."""
        sid, self.sid = self.sid, None
        self._packet_source.shut(self)
        self._buffer.drop(lambda outgoing: outgoing.is_bound)
        self.calls.lose(NotConnected(sid, self.namespace, "await an acknowledgement"))
        self._changed.set()
        self._flow.lost()
        self.tell("disconnect", reason, details)

    def say_goodbye(self) -> None:
        """Send a DISCONNECT, after all waiting packets."""
        frames = self._codec.encode_disconnect(self.namespace)
        self._push_over_limit(Outgoing(frames, len(frames[0]), self.sid))

    def forget(self) -> None:
        """Start a new session at the next connect, and drop the events that wait for handlers."""
        self._continuity.forget()
        self._inbox.drop()

    def tell(self, event: str, *arguments: Any) -> None:
        """Call the application's function for one of the client's own events."""
        self._inbox.put(Delivery(event, arguments, is_lifecycle=True))

    @property
    def is_handling(self) -> bool:
        """Whether the caller is a handler of this namespace."""
        return self._inbox.is_current

    async def idle(self) -> None:
        """Wait until the last handler has returned. May be cancelled."""
        await self._inbox.idle()

    # -- in -------------------------------------------------------------------------------------------------

    def take(self, packet: Packet, size: int) -> None:
        """Take an event from the server, which takes so many bytes in memory."""
        ack_id, mark = packet.ack_id, None
        if ack_id is None:
            data = self._continuity.take(packet.data, time.time())
            if data is None:
                return
        elif self._server_revision:
            data, mark = split_mark(packet.data)
        else:
            data = packet.data
        event, *arguments = data
        self._inbox.put(Delivery(event, tuple(arguments), ack_id=ack_id, sid=self.sid, mark=mark, size=size))

    @property
    def is_full(self) -> bool:
        """Whether so many events wait for handlers that reading must pause."""
        return self._flow.is_full(len(self._inbox))

    async def has_room(self) -> None:
        """Wait until reading may continue. May be cancelled."""
        while self.is_full and self.sid is not None:
            await self._flow.change()

    def _acknowledge(self, ack_id: int, values: Sequence[Any], sid: str | None) -> None:
        """Send an acknowledgement, if its session still exists when it is sent."""
        frames = self._codec.encode_ack(self.namespace, ack_id, values)
        self.size_limit.check(f"ack {ack_id}", frames)
        if sid == self.sid:
            self._push_over_limit(Outgoing(frames, sum(map(len, frames)), sid))

    # -- out ------------------------------------------------------------------------------------------------

    async def emit(self, event: str, args: Sequence[Any]) -> None:
        """Append an event to the packets to send; waits for room while there is a connection.

        Raises:
            EncodingFailed: The event can't be encoded, or is larger than the server accepts.
            NotConnected: There is neither a connection nor room.
            StorageError: The outbox has no room, or its file can't be written.
        """
        self._own_loop.enter_or_check("emit")
        encoded = self._encode(event, args)
        if self.outbox is not None:
            await self.outbox.emit(encoded)
        elif self._ordered is not None:
            await self._ordered.emit(encoded)
        else:
            await self._push(Outgoing(encoded.frames(), encoded.size), encoded)

    def emit_volatile(self, event: str, args: Sequence[Any], *, writable: bool) -> bool:
        """Send an event if it can leave at once; returns whether it was sent."""
        self._own_loop.enter_or_check("emit")
        encoded = self._encode(event, args)
        if self.sid is None or len(self._buffer) or not writable:
            return False
        self._push_over_limit(Outgoing(encoded.frames(), encoded.size, is_bound=True))
        return True

    async def call(self, event: str, args: Sequence[Any], timeout_s: float | None) -> Any:
        """Send an event and await its acknowledgement. May be cancelled.

        Returns:
            The acknowledgement's only argument, a tuple of several, or ``None``.

        Raises:
            AckTimeout: No acknowledgement arrived in time. An event that was not sent by then will not be sent.
            EventRefused: The server did not handle the event.
            EncodingFailed: The event can't be encoded, or is larger than the server accepts.
            NotConnected: The connection was lost after the event was sent; or there was neither a connection nor
                room.
        """
        self._own_loop.enter_or_check("call")
        encoded = self._encode(event, args)
        if self._ordered is not None:
            return answer_value(await self._call_in_order(encoded, timeout_s))
        wait_s = self._options.ack_timeout_s if timeout_s is None else timeout_s
        return answer_value(self._accepted(await self._exchange(encoded, wait_s, is_bound=False)))

    def _accepted(self, values: list[Any]) -> list[Any]:
        """Return the arguments of an acknowledgement.

        Raises:
            EventRefused: The acknowledgement is a rejection.
        """
        rejection = read_rejection(values) if self._server_revision else None
        if rejection is not None:
            raise EventRefused(rejection.reason, rejection.data, is_final=rejection.is_final)
        return values

    async def _call_in_order(self, encoded: EncodedEvent, timeout_s: float | None) -> list[Any]:
        assert self._ordered is not None
        try:
            async with asyncio.timeout(timeout_s):
                return await self._ordered.call(encoded)
        except TimeoutError:
            raise AckTimeout(encoded.event, timeout_s or 0) from None

    async def _ask(self, event: EncodedEvent) -> list[Any]:
        if self.sid is None:
            raise NotConnected(None, self.namespace, f"send {event.event!r}")
        return self._accepted(await self._exchange(event, self._options.ack_timeout_s, is_bound=True))

    async def _exchange(self, encoded: EncodedEvent, timeout_s: float, *, is_bound: bool) -> list[Any]:
        ack_id = self.calls.next_id()
        frames = encoded.frames_with_ack(ack_id)
        self.size_limit.check(f"event {encoded.event!r}", frames)
        outgoing = Outgoing(frames, encoded.size, is_bound=is_bound)
        answer = self.calls.expect(ack_id, outgoing)
        self._flow.begin_call()
        try:
            async with asyncio.timeout(timeout_s):
                if is_bound:
                    self._push_over_limit(outgoing)
                else:
                    await self._push(outgoing, encoded)
                return await answer
        except TimeoutError:
            raise AckTimeout(encoded.event, timeout_s) from None
        finally:
            self.calls.forget(ack_id)
            self._flow.end_call()
            if not outgoing.written:
                self._buffer.remove(outgoing, outgoing.size)

    def _encode(self, event: str, args: Sequence[Any]) -> EncodedEvent:
        encoded = self._encode_fitting(event, args)
        for listener in self.handlers.any_outgoing:
            listener(event, *args)
        return encoded

    def _encode_fitting(self, event: str, args: Sequence[Any]) -> EncodedEvent:
        """Encode an event, and check it against the server's size limit if that is known."""
        encoded = self._codec.encode_event(self.namespace, event, args)
        self.size_limit.check(f"event {event!r}", encoded.frames())
        return encoded

    async def _send_stored(self, event: StoredEvent, mark: OutboxMark) -> Rejection | None:
        """Send an event of the outbox and await its acknowledgement; returns the rejection, or ``None``."""
        if self.sid is None:
            raise NotConnected(None, self.namespace, "send an event of the outbox")
        name, *args = event.values
        if not self._server_revision:
            await self._exchange(self._encode_fitting(str(name), args), self._options.ack_timeout_s, is_bound=True)
            return None
        encoded = self._encode_fitting(str(name), [*args, mark.argument()])
        return read_rejection(await self._exchange(encoded, self._options.ack_timeout_s, is_bound=True))

    async def _given_up(self, event: EncodedEvent, error: WaypostError) -> None:
        await self._report_undelivered(event.to_record(), error)

    async def _report_undelivered(self, record: bytes, error: WaypostError) -> None:
        """Notify the application that an event will never be delivered."""
        try:
            name, *args = read_values(record)
        except MalformedPacket:
            name, args = "", []
        logger.error("event %r is given up: %s", name, error, extra=fields(event=name))
        if self._undelivered is not None:
            try:
                await self._undelivered.run((name, tuple(args), error))
            except Exception:
                logger.exception("on_undelivered failed for event %r", name, extra=fields(event=name))

    # -- what waits to be sent, as `outgoing.PacketSource` asks for it ----------------------------------------------

    def next_outgoing(self) -> Outgoing | None:
        """Return the next packet that may be sent; packets of ended sessions are dropped."""
        while (outgoing := self._buffer.peek()) is not None:
            if outgoing.sid is None or outgoing.sid == self.sid:
                return outgoing
            logger.debug(
                "an acknowledgement is dropped: session %s is over", outgoing.sid, extra=fields(sid=outgoing.sid)
            )
            self._buffer.pop()
        return None

    def take_outgoing(self) -> None:
        """Remove that packet."""
        self._buffer.pop()
        self._changed.set()

    def put_back(self, outgoing: Outgoing) -> None:
        """Return a packet that was not sent to the front; `lose` drops the packets for this connection only."""
        self._buffer.put_back(outgoing, outgoing.size)

    async def _push(self, outgoing: Outgoing, encoded: EncodedEvent) -> None:
        while not self._buffer.push(outgoing, outgoing.size):
            if self.sid is None:
                waiting = f"emit {encoded.event!r}, with {len(self._buffer)} events waiting to be sent"
                raise NotConnected(None, self.namespace, waiting)
            self._changed.clear()
            await self._changed.wait()
        self._packet_source.filled()

    def _push_over_limit(self, outgoing: Outgoing) -> None:
        self._buffer.push_over_limit(outgoing, outgoing.size)
        self._packet_source.filled()
