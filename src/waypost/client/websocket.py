"""Engine.IO over a WebSocket."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Sequence

from aiohttp import ClientError, ClientResponse
from yarl import URL

from waypost.client.http import Http, ended_by, refusal
from waypost.client.transport import TransportEnded
from waypost.client.wire import Wire
from waypost.protocol.engineio import Frame
from waypost.protocol.websocket import accept_key

__all__ = ["WebSocketTransport"]

_CLOSE_TIMEOUT_S = 1.0
_MAX_PACKETS = 1_000
_SWITCHING_PROTOCOLS = 101


class WebSocketTransport:
    """A `Transport` over a WebSocket; `open` makes it."""

    __slots__ = ("_wire", "max_packets", "name")

    def __init__(self, wire: Wire) -> None:
        self.name = "websocket"
        self.max_packets = _MAX_PACKETS
        self._wire = wire

    @classmethod
    async def open(cls, http: Http, address: URL, max_message_bytes: int) -> WebSocketTransport:
        """Open a WebSocket. May be cancelled.

        Args:
            http: Makes the request.
            address: The URL of the request.
            max_message_bytes: The largest message that the client accepts.

        Raises:
            TransportEnded: The WebSocket could not be opened.
        """
        key = b64encode(os.urandom(16)).decode()
        handshake = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key,
        }
        arguments = {**http.arguments, "headers": {**http.arguments["headers"], **handshake}}
        try:
            response = await http.session.get(address, allow_redirects=False, read_until_eof=False, **arguments)
        except (OSError, ClientError, ValueError) as error:
            raise ended_by(error) from error
        try:
            _check(response, key)
            return cls(Wire(response, max_message_bytes))
        except TransportEnded:
            response.close()
            raise

    async def receive(self) -> Sequence[Frame]:
        """Await the next frames; see `Transport.receive`."""
        return await self._wire.receive()

    async def send(self, frames: Sequence[Frame]) -> None:
        """Send frames; waits while the network is slow.

        Raises:
            TransportEnded: The WebSocket is closing; no frame was sent.
        """
        await self._wire.send(frames)

    async def close(self, *, at_once: bool) -> None:
        """Close the WebSocket; unless ``at_once``, wait up to a second for the server to close it too."""
        await self._wire.close(0 if at_once else _CLOSE_TIMEOUT_S)


def _check(response: ClientResponse, key: str) -> None:
    """Check the response to a handshake against RFC 6455, section 4.1.

    Raises:
        TransportEnded: The response breaks a rule.
    """
    if response.status != _SWITCHING_PROTOCOLS:
        raise TransportEnded("transport error", refusal(response), response.status)
    headers = response.headers
    switches = "upgrade" in headers.get("Connection", "").lower()
    if not switches or headers.get("Upgrade", "").lower() != "websocket":
        raise TransportEnded("transport error", "the server switched to something that is no WebSocket")
    if headers.get("Sec-WebSocket-Accept") != accept_key(key):
        raise TransportEnded("transport error", "the server's answer to the WebSocket's key is wrong")
    if "Sec-WebSocket-Extensions" in headers:
        raise TransportEnded("transport error", "the server uses an extension that was not offered")
