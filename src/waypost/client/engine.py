"""One connection: an Engine.IO session from its open packet to its end, with an upgrade of its transport.

The client's side of the upgrade: it opens a WebSocket beside polling and probes it (``2probe``, ``3probe``). Then it
lets the pending polling requests end, starts no new ones, and switches to the WebSocket (``5``). Packets to send wait
in the meantime.

Source: Engine.IO protocol, revision 4 ("Upgrade", "Heartbeat").
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Protocol

from waypost.client.dialer import Dialer, Opened
from waypost.client.transport import Transport, TransportEnded
from waypost.client.watch import Watch
from waypost.errors import MalformedPacket, ProtocolViolation
from waypost.logs import get_logger
from waypost.protocol.engineio import Frame, PacketType, packet_type

__all__ = ["DisconnectDetails", "Engine", "Source"]

_UPGRADE_TIMEOUT_S = 10.0
_PROBE_PING = "2probe"
_PROBE_PONG = "3probe"

logger = get_logger("waypost.client")


@dataclass(frozen=True, slots=True)
class DisconnectDetails:
    """Details of the end of a connection, in addition to the reason.

    Attributes:
        description: The cause, in words.
        code: The WebSocket's close code or the HTTP status; ``None`` if there is none.
    """

    description: str
    code: int | None = None


class Source(Protocol):
    """The packets that wait to be sent. A packet stays in the source until a transport takes it."""

    def take(self, most_packets: int, most_bytes: float) -> list[Frame]:
        """Remove and return the frames of the next packets.

        Args:
            most_packets: The most frames. The frames of one packet stay together, even if they exceed the limit.
            most_bytes: The most bytes, as polling counts them. A single packet may exceed the limit.

        Returns:
            The frames; an empty list if no packet waits.
        """
        ...

    def put_back(self) -> None:
        """Return the packets of the last `take` to the front, because the transport did not send them."""
        ...


class Engine:
    """An open Engine.IO session: receives messages, sends the packets of a `Source`, answers heartbeats.

    Call `receive` until it returns ``None``, and `close` in any case. Call `wake` when the source has new packets.

    Args:
        opened: The open connection.
        dialer: Opens the WebSocket for an upgrade.
        source: The packets to send.
        upgrades: Whether to upgrade from polling to a WebSocket if the server offers it.
        on_ping: Called at each heartbeat.
    """

    def __init__(
        self,
        opened: Opened,
        dialer: Dialer,
        source: Source,
        *,
        upgrades: bool,
        on_ping: Callable[[], None],
    ) -> None:
        self.parameters = opened.parameters
        self.reason: str | None = None
        self.details = DisconnectDetails("")
        self._dialer = dialer
        self._source = source
        self._on_ping = on_ping
        self._transport = opened.transport
        self._frames: deque[Frame] = deque(opened.frames)
        self._control: list[Frame] = []
        self._reader: asyncio.Task[object] | None = None
        self._writing = False
        self._at_rest = asyncio.Event()
        self._moving = False
        self._moved = asyncio.Event()
        self._work = asyncio.Event()
        self._drained = asyncio.Event()
        silence_s = self.parameters.ping_interval_s + self.parameters.ping_timeout_s
        self._watch = Watch(silence_s, lambda: self.end("ping timeout", f"nothing came for {silence_s:g} s"))
        self._tasks = [asyncio.create_task(self._write())]
        if upgrades and self.transport == "polling" and "websocket" in self.parameters.upgrades:
            self._tasks.append(asyncio.create_task(self._upgrade()))

    @property
    def transport(self) -> str:
        """The name of the current transport."""
        return self._transport.name

    @property
    def writable(self) -> bool:
        """Whether a packet sent now leaves at once."""
        return not (self._writing or self._moving or self.reason or self._watch.is_overdue())

    # -- in -------------------------------------------------------------------------------------------------

    async def receive(self) -> Frame | None:
        """Await the next message. May be cancelled, but only to close the session.

        Returns:
            The message; ``None`` when the connection has ended. `reason` tells why.
        """
        while True:
            while self._frames:
                frame = self._frames.popleft()
                if not isinstance(frame, str) or frame.startswith("4"):
                    return frame
                self._take_control(frame)
            if self.reason is not None:
                return None
            await self._fetch()

    async def _fetch(self) -> None:
        if self._moving:
            await self._moved.wait()
            return
        task = self._reader = asyncio.current_task()
        self._watch.begin()
        try:
            self._frames.extend(await self._transport.receive())
        except TransportEnded as end:
            self.end(end.reason, end.description, end.code)
        except ProtocolViolation as violation:
            logger.warning("the server broke the protocol: %s", violation)
            self.end("parse error", str(violation))
        except asyncio.CancelledError:
            if self._reader is not None or task is None or task.uncancel():
                raise
        finally:
            self._reader = None
            self._watch.pause()
            self._note_rest()

    def _take_control(self, frame: str) -> None:
        try:
            kind = packet_type(frame)
        except MalformedPacket as violation:
            logger.warning("the server broke the protocol: %s", violation)
            self.end("parse error", str(violation))
            return
        if kind is PacketType.PING:
            self._control.append(PacketType.PONG.value)
            self._work.set()
            self._on_ping()
        elif kind is PacketType.CLOSE:
            self.end("transport close", "the server closed the session")
            self._frames.clear()

    # -- out ------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Send the packets that wait in the source."""
        self._drained.clear()
        self._work.set()

    async def drained(self) -> None:
        """Wait until no packet waits to be sent. May be cancelled."""
        await self._drained.wait()

    async def _write(self) -> None:
        while self.reason is None:
            self._work.clear()
            frames = self._gather() if self.writable else []
            if not frames:
                if self.writable:
                    self._drained.set()
                await self._work.wait()
                continue
            self._writing = True
            try:
                await self._transport.send(frames)
            except TransportEnded as end:
                if end.unsent and self.transport == "websocket":
                    self._source.put_back()
                    return  # the reading task gets the reason
                self.end(end.reason, end.description, end.code)
            except ProtocolViolation as violation:
                self.end("parse error", str(violation))
            finally:
                self._writing = False
                self._note_rest()

    def _gather(self) -> list[Frame]:
        """Take the frames of one batch: heartbeats first, and no more than transport and server accept."""
        frames, self._control = self._control, []
        most_packets = self._transport.max_packets - len(frames)
        return frames + self._source.take(most_packets, self.parameters.max_payload_bytes or inf)

    # -- the upgrade ----------------------------------------------------------------------------------------

    async def _upgrade(self) -> None:
        probe: Transport | None = None
        try:
            async with asyncio.timeout(_UPGRADE_TIMEOUT_S):
                probe = await self._dialer.websocket(sid=self.parameters.sid)
                await probe.send((_PROBE_PING,))
                answer, *more = await probe.receive()
                if answer != _PROBE_PONG or more:
                    raise MalformedPacket("3probe, and nothing else", more[0] if more else answer)
                await self._come_to_rest(probe)
                await probe.send((PacketType.UPGRADE.value,))
        except (TransportEnded, ProtocolViolation, TimeoutError) as problem:
            logger.info("the connection stays with polling: %s", str(problem) or type(problem).__name__)
        else:
            self._transport, probe = probe, None
            self._dialer.upgraded = True
            logger.debug("the connection has moved to WebSocket")
        finally:
            self._moving = False
            self._moved.set()
            self._work.set()
            if probe is not None:
                await probe.close(at_once=True)

    async def _come_to_rest(self, probe: Transport) -> None:
        """Wait until no request is pending on polling, and start no new one.

        Raises:
            TransportEnded: The WebSocket or the connection ended in the meantime.
            MalformedPacket: The WebSocket received a packet before the upgrade.
        """
        self._moving = True
        self._moved.clear()
        self._note_rest()
        resting = asyncio.create_task(self._at_rest.wait())
        listening = asyncio.create_task(probe.receive())
        try:
            await asyncio.wait((resting, listening), return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                raise MalformedPacket("nothing before the upgrade", listening.result()[0])
        finally:
            resting.cancel()
            listening.cancel()
            await asyncio.wait((resting, listening))
        if self.reason is not None:
            raise TransportEnded(self.reason, "the connection has ended")

    def _note_rest(self) -> None:
        if self._reader is not None or self._writing:
            self._at_rest.clear()
        else:
            self._at_rest.set()

    # -- the end --------------------------------------------------------------------------------------------

    def end(self, reason: str, description: str, code: int | None = None) -> None:
        """Note the end of the connection. Only the first call has an effect.

        Args:
            reason: The reason, in Socket.IO's words.
            description: The cause, in words.
            code: The WebSocket's close code or the HTTP status.
        """
        if self.reason is None:
            self.reason = reason
            self.details = DisconnectDetails(description, code)
            self._watch.stop()
            self._work.set()
            self._moved.set()
            reader, self._reader = self._reader, None
            if reader is not None and reader is not asyncio.current_task():
                reader.cancel()  # `_fetch` revokes this cancellation

    async def close(self) -> None:
        """Close the connection; waits up to a second for the server to close it too."""
        has_ended = self.reason is not None
        self.reason = self.reason or "forced close"
        self._watch.stop()
        for task in self._tasks:
            task.cancel()
        try:
            await asyncio.wait(self._tasks)
        finally:
            await self._transport.close(at_once=has_ended)
