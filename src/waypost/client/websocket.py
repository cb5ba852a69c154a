"""Engine.IO over a WebSocket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from aiohttp import ClientError, ClientWebSocketResponse, ClientWSTimeout, WSMsgType
from yarl import URL

from waypost.client.http import Http, ended_by
from waypost.client.transport import TransportEnded
from waypost.protocol.engineio import Frame

__all__ = ["WebSocketTransport"]

_CLOSE_TIMEOUT_S = 1.0
_TEXT = WSMsgType.TEXT
_BINARY = WSMsgType.BINARY

logger = logging.getLogger("waypost.client")


class WebSocketTransport:
    """A `Transport` over a WebSocket; make one with `open`."""

    __slots__ = ("_websocket", "max_packets", "name")

    def __init__(self, websocket: ClientWebSocketResponse) -> None:
        self.name = "websocket"
        self.max_packets = 1
        self._websocket = websocket

    @classmethod
    async def open(cls, http: Http, address: URL, max_message_bytes: int) -> WebSocketTransport:
        """Open a WebSocket; raises `TransportEnded` if there is none."""
        try:
            websocket = await http.session.ws_connect(
                address,
                timeout=ClientWSTimeout(ws_close=_CLOSE_TIMEOUT_S),
                max_msg_size=max_message_bytes + 1,
                **http.arguments,
            )
        except (OSError, ClientError, ValueError) as error:
            raise ended_by(error) from error
        return cls(websocket)

    async def receive(self) -> Sequence[Frame]:
        """Await the next frame."""
        message = await self._websocket.receive()
        if message.type is _TEXT or message.type is _BINARY:
            return (message.data,)
        code = self._websocket.close_code
        if message.type is WSMsgType.ERROR:
            raise TransportEnded("transport error", f"websocket error: {message.data}", code)
        raise TransportEnded("transport close", f"the WebSocket was closed with code {code}", code)

    async def send(self, frames: Sequence[Frame]) -> None:
        """Send frames; waits while the network is slow."""
        sent = 0
        try:
            for frame in frames:
                if isinstance(frame, str):
                    await self._websocket.send_str(frame)
                else:
                    await self._websocket.send_bytes(frame)
                sent += 1
        except (OSError, ClientError) as error:
            raise TransportEnded("transport error", str(error), unsent=not sent) from error

    async def close(self, *, at_once: bool) -> None:
        """Close, and unless it is to be at once, wait a moment for the server to do the same."""
        try:
            async with asyncio.timeout(0 if at_once else None):
                await self._websocket.close()
        except (OSError, ClientError, TimeoutError) as error:
            logger.debug("a WebSocket did not close in order: %s", str(error) or type(error).__name__)
