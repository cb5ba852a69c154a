"""Opens connections: tries the transports in order until one receives an open packet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from waypost.client.http import Http
from waypost.client.options import Options
from waypost.client.polling import PollingTransport
from waypost.client.transport import Transport, TransportEnded
from waypost.client.websocket import WebSocketTransport
from waypost.errors import ConnectFailed, MalformedPacket, ProtocolViolation
from waypost.logs import fields, get_logger
from waypost.protocol.engineio import Frame, OpenParameters, parse_open

__all__ = ["Dialer", "Opened"]

logger = get_logger("waypost.client")


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection that has received its open packet.

    Attributes:
        transport: The connection's transport.
        parameters: The parameters of the open packet.
        frames: Frames that arrived together with the open packet.
    """

    transport: Transport
    parameters: OpenParameters
    frames: Sequence[Frame]


class Dialer:
    """Opens the connections of one client to its server.

    Args:
        http: Makes the requests.
        options: The client's options.

    Attributes:
        upgraded: Whether the last connection moved from polling to a WebSocket; the engine sets it.
    """

    def __init__(self, http: Http, options: Options) -> None:
        self.upgraded = False
        self._http = http
        self._options = options

    async def open(self) -> Opened:
        """Open a connection. May be cancelled.

        Returns:
            The open connection.

        Raises:
            ConnectFailed: No transport received an open packet.
        """
        problems: list[str] = []
        code: int | None = None
        order = self._order()
        for name in order:
            try:
                return await self._try(name)
            except TransportEnded as end:
                logger.debug("no connection over %s: %s", name, end, extra=fields(code=name))
                problems.append(f"{name}: {end}" if len(order) > 1 else str(end))
                code = end.code or code
                if not end.reachable:
                    break
        self.upgraded = False
        raise ConnectFailed(self._http.endpoint.origin, "; ".join(problems), status=code)

    def _order(self) -> Sequence[str]:
        names = list(self._options.transports)
        if self._options.remember_upgrade and self.upgraded:
            names.sort(key=lambda name: name != "websocket")
        return names if self._options.try_all_transports else names[:1]

    async def _try(self, name: str) -> Opened:
        limit_s = self._options.connect_timeout_s
        try:
            async with asyncio.timeout(limit_s), AsyncExitStack() as until_open:
                transport = await self._begin(name)
                until_open.push_async_callback(transport.close, at_once=True)
                first, *frames = await transport.receive()
                if not isinstance(first, str):
                    raise MalformedPacket("an open packet", first)
                parameters = parse_open(first)
                if isinstance(transport, PollingTransport):
                    transport.join(parameters)
                until_open.pop_all()
                return Opened(transport, parameters, frames)
        except TimeoutError as error:
            raise TransportEnded("transport error", f"no answer within {limit_s:g} s") from error
        except ProtocolViolation as error:
            raise TransportEnded("parse error", str(error)) from error

    async def _begin(self, name: str) -> Transport:
        if name == "polling":
            return PollingTransport(self._http, self._options.max_payload_bytes)
        return await self.websocket()

    async def websocket(self, **parameters: str) -> Transport:
        """Open a WebSocket. May be cancelled.

        Args:
            **parameters: Parameters for the query, such as the ``sid`` of the session to upgrade.

        Returns:
            The transport.

        Raises:
            TransportEnded: The WebSocket could not be opened.
        """
        address = self._http.endpoint.address("websocket", **parameters)
        most, connector = self._options.max_payload_bytes, self._options.connector
        if connector is not None:
            return await connector.websocket(address, self._http.arguments["headers"], most)
        return await WebSocketTransport.open(self._http, address, most)
