"""One connection: Engine.IO over one WebSocket, from its opening to its end."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from contextlib import AsyncExitStack

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.protocol import State

from waypost.client.options import Options, endpoint
from waypost.errors import ConnectFailed, MalformedPacket, ProtocolViolation
from waypost.protocol.codec import codec_for
from waypost.protocol.engineio import Frame, OpenParameters, PacketType, packet_type, parse_open
from waypost.protocol.packet import Packet

__all__ = ["Connection"]

_CLOSE_TIMEOUT_S = 1

logger = logging.getLogger("waypost.client")


class Connection:
    """An open Engine.IO session: packets in, frames out, heartbeats answered.

    Make one with `open`, call `receive` until it gives ``None``, and `close` it in any case.

    Attributes:
        reason: Why the connection ended, in Socket.IO's words; ``None`` while it has not.
    """

    def __init__(self, websocket: ClientConnection, parameters: OpenParameters, options: Options) -> None:
        self.reason: str | None = None
        self._websocket = websocket
        self._silence_s = parameters.ping_interval_s + parameters.ping_timeout_s
        self._unread: deque[Packet] = deque()
        self._sending = asyncio.Lock()
        self._decoder = codec_for(options.parser).make_decoder(
            max_attachments=options.max_attachments,
            max_attachment_bytes=options.max_payload_bytes,
        )

    @classmethod
    async def open(cls, url: str, options: Options) -> Connection:
        """Connect to a server and await its open packet, without a timeout.

        Args:
            url: The server's URL.
            options: The client's options.

        Returns:
            The connection.

        Raises:
            ConnectFailed: There is no server, or it refused, or it is none that speaks Engine.IO 4.
        """
        async with AsyncExitStack() as until_open:
            try:
                address = endpoint(url, options.path)
                websocket = await connect(
                    address,
                    additional_headers=options.headers,
                    ssl=(options.ssl or True) if address.startswith("wss:") else None,
                    compression=None,
                    max_size=options.max_payload_bytes,
                    open_timeout=None,
                    close_timeout=_CLOSE_TIMEOUT_S,
                    ping_interval=None,  # Engine.IO has heartbeats of its own
                )
                until_open.push_async_callback(websocket.close)
                parameters = _parse_first(await websocket.recv())
            except InvalidStatus as error:
                response = error.response
                said = bytes(response.body).decode(errors="replace")
                raise ConnectFailed(url, f"HTTP {response.status_code} {said}".strip()) from error
            except (OSError, WebSocketException, ProtocolViolation) as error:
                raise ConnectFailed(url, str(error) or type(error).__name__) from error
            until_open.pop_all()
        return cls(websocket, parameters, options)

    async def receive(self) -> Packet | None:
        """Await the next Socket.IO packet, answering heartbeats meanwhile.

        Returns:
            The packet, or ``None`` when the connection has ended; `reason` says why. It may be cancelled without
            losing a packet.
        """
        if self._unread:
            return self._unread.popleft()
        while self.reason is None:
            try:
                async with asyncio.timeout(self._silence_s):
                    packet = await self._take(await self._websocket.recv())
            except TimeoutError:
                self.reason = "ping timeout"
            except ConnectionClosed as end:
                self.reason = "transport error" if end.sent and not end.rcvd else "transport close"
            except ProtocolViolation as violation:
                logger.warning("the server broke the protocol: %s", violation)
                self.reason = "parse error"
            else:
                if packet is not None:
                    return packet
        return None

    async def _take(self, frame: Frame) -> Packet | None:
        if not isinstance(frame, str) or frame.startswith("4"):
            return self._decoder.feed(frame)
        kind = packet_type(frame)
        if kind is PacketType.PING:
            await self._websocket.send(PacketType.PONG.value)
        elif kind is PacketType.CLOSE:
            self.reason = "transport close"
        return None

    def unread(self, packets: Iterable[Packet]) -> None:
        """Put packets back, to be received first."""
        self._unread.extend(packets)

    async def send(self, frames: tuple[Frame, ...]) -> bool:
        """Send the frames of one packet, all of them or none; wait while the network is slow.

        Args:
            frames: The frames.

        Returns:
            Whether they were handed to the network, which does not say that they arrive.
        """
        async with self._sending:
            if self._websocket.state is not State.OPEN:
                return False
            try:
                for frame in frames:
                    await self._websocket.send(frame)
            except ConnectionClosed as end:
                logger.debug("the connection ended while a packet was sent: %s", end)
            return True

    async def close(self) -> None:
        """Close the connection; waits a moment for the server to do the same."""
        await self._websocket.close()


def _parse_first(frame: Frame) -> OpenParameters:
    if not isinstance(frame, str):
        raise MalformedPacket("an open packet", frame)
    return parse_open(frame)
