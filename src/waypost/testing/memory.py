"""WebSockets without a network: calls an ASGI application in this process, on the client's own loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, TypeAlias

from yarl import URL

from waypost.client.transport import TransportEnded
from waypost.logs import get_logger
from waypost.protocol.engineio import Frame

__all__ = ["Application", "MemoryConnector", "Message", "Pipe"]

Message: TypeAlias = MutableMapping[str, Any]
Application: TypeAlias = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

_MOST_WAITING = 64
_CLOSE_TIMEOUT_S = 1.0
_ADDRESS = "127.0.0.1"

logger = get_logger("waypost.testing")


class Pipe:
    """A bounded queue of messages from one task to another. A full pipe makes the sender wait, as a network does."""

    __slots__ = ("_changed", "_is_shut", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[Message] = deque()
        self._changed = asyncio.Event()
        self._is_shut = False

    async def put(self, message: Message) -> bool:
        """Append a message; waits while the pipe is full. May be cancelled.

        Returns:
            False if the pipe is shut; the message is then dropped.
        """
        while len(self._waiting) >= _MOST_WAITING and not self._is_shut:
            await self._change()
        if not self._is_shut:
            self._waiting.append(message)
            self._changed.set()
        return not self._is_shut

    async def take(self) -> Message | None:
        """Await the next message; ``None`` once the pipe is shut and empty. May be cancelled."""
        while not self._waiting:
            if self._is_shut:
                return None
            await self._change()
        self._changed.set()
        return self._waiting.popleft()

    def shut(self) -> None:
        """Accept no more messages. Messages in the pipe can still be taken."""
        self._is_shut = True
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class MemoryTransport:
    """A `waypost.client.transport.Transport` to an application in this process.

    Attributes:
        serving: The task that runs the application.
    """

    __slots__ = ("_inward", "_max_message_bytes", "_outward", "max_packets", "name", "serving")

    def __init__(self, application: Application, scope: Message, max_message_bytes: int) -> None:
        self.name = "websocket"
        self.max_packets = 1
        self._max_message_bytes = max_message_bytes
        self._inward = Pipe()
        self._outward = Pipe()
        self.serving = asyncio.create_task(self._serve(application, scope))

    async def _serve(self, application: Application, scope: Message) -> None:
        await self._inward.put({"type": "websocket.connect"})
        try:
            await application(scope, self._give, self._take)
        except Exception:
            logger.exception("the application failed to serve a WebSocket")
        finally:
            self._inward.shut()
            self._outward.shut()

    async def _give(self) -> Message:
        return await self._inward.take() or {"type": "websocket.disconnect", "code": 1005}

    async def _take(self, message: Message) -> None:
        if not await self._outward.put(message):
            raise OSError("the client has left")

    async def opened(self) -> None:
        """Await the application's answer to the request.

        Raises:
            TransportEnded: The application refused the WebSocket.
        """
        answer = await self._outward.take()
        if answer is None or answer["type"] != "websocket.accept":
            await self.close(at_once=True)
            status = 500 if answer is None else answer.get("status", 403)
            raise TransportEnded("transport error", f"HTTP {status}", status)

    async def receive(self) -> Sequence[Frame]:
        """Await the next frame.

        Returns:
            The frame, alone in a tuple.

        Raises:
            TransportEnded: The application closed the WebSocket, or the frame is too large.
        """
        message = await self._outward.take()
        if message is None or message["type"] != "websocket.send":
            code = 1006 if message is None else message.get("code", 1000)
            raise TransportEnded("transport close", f"the WebSocket was closed with code {code}", code)
        text = message.get("text")
        frame: Frame = message["bytes"] if text is None else text
        if len(frame) > self._max_message_bytes:
            raise TransportEnded("transport close", "the message is too large", 1009)
        return (frame,)

    async def send(self, frames: Sequence[Frame]) -> None:
        """Send frames; waits while the application is slow.

        Raises:
            TransportEnded: The application closed the WebSocket. ``unsent`` is True if no frame was taken.
        """
        for number, frame in enumerate(frames):
            kind = "text" if isinstance(frame, str) else "bytes"
            if not await self._inward.put({"type": "websocket.receive", kind: frame}):
                raise TransportEnded("transport close", "the application has closed it", unsent=number == 0)

    async def close(self, *, at_once: bool) -> None:
        """Close the WebSocket; unless ``at_once``, wait up to one second for the application to return."""
        self._inward.shut()
        self._outward.shut()
        if not at_once:
            await asyncio.wait((self.serving,), timeout=_CLOSE_TIMEOUT_S)


class MemoryConnector:
    """A `waypost.client.transport.Connector` to an ASGI application in this process.

    Args:
        application: The ASGI application.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._transports: list[MemoryTransport] = []

    async def websocket(self, address: URL, headers: Mapping[str, str], max_message_bytes: int) -> MemoryTransport:
        """Open a WebSocket to the application.

        Args:
            address: The URL of the request.
            headers: The request's headers.
            max_message_bytes: The largest message that the client accepts.

        Returns:
            The open transport.

        Raises:
            TransportEnded: The application refused the WebSocket.
        """
        transport = MemoryTransport(self._application, _scope(address, headers), max_message_bytes)
        self._transports.append(transport)
        transport.serving.add_done_callback(lambda _: self._transports.remove(transport))
        await transport.opened()
        return transport

    async def close(self) -> None:
        """Close all transports, and wait up to one second for the application to return from each."""
        transports = list(self._transports)
        await asyncio.gather(*(transport.close(at_once=False) for transport in transports))
        for transport in transports:
            transport.serving.cancel()


def _scope(address: URL, headers: Mapping[str, str]) -> Message:
    texts = {"host": address.authority, "connection": "Upgrade", "upgrade": "websocket"} | {
        name.lower(): value for name, value in headers.items()
    }
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": address.path,
        "raw_path": address.raw_path.encode(),
        "query_string": address.raw_query_string.encode(),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in texts.items()],
        "client": (_ADDRESS, 1),
        "server": (_ADDRESS, 80),
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }
