"""An Engine.IO server without Socket.IO above it: the seam for conformance suites of Engine.IO."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from waypost.protocol.engineio import Frame, PacketType
from waypost.server.basics.environment import Environment
from waypost.server.connections.connection import Connection
from waypost.server.hub import Hub
from waypost.server.options import Options, ServerOptions
from waypost.transports.asgi import AsgiTransport

__all__ = ["EngineApplication", "EngineClient"]


class EngineClient:
    """A client of an `EngineApplication`.

    Args:
        send: Sends a message.
        close: Closes the connection.
    """

    def __init__(self, send: Callable[[str | bytes], None], close: Callable[[], None]) -> None:
        self._send = send
        self._close = close

    def send(self, message: str | bytes) -> None:
        """Send a message.

        Args:
            message: Text or bytes, without the packet's type.

        Delivery: at most once, in order.
        """
        self._send(message)

    def close(self) -> None:
        """Close the connection after what was sent."""
        self._close()


class EngineApplication:
    """Serves Engine.IO like a `waypost.Server`, as an ASGI application, with a layer of yours above.

    Transports, heartbeats, upgrades and limits are those of the server; the messages are yours. Serve it as any ASGI
    application, such as ``uvicorn.run(EngineApplication(echo, path="/engine.io/"))``.

    Args:
        receive: Called on the event loop with the client and each of its messages: text or bytes.
        **options: Those of `waypost.Server`. The timers of a suite are ``ping_interval_s`` and ``ping_timeout_s``.

    Attributes:
        options: The options.

    Raises:
        ConfigurationError: An option has a value that it does not accept.
    """

    def __init__(
        self,
        receive: Callable[[EngineClient, str | bytes], object],
        **options: Unpack[ServerOptions],
    ) -> None:
        self.options = Options(**options)
        self._receive = receive
        self._hub = Hub(self.options, Environment())
        self._hub.engine.accept = self._accept
        self._asgi = AsgiTransport(self._hub, None)
        self._direct_polling = self._asgi.direct_polling  # `waypost serve` looks for it

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one ASGI scope."""
        await self._asgi(scope, receive, send)

    async def start(self) -> None:
        """Start the server; the first request or the lifespan does so, too."""
        await self._hub.start()

    async def close(self, *, drain_s: float | None = None, stop_timeout_s: float | None = None) -> None:
        """Stop the server.

        Args:
            drain_s: Seconds over which clients are closed; ``None`` for the option of that name.
            stop_timeout_s: Seconds in which handlers may finish; ``None`` for the option of that name.
        """
        await self._hub.close(drain_s, stop_timeout_s)

    def _accept(self, connection: Connection) -> _Layer:
        def send(message: str | bytes) -> None:
            connection.send((PacketType.MESSAGE + message if isinstance(message, str) else message,))

        client = EngineClient(send, lambda: connection.close("forced close"))
        return _Layer(client, self._receive)


class _Layer:
    """The `Receiver` of a connection whose messages are the application's."""

    def __init__(self, client: EngineClient, receive: Callable[[EngineClient, str | bytes], object]) -> None:
        self._client = client
        self._receive = receive

    def receive_message(self, message: Frame) -> None:
        self._receive(self._client, message[1:] if isinstance(message, str) else message)

    def receive_control(self) -> None:
        pass

    def heartbeat_sent(self) -> None:
        pass

    def heartbeat_answered(self) -> None:
        pass

    def probe_sent(self) -> None:
        pass

    def probe_answered(self) -> None:
        pass

    def heartbeat_came(self) -> None:
        pass

    def disconnect_all(self) -> None:
        pass

    def connection_closed(self, reason: str) -> None:
        pass
