"""The fast path: a WebSocket protocol for uvicorn that passes frames to the Engine.IO session without ASGI.

The handshake uses ASGI, so mounts and middleware work as usual. After it, an application that knows the extension
`FRAMES` of the scope takes the frames directly; other applications get ASGI messages. uvicorn's own protocol handles
all requests that are no handshake of Engine.IO, and clients that ask for compression where it is enabled.

Source: ASGI 3 ("WebSocket", with the extension "websocket.http.response"), RFC 6455, section 4.2.
"""

from __future__ import annotations

import asyncio
import binascii
from base64 import b64decode
from collections import deque
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import uvicorn
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState

from waypost.logs import by_client, get_logger
from waypost.protocol.engineio import Frame
from waypost.protocol.websocket import GOING_AWAY, FrameEncoder, accept_key
from waypost.server.basics.slices import Slices
from waypost.server.basics.traffic import Traffic
from waypost.server.basics.write_turn import WriteTurn
from waypost.transports.asgi_websocket import FRAMES
from waypost.transports.frame_carrier import FrameCarrier, FrameTaker
from waypost.transports.handover.origins import origin_of
from waypost.transports.handover.passed import Origin
from waypost.transports.http_answer import Message, Scope
from waypost.transports.uvicorn_protocols import GuardedWebSocket

__all__ = ["DirectWebSocket"]

logger = get_logger("waypost.websocket")

_INTERNAL_ERROR = 1011
_STATUSES = frozenset(HTTPStatus)
_KEY_BYTES = 16
_MAX_HEADERS = 128
_MAX_WAITING = 32
"""The number of messages waiting for an ASGI application at which reading from the network pauses."""

_Headers = list[tuple[bytes, bytes]]


class DirectWebSocket(asyncio.Protocol):
    """One WebSocket of uvicorn: ``uvicorn.run(app, ws=waypost.DirectWebSocket)``.

    Args:
        config: uvicorn's configuration.
        server_state: The state that uvicorn's connections share.
        app_state: The state that the application's lifespan put into its scopes.
        may_compress: Whether Engine.IO clients that ask for compression get it, if uvicorn's configuration has it on.
            Other WebSockets of the application get it by that configuration alone.
    """

    _origin: Origin | None = None

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        may_compress: bool = False,
    ) -> None:
        self._config = config
        self._may_compress = may_compress and config.ws_per_message_deflate
        self._server_state = server_state
        self._app_state = app_state
        self._transport: asyncio.Transport
        self._fallback: GuardedWebSocket | None = None
        self._carrier: FrameCarrier | None = None
        self._mailbox = _Mailbox()
        self._key = ""
        self._response: tuple[int, _Headers, bytes] | None = None
        self._is_answered = False
        self._is_handed_over = False

    # -- uvicorn's side -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over from uvicorn's HTTP protocol."""
        self._transport = cast("asyncio.Transport", transport)
        self._server_state.connections.add(cast("Any", self))

    def data_received(self, data: bytes) -> None:
        """Take the request, which uvicorn passes whole. More bytes before the answer close the connection."""
        if self._fallback is not None:
            self._fallback.data_received(data)
        elif self._key or self._is_answered:
            logger.info(
                "closed a WebSocket that spoke before its handshake was answered: its client is at fault",
                extra=by_client(),
            )
            self._transport.abort()
        else:
            self._begin(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the client disconnected during the handshake."""
        self._server_state.connections.discard(cast("Any", self))
        if self._fallback is not None:
            self._fallback.connection_lost(exc)
        self._is_answered = True
        self._mailbox.lose_transport("transport close")

    def pause_writing(self) -> None:
        """Do nothing: the response to a handshake is short."""

    def resume_writing(self) -> None:
        """Do nothing; see `pause_writing`."""

    def shutdown(self) -> None:
        """Refuse the handshake with status 503, because the server stops; called by uvicorn."""
        if not self._is_answered:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, [], b"")
        self._transport.close()

    def _begin(self, request: bytes) -> None:
        target, headers = _read_head(request)
        if not self._can_serve(target, headers):
            self._fall_back(request)
            return
        scope = self._scope(target, headers)
        task = asyncio.get_running_loop().create_task(self._run(scope))
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    def _can_serve(self, target: bytes, headers: _Headers) -> bool:
        if b"EIO=" not in target.partition(b"?")[2] or len(headers) > _MAX_HEADERS:
            return False
        if self._may_compress and b"permessage-deflate" in _value(headers, b"sec-websocket-extensions"):
            return False
        key = _value(headers, b"sec-websocket-key")
        tokens = [token.strip() for token in _value(headers, b"connection").lower().split(b",")]
        if not (
            b"upgrade" in tokens  # Firefox sends "keep-alive, Upgrade"
            and _value(headers, b"upgrade").lower() == b"websocket"
            and _value(headers, b"sec-websocket-version") == b"13"
            and _is_key(key)
        ):
            return False
        self._key = key.decode()
        return True

    def _fall_back(self, request: bytes) -> None:
        self._server_state.connections.discard(cast("Any", self))
        fallback = self._fallback = GuardedWebSocket(self._config, self._server_state, self._app_state)
        fallback._origin = self._origin  # noqa: SLF001  # its own kind
        fallback.connection_made(self._transport)
        fallback.data_received(request)
        # After this call returns, uvicorn sets `self` as the transport's protocol; the fallback must come later.
        asyncio.get_running_loop().call_soon(self._transport.set_protocol, fallback)

    def _scope(self, target: bytes, headers: _Headers) -> Scope:
        path, _, query = target.partition(b"?")
        root, origin = self._config.root_path, self._origin or origin_of(self._transport)
        protocols = _value(headers, b"sec-websocket-protocol").decode("latin-1")
        return {
            "type": "websocket",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if origin.secure else "ws",
            "server": origin.server,
            "client": origin.client,
            "root_path": root,
            "path": root + unquote(path.decode("ascii")),
            "raw_path": root.encode("ascii") + path,
            "query_string": query,
            "headers": headers,
            "subprotocols": [name.strip() for name in protocols.split(",") if name.strip()],
            "state": self._app_state.copy(),
            "extensions": {"websocket.http.response": {}, FRAMES: self._hand_over},
        }

    # -- the application's side -----------------------------------------------------------------------------

    async def _run(self, scope: Scope) -> None:
        try:
            await self._config.loaded_app(scope, self._mailbox.get, self._send)
        except ClientDisconnected:
            logger.debug("a client went during its handshake")
        except Exception:
            logger.exception("the application failed in a WebSocket")
            if self._carrier is not None and not self._is_handed_over:
                self._carrier.close_with(_INTERNAL_ERROR)
        if not self._is_answered:
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, [], b"Internal Server Error")
        elif self._carrier is not None and not self._is_handed_over:
            self._carrier.close()

    def _hand_over(
        self, taker: FrameTaker, encoder: FrameEncoder, turn: WriteTurn, slices: Slices, traffic: Traffic
    ) -> FrameCarrier:
        """Pass all frames to a taker from now on, starting with those that arrived already.

        The application may return afterwards. The WebSocket stays open until the carrier closes it.

        Args:
            taker: The new receiver of the frames.
            encoder: The encoder that all WebSockets of an application share, so that a broadcast is encoded once.
            turn: Collects the writes of one iteration of the event loop; shared in the same way.
            slices: The time that their input has; shared in the same way.
            traffic: Counts their bytes; shared in the same way.

        Returns:
            The carrier to write to.

        Raises:
            RuntimeError: The handshake has not been accepted.
        """
        if self._carrier is None:
            raise RuntimeError("accept the WebSocket before taking its frames")
        self._is_handed_over = True
        self._carrier.share(encoder, turn, slices, traffic)
        self._carrier.serve(taker, self._mailbox.empty())
        if self._mailbox.is_lost:
            taker.lose_transport("transport close", client_left=self._carrier.close_code == GOING_AWAY)
        return self._carrier

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if self._carrier is not None:
            await self._send_open(self._carrier, message)
        elif self._is_answered:
            raise ClientDisconnected
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self._answer(HTTPStatus.FORBIDDEN, [], b"")
        elif kind == "websocket.http.response.start":
            self._response = message["status"], list(message.get("headers", ())), b""
        elif kind == "websocket.http.response.body" and self._response is not None:
            status, headers, body = self._response
            self._response = status, headers, body + message.get("body", b"")
            if not message.get("more_body", False):
                self._answer(*self._response)
        else:
            raise RuntimeError(f"expected an answer to the handshake, got {kind!r}")

    async def _send_open(self, carrier: FrameCarrier, message: Message) -> None:
        kind = message["type"]
        if self._mailbox.is_lost:
            raise ClientDisconnected
        if kind == "websocket.send":
            text = message.get("text")
            carrier.write((message["bytes"] if text is None else text,))
            await self._mailbox.wait_until_ready(carrier)
        elif kind == "websocket.close":
            carrier.close_with(message.get("code", 1000), message.get("reason") or "")
            self._mailbox.lose_transport("transport close")
        else:
            raise RuntimeError(f"expected websocket.send or websocket.close, got {kind!r}")

    def _accept(self, message: Message) -> None:
        headers = [
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-accept", accept_key(self._key).encode()),
            *message.get("headers", ()),
        ]
        if protocol := message.get("subprotocol"):
            headers.append((b"sec-websocket-protocol", protocol.encode()))
        self._write_head(HTTPStatus.SWITCHING_PROTOCOLS, headers)
        connections = self._server_state.connections
        connections.discard(cast("Any", self))
        self._carrier = FrameCarrier(self._transport, self._config.ws_max_size, connections)
        self._carrier.serve(self._mailbox)
        self._mailbox.carrier = self._carrier
        self._transport.set_protocol(self._carrier)

    def _answer(self, status: int, headers: _Headers, body: bytes) -> None:
        if self._transport.is_closing():
            return
        # The application may have set the length itself; clients refuse a response with two lengths.
        kept = [header for header in headers if header[0].lower() not in (b"content-length", b"connection")]
        length = (b"content-length", str(len(body)).encode())
        self._write_head(status, [*kept, length, (b"connection", b"close")])
        self._transport.write(body)
        self._transport.close()

    def _write_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._is_answered = True
        phrase = HTTPStatus(status).phrase if status in _STATUSES else ""
        lines = [f"HTTP/1.1 {int(status)} {phrase}".encode()]
        lines += [b"%b: %b" % header for header in (*self._server_state.default_headers, *headers)]
        self._transport.write(b"\r\n".join((*lines, b"", b"")))


class _Mailbox:
    """The messages for an ASGI application, and at the end the message that the WebSocket is lost.

    Attributes:
        carrier: The carrier that fills the mailbox, after the handshake.
        is_lost: Whether the WebSocket is lost.
    """

    def __init__(self) -> None:
        self.carrier: FrameCarrier | None = None
        self.is_lost = False
        self._messages: deque[Message] = deque([{"type": "websocket.connect"}])
        self._changed = asyncio.Event()

    async def get(self) -> Message:
        """Await the next message: ASGI's receive."""
        while not self._messages:
            self._changed.clear()
            await self._changed.wait()
        if len(self._messages) == _MAX_WAITING and self.carrier is not None:
            self.carrier.resume_reading()
        return self._messages.popleft()

    async def wait_until_ready(self, carrier: FrameCarrier) -> None:
        """Wait until the client has read enough of the written frames."""
        while not carrier.is_ready and not self.is_lost:
            self._changed.clear()
            await self._changed.wait()

    def empty(self) -> list[Frame]:
        """Return the frames that the application has not taken, for a taker of all later frames."""
        frames = [
            each.get("text", each.get("bytes")) for each in self._messages if each["type"] == "websocket.receive"
        ]
        if len(self._messages) >= _MAX_WAITING and self.carrier is not None:
            self.carrier.resume_reading()
        return frames

    def receive(self, frame: Frame) -> None:
        """Take a frame."""
        self._messages.append({"type": "websocket.receive", "text" if isinstance(frame, str) else "bytes": frame})
        if len(self._messages) == _MAX_WAITING and self.carrier is not None:
            self.carrier.pause_reading()
        self._changed.set()

    def flush(self) -> None:
        """Note that the carrier accepts frames again."""
        self._changed.set()

    def lose_transport(self, _reason: str, *, client_left: bool = False, client_closed: bool = False) -> None:
        """Note that the WebSocket is lost."""
        if not self.is_lost:
            self.is_lost = True
            code = 1006 if self.carrier is None else self.carrier.close_code
            self._messages.append({"type": "websocket.disconnect", "code": code})
            self._changed.set()


def _read_head(request: bytes) -> tuple[bytes, _Headers]:
    line, *lines = request.split(b"\r\n\r\n", 1)[0].split(b"\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in (each.partition(b":") for each in lines)]
    return line.split(b" ")[1], headers


def _value(headers: _Headers, name: bytes) -> bytes:
    return b", ".join(value for each, value in headers if each == name)


def _is_key(key: bytes) -> bool:
    try:
        return len(b64decode(key, validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False
