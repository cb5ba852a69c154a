"""One WebSocket over ASGI: the first transport of a session, or the transport of an upgrade.

Source: Engine.IO protocol, revision 4 ("WebSocket", "Upgrade").
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from waypost.errors import LimitExceeded, MalformedPacket, ProtocolViolation
from waypost.logs import by_client, fields, get_logger
from waypost.protocol.engineio import Frame
from waypost.protocol.handshake import Decision, Open, Refuse, Upgrade, refusal_body
from waypost.protocol.websocket import GOING_AWAY
from waypost.server.basics.handshake import Handshake
from waypost.server.basics.slices import Share
from waypost.server.basics.traffic import size_of
from waypost.server.connections.connection import Connection
from waypost.server.connections.cookie import Cookie
from waypost.server.connections.ends import WireOutlet
from waypost.server.connections.engine import Engine
from waypost.transports.asgi_uvicorn import abort_transport
from waypost.transports.http_answer import Receive, Send

__all__ = ["FRAMES", "Direct", "WebSocketCarrier"]

FRAMES = "waypost.frames"
"""The ASGI extension that hands a WebSocket's frames to the application; see `direct_websocket`."""

Direct = Callable[[Connection], WireOutlet]
"""Routes all further frames of a WebSocket to a connection, and returns the outlet for the connection's frames."""

logger = get_logger("waypost.asgi")

_NORMAL, _NO_CODE = 1000, 1005
_NOT_BY_CLIENT = frozenset((GOING_AWAY, 1006, 1012))
"""The codes of a WebSocket whose page ends, whose connection is lost, or whose server stops."""
_TOO_BIG = 1009
_CLOSE_TIMEOUT_S = 10.0
"""How long a client may read on after the end of its session."""


class WebSocketCarrier:
    """Carries a connection over one WebSocket.

    Args:
        engine: The table of connections.
        receive: ASGI's receive.
        send: ASGI's send.
        cookie: The cookie of a new session, or ``None``.
        direct: Takes the frames past ASGI, or ``None`` if the server can't do that.
    """

    def __init__(
        self, engine: Engine, receive: Receive, send: Send, cookie: Cookie | None, direct: Direct | None = None
    ) -> None:
        self._engine = engine
        self._receive = receive
        self._send = send
        self._cookie = cookie
        self._direct = direct
        self._close_code = _NORMAL
        self._client_left = self._client_closed = False

    async def carry(self, decision: Decision, handshake: Handshake) -> None:
        """Carry out the decision on the request. Returns when the WebSocket is closed or its frames bypass ASGI."""
        await self._receive()  # ASGI: websocket.connect comes first
        if isinstance(decision, Open):
            await self._open(decision, handshake)
        elif isinstance(decision, Upgrade) and (connection := self._engine.get(decision.sid)) is not None:
            await self._send({"type": "websocket.accept"})
            if connection.open_probe():
                if await self._probe(connection):
                    await self._run(connection)
                    return
            else:
                logger.info(
                    "closed a WebSocket for a second upgrade of a connection: its client is at fault",
                    extra=by_client(),
                )
            await self._close()
        else:
            await self._refuse(decision)

    async def _open(self, decision: Open, handshake: Handshake) -> None:
        connection = self._engine.open("websocket", handshake, decision.revision)
        headers: list[tuple[bytes, bytes]] = []
        if self._cookie is not None:
            headers.append((b"set-cookie", self._cookie.header(connection.sid).encode()))
        try:
            await self._send({"type": "websocket.accept", "headers": headers})
        except BaseException:
            connection.lose_transport("transport error")
            raise
        await self._run(connection)

    async def _refuse(self, decision: Decision) -> None:
        # If the server lacks the extension, a close before the accept makes it respond with 403.
        if isinstance(decision, Refuse):
            headers = [(b"content-type", b"application/json")]
            try:
                await self._send(
                    {"type": "websocket.http.response.start", "status": decision.status, "headers": headers}
                )
                await self._send({"type": "websocket.http.response.body", "body": refusal_body(decision)})
                # uvicorn logs an error if the application returns before the connection is lost.
                await self._receive()
                await asyncio.sleep(0)
            except (RuntimeError, ValueError, KeyError):
                await self._close()
            except AssertionError:
                # uvicorn, when it stops, may have answered the handshake itself.
                logger.debug("a WebSocket was refused already")
        else:
            await self._close()

    # -- the upgrade ----------------------------------------------------------------------------------------

    async def _probe(self, connection: Connection) -> bool:
        """Run the probe; returns whether this WebSocket has become the transport."""
        upgraded = False
        try:
            async with asyncio.timeout_at(connection.probe_deadline) as patience:

                def give_up() -> None:
                    # The timeout may have expired in this iteration of the loop.
                    if not patience.expired():
                        patience.reschedule(0)

                connection.when_probe_ends = give_up
                while connection.probing and (frame := await self._next_frame()) is not None:
                    answer = connection.receive_probe(frame)
                    if answer is None:
                        upgraded = True
                        break
                    await self._send_frame(answer)
        except TimeoutError:
            if connection.is_open:
                logger.info(
                    "gave up an upgrade that took too long: upgrade_timeout_s sets the limit, polling goes on",
                    extra=fields(option="upgrade_timeout_s"),
                )
        except MalformedPacket as problem:
            logger.warning("closing an upgrading WebSocket: %s", problem, extra=by_client())
        finally:
            connection.when_probe_ends = None
            if not upgraded:
                connection.end_probe()
        return upgraded

    # -- carrying -------------------------------------------------------------------------------------------

    async def _run(self, connection: Connection) -> None:
        if self._direct is not None:
            connection.attach(self._direct(connection))
            return
        reading = asyncio.ensure_future(self._read(connection))
        writing = asyncio.ensure_future(self._write(connection))
        # A write to a client that does not read never ends by itself.
        connection.when_aborted = writing.cancel
        try:
            await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
            # If the reader ended, the transport is lost. If the writer ended, all frames are sent.
            if reading.done():
                connection.lose_transport(
                    "transport close", client_left=self._client_left, client_closed=self._client_closed
                )
            else:
                reading.cancel()
            await asyncio.wait({reading, writing})
        finally:
            reading.cancel()
            writing.cancel()
            connection.lose_transport("transport close")
        for task in (reading, writing):
            if not task.cancelled() and (problem := task.exception()) is not None:
                logger.debug("a WebSocket ended: %r", problem)
        await self._close()

    async def _read(self, connection: Connection) -> None:
        share = Share(connection.slices)
        while True:
            await connection.wait_until_readable()
            frame = await self._next_frame()
            if frame is None:
                return
            try:
                connection.receive(frame)
            except ProtocolViolation as problem:
                self._close_code = _TOO_BIG if isinstance(problem, LimitExceeded) else _NORMAL
                return
            if not share.take(len(frame)):
                # Frames that came together are received one after the other, without a turn for anybody else.
                await connection.slices.next()

    async def _write(self, connection: Connection) -> None:
        while (frame := await connection.next_frame()) is not None:
            await self._send_frame(frame)

    async def _next_frame(self) -> Frame | None:
        message = await self._receive()
        if message["type"] != "websocket.receive":
            code = message.get("code", _NO_CODE)
            self._client_left, self._client_closed = code == GOING_AWAY, code not in _NOT_BY_CLIENT
            return None
        text = message.get("text")
        frame: Frame = message["bytes"] if text is None else text
        self._engine.traffic.received += size_of(frame)
        return frame

    async def _send_frame(self, frame: Frame) -> None:
        self._engine.traffic.sent += size_of(frame)
        await self._send({"type": "websocket.send", "bytes" if isinstance(frame, bytes) else "text": frame})

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._send({"type": "websocket.close", "code": self._close_code})
        except TimeoutError:
            if not abort_transport(self._receive):
                logger.warning(
                    "a WebSocket stays open: its client reads nothing, and the ASGI server can't drop it",
                    extra=by_client(),
                )
        except (OSError, RuntimeError):
            # ASGI servers raise different errors if the WebSocket is closed already.
            logger.debug("a WebSocket was closed already")
