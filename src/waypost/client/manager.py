"""The connections of one client, one after the other, and the namespaces that share them."""

from __future__ import annotations

import asyncio
import random

from waypost.client.dialer import Dialer
from waypost.client.endpoint import Endpoint
from waypost.client.engine import DisconnectDetails, Engine
from waypost.client.flow import Flow
from waypost.client.http import Http
from waypost.client.lifecycle import Lifecycle
from waypost.client.membership import Membership
from waypost.client.options import Options
from waypost.client.outgoing import PacketSource
from waypost.errors import ConnectFailed, ProtocolViolation
from waypost.logs import fields, get_logger
from waypost.protocol.codec import codec_for
from waypost.retrying import Backoff, RetryPolicy

__all__ = ["Manager"]

_LEAVE_TIMEOUT_S = 2.0

logger = get_logger("waypost.client")


class Manager:
    """Keeps a connection as long as the application wants a namespace.

    Args:
        endpoint: The server's address.
        url: The application's URL, for errors.
        options: The client's options.

    Attributes:
        events: The events of the connection, for the application.
        packet_source: The packets that wait to be sent.
        flow: Decides when reading pauses.
        members: The memberships by namespace.
    """

    def __init__(self, endpoint: Endpoint, url: str, options: Options) -> None:
        self.events = Lifecycle()
        self.packet_source = PacketSource(self._wake)
        self.flow = Flow(options.max_pending_events, options.max_pending_bytes)
        self.members: dict[str, Membership] = {}
        self._url = url
        self._options = options
        self._http = Http(endpoint, options)
        self._dialer = Dialer(self._http, options)
        self._engine: Engine | None = None
        self._main: asyncio.Task[None] | None = None
        self._is_left = False
        self._entering: set[asyncio.Task[None]] = set()
        self._failure = ConnectFailed(url, "there was no attempt")

    @property
    def transport(self) -> str | None:
        """The name of the connection's transport; ``None`` without a connection."""
        return None if self._engine is None else self._engine.transport

    @property
    def writable(self) -> bool:
        """Whether a packet sent now leaves at once."""
        return self._engine is not None and self._engine.writable

    # -- for the application --------------------------------------------------------------------------------

    async def join(self, member: Membership, *, patient: bool) -> None:
        """Connect to a namespace, and stay connected. If cancelled, the client leaves it.

        Raises:
            ConnectFailed: The client got no connection, or the server refused it.
        """
        joined = member.want(patient=patient)
        main = self._strive(member)
        try:
            await asyncio.shield(joined)
        except asyncio.CancelledError:
            if not joined.done():
                member.leave("io client disconnect", DisconnectDetails("connecting was cancelled"))
                joined.exception()
                if not self._wanted():
                    main.cancel()
            raise

    def begin(self, member: Membership) -> None:
        """Do the same as `join`, without waiting; failed attempts are retried."""
        member.want_in_time()
        self._strive(member)

    def _strive(self, member: Membership) -> asyncio.Task[None]:
        if self._main is None or self._main.done():
            self._main = asyncio.create_task(self._live())
        elif self._engine is not None and not member.is_asking:
            self._enter_soon(member, self._engine)
        return self._main

    async def leave(self, member: Membership) -> None:
        """Send the waiting packets, leave a namespace, and stay disconnected.

        The connection ends with its last namespace.
        """
        engine, main = self._engine, self._main
        if member.session.sid is not None and engine is not None and main is not None:
            member.session.say_goodbye()
            drained = asyncio.create_task(engine.drained())
            await asyncio.wait((drained, main), timeout=_LEAVE_TIMEOUT_S, return_when="FIRST_COMPLETED")
            drained.cancel()
        is_alone = not any(other.wanted for other in self.members.values() if other is not member)
        member.session.forget()
        member.leave("io client disconnect", DisconnectDetails("disconnect was called"))
        if is_alone:
            await self.stop()

    async def stop(self) -> None:
        """Close the connection."""
        main = self._main
        if main is not None and not main.done():
            main.cancel()
            await asyncio.wait((main,))

    async def ended(self) -> None:
        """Wait until there is no connection, and no attempt to reconnect. May be cancelled."""
        if self._main is not None:
            await asyncio.wait((self._main,))
            if not self._main.cancelled():
                self._main.result()

    # -- connections ----------------------------------------------------------------------------------------

    def _wanted(self) -> list[Membership]:
        return [member for member in self.members.values() if member.wanted]

    async def _live(self) -> None:
        """Open one connection after the other, as long as a namespace is wanted."""
        options = self._options
        attempt, backoff = 0, self._new_backoff()
        while self._wanted():
            if attempt:
                most = options.reconnection_attempts
                if not options.reconnection or (most is not None and attempt > most):
                    self._give_up()
                    return
                await asyncio.sleep(backoff.next_s(random.random()))
                self.events.tell("reconnect_attempt", attempt)
            if await self._connect(attempt):
                attempt, backoff = 1, self._new_backoff()
            else:
                attempt += 1
            if self._is_left:
                attempt = 0  # namespaces that are wanted by now start with a first attempt

    def _new_backoff(self) -> Backoff:
        options = self._options
        return Backoff(
            RetryPolicy(options.reconnection_delay_s, options.reconnection_delay_max_s, options.reconnection_jitter)
        )

    def _give_up(self) -> None:
        for member in self._wanted():
            member.give_up(self._failure)
        if self._options.reconnection:
            self.events.tell("reconnect_failed")

    async def _connect(self, attempt: int) -> bool:
        """Open a connection and serve it to its end; returns whether the client joined a namespace on it."""
        self._is_left = False
        try:
            try:
                await self._http.start()
                opened = await self._dialer.open()
            except ConnectFailed as failure:
                self._failed(failure, attempt)
                self._is_left = not self._wanted()
                return False
            engine = Engine(
                opened,
                self._dialer,
                self.packet_source,
                upgrades=self._options.upgrade and "websocket" in self._options.transports,
                on_ping=lambda: self.events.tell("ping"),
            )
            self.events.tell("open")
            if attempt:
                self.events.tell("reconnect", attempt)
            return await self._serve(engine)
        finally:
            await self._http.close()

    def _failed(self, failure: ConnectFailed, attempt: int) -> None:
        failure = ConnectFailed(self._url, failure.problem, failure.data, failure.status)
        logger.info("attempt %d: %s", attempt, failure, extra=fields(count=attempt))
        self._failure = failure
        for member in self._wanted():
            member.fail(failure)
        self.events.tell("error", failure)
        if attempt:
            self.events.tell("reconnect_error", failure)

    async def _serve(self, engine: Engine) -> bool:
        self._engine = engine
        entries = self._entries()
        try:
            for member in self._wanted():
                self._enter_soon(member, engine)
            await self._read(engine)
        finally:
            self._engine = None
            for task in self._entering:
                task.cancel()
            self._is_left = not self._wanted()
            # Without a reason, this side ends the connection: the client left, or its program ends.
            reason, details = engine.reason or "io client disconnect", engine.details
            for member in self.members.values():
                member.lose(reason, details)
                member.session.size_limit.carrier = None
            self.packet_source.reset()
            try:
                await engine.close()
            finally:
                logger.info("disconnected from %s: %s", self._url, reason, extra=fields(address=self._url))
                self.events.tell("close", reason, details)
        return self._entries() > entries

    def _entries(self) -> int:
        return sum(member.entries for member in self.members.values())

    async def _read(self, engine: Engine) -> None:
        codec = codec_for(self._options.parser)
        decoder = codec.make_decoder(
            max_attachments=self._options.max_attachments,
            max_attachment_bytes=self._options.max_payload_bytes,
        )
        partial_bytes = 0
        while (frame := await engine.receive()) is not None:
            # The message waits as it came: decoded it may be much larger.
            await self.flow.room_for(partial_bytes + codec.decoded_size(frame, None))
            try:
                packet = decoder.feed(frame)
                size = partial_bytes + codec.decoded_size(frame, packet)
                partial_bytes = size if packet is None else 0
                member = None if packet is None else self.members.get(packet.namespace)
                if packet is None or member is None:
                    continue
                member.receive(packet, size)
            except ProtocolViolation as violation:
                logger.warning("the server broke the protocol: %s", violation)
                engine.end("parse error", str(violation))
                return
            if not member.wanted and not self._wanted():
                return
            if member.session.is_full:
                await member.session.has_room()

    def _wake(self) -> None:
        if self._engine is not None:
            self._engine.wake()

    # -- into a namespace -----------------------------------------------------------------------------------

    def _enter_soon(self, member: Membership, engine: Engine) -> None:
        limit = member.session.size_limit
        limit.max_bytes, limit.carrier = engine.parameters.max_payload_bytes, engine
        task = asyncio.create_task(self._enter(member, engine))
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)

    async def _enter(self, member: Membership, engine: Engine) -> None:
        """Ask to join a namespace; retry if the application's auth failed."""
        backoff = self._new_backoff()
        while member.wanted and engine.reason is None:
            failure = await self._ask(member)
            if failure is None:
                return
            has_asked = member.is_asking
            is_alone = all(other.session.sid is None for other in self.members.values())
            self._failure = failure
            member.fail(failure, still_asking=has_asked and not is_alone)
            if is_alone:
                engine.end("forced close", failure.problem)
            if has_asked or not member.wanted:
                return
            await asyncio.sleep(backoff.next_s(random.random()))

    async def _ask(self, member: Membership) -> ConnectFailed | None:
        limit_s = self._options.connect_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                request = await member.session.request()
                answered = member.ask()
                self.packet_source.send_first(request)
                await answered
        except TimeoutError:
            return ConnectFailed(self._url, f"no answer within {limit_s:g} s")
        except ConnectFailed as failure:
            return ConnectFailed(self._url, failure.problem)
        return None
