"""Forwards a client's connection to a node on another machine, until one side ends it or the node gives it back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from waypost.logs import by_client, get_logger
from waypost.transports.handover.far_frames import AskBack, Back, Begin, Data, FarFrame, Last, frame, reader
from waypost.transports.handover.passed import Origin

__all__ = ["Forwarding"]

logger = get_logger("waypost.nodes")


class Forwarding:
    """One client's connection, from the beginning of a request on that is for another node.

    Args:
        outside: The client's connection. It is not read until `begin`.
        connections: The open connections, which a stopping server closes.
        back: Called with the client's connection and what was read of it, when the other node gives it back.
    """

    def __init__(
        self,
        outside: asyncio.Transport,
        connections: set[Any],
        back: Callable[[asyncio.Transport, bytes], None],
    ) -> None:
        self._outside = outside
        self._back = back
        self._inside: asyncio.Transport | None = None
        self._client = _Client(self, connections)
        self._is_over = False
        outside.pause_reading()
        outside.set_protocol(self._client)
        connections.add(self._client)

    @property
    def is_over(self) -> bool:
        """Whether the client is gone, or the other node has given the connection back."""
        return self._is_over

    def begin(self, inside: asyncio.Transport, origin: Origin, data: bytes) -> None:
        """Forward from now on.

        Args:
            inside: The connection to the other node.
            origin: Where the client's connection comes from.
            data: What was read of it.
        """
        self._inside = inside
        inside.set_protocol(_Node(self))
        inside.write(frame(Begin(origin, data)))
        inside.resume_reading()
        self._outside.resume_reading()

    def give_up(self) -> asyncio.Transport:
        """End the forwarding, and return the client's connection to its next server."""
        self._is_over = True
        self._client.let_go()
        return self._outside

    def refuse(self, response: bytes) -> None:
        """Answer the request, and close the connection."""
        if not self._outside.is_closing():
            self._outside.write(response)
            self._outside.close()

    # -- the client's side -----------------------------------------------------------------------------------

    def from_client(self, data: bytes) -> None:
        """Pass bytes of the client on."""
        if self._inside is not None and not self._inside.is_closing():
            self._inside.write(frame(Data(data)))

    def client_lost(self) -> None:
        """Close the connection to the other node after what is written."""
        self._is_over = True
        if self._inside is not None:
            self._inside.close()

    def shutdown(self) -> None:
        """Close the client's connection, because the server stops."""
        self._outside.close()

    def press_node(self, is_slow: bool) -> None:
        """Read no more from the other node while the client is slow."""
        _read(self._inside, not is_slow)

    # -- the other node's side -------------------------------------------------------------------------------

    def from_node(self, message: FarFrame) -> None:
        """Take a frame of the other node."""
        if self._is_over or self._inside is None:
            return
        if isinstance(message, Data):
            if not self._outside.is_closing():
                self._outside.write(message.data)
        elif isinstance(message, AskBack):
            self._outside.pause_reading()
            self._inside.write(frame(Last()))
        elif isinstance(message, Back):
            self._inside.close()
            self._back(self.give_up(), message.data)
        else:
            raise msgspec.DecodeError(f"a frame out of turn: {type(message).__name__}")

    def node_lost(self) -> None:
        """Close the client's connection after what is written."""
        if not self._is_over:
            self._outside.close()

    def press_client(self, is_slow: bool) -> None:
        """Read no more from the client while the other node is slow."""
        if not self._is_over:
            _read(self._outside, not is_slow)


def _read(transport: asyncio.Transport | None, wanted: bool) -> None:
    if transport is None or transport.is_closing():
        return
    if wanted:
        transport.resume_reading()
    else:
        transport.pause_reading()


class _Client(asyncio.Protocol):
    """The client's connection; one of uvicorn's open connections."""

    def __init__(self, forwarding: Forwarding, connections: set[Any]) -> None:
        self._forwarding = forwarding
        self._connections = connections

    def let_go(self) -> None:
        """Be none of the open connections any more."""
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        self._forwarding.from_client(data)

    def pause_writing(self) -> None:
        """Note that the client is slow."""
        self._forwarding.press_node(is_slow=True)

    def resume_writing(self) -> None:
        """Note that the client takes bytes again."""
        self._forwarding.press_node(is_slow=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self.let_go()
        self._forwarding.client_lost()

    def shutdown(self) -> None:
        """Close the connection; called by uvicorn when the server stops."""
        self._forwarding.shutdown()


class _Node(asyncio.Protocol):
    """The connection to the other node."""

    def __init__(self, forwarding: Forwarding) -> None:
        self._forwarding = forwarding
        self._reader = reader()

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        try:
            for messages in self._reader.feed(data):
                for message in messages:
                    self._forwarding.from_node(message)
        except msgspec.MsgspecError as problem:
            logger.warning(
                "closed a forwarded connection, on which came what no node sends: %s", problem, extra=by_client()
            )
            self._forwarding.node_lost()

    def pause_writing(self) -> None:
        """Note that the other node is slow."""
        self._forwarding.press_client(is_slow=True)

    def resume_writing(self) -> None:
        """Note that the other node takes bytes again."""
        self._forwarding.press_client(is_slow=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self._forwarding.node_lost()
