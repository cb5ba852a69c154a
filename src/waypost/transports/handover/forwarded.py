"""A client's connection that a node on another machine has accepted, and forwards to this one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

from waypost.logs import by_client, get_logger
from waypost.transports.handover.far_frames import AskBack, Back, Begin, Data, FarFrame, Last, frame, reader
from waypost.transports.handover.passed import Origin, Passed

__all__ = ["ForwardedTransport", "take_forwarded"]

logger = get_logger("waypost.nodes")

_BEGIN_S: Final = 10.0
_PIECE_BYTES: Final = 1 << 20
# The other node stops reading from the client when it is asked for the end; so much was on its way.
_MOST_BACK_BYTES: Final = 8 << 20


class ForwardedTransport(asyncio.Transport):
    """The connection, as uvicorn's protocols use it.

    Args:
        line: The connection to the other node.
        origin: Where the client's connection comes from.
    """

    def __init__(self, line: asyncio.Transport, origin: Origin) -> None:
        super().__init__()
        self._line = line
        self._origin = origin
        self._protocol: asyncio.Protocol | None = None
        self._unread: bytearray | None = None

    # -- asyncio's transport ---------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the client's connection; there is no socket."""
        found = {"peername": self._origin.client, "sockname": self._origin.server}.get(name)
        return default if found is None else found

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set who gets what the client sends."""
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return who gets what the client sends."""
        assert self._protocol is not None
        return self._protocol

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send bytes to the client."""
        view = memoryview(data)
        for begin in range(0, len(view), _PIECE_BYTES):
            self._line.write(frame(Data(bytes(view[begin : begin + _PIECE_BYTES]))))

    def close(self) -> None:
        """Close the connection when all is written."""
        self._line.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._line.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or given back."""
        return self._unread is not None or self._line.is_closing()

    def pause_reading(self) -> None:
        """Read nothing for now."""
        if self._unread is None:
            self._line.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if not self._line.is_closing():
            self._line.resume_reading()

    def is_reading(self) -> bool:
        """Whether it is read."""
        return self._line.is_reading()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait for the network."""
        return self._line.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the protocol is told to pause."""
        self._line.set_write_buffer_limits(high, low)

    def can_write_eof(self) -> bool:
        """Return False: an end is the connection's."""
        return False

    # -- its ends --------------------------------------------------------------------------------------------

    def give_back(self, unread: bytes) -> None:
        """Return the connection to the node that forwards it, at the beginning of a request for another one.

        Args:
            unread: What was read of the request, and of those after it.
        """
        self._unread = bytearray(unread)
        self._protocol = None
        self._line.write(frame(AskBack()))
        self.resume_reading()

    def take(self, data: bytes) -> None:
        """Take bytes of the client."""
        if self._unread is not None:
            self._unread += data
            if len(self._unread) > _MOST_BACK_BYTES:
                self._line.abort()
        elif self._protocol is not None:
            self._protocol.data_received(data)

    def end_back(self) -> None:
        """Return what was not read: no more comes of the client."""
        if self._unread is not None:
            self._line.write(frame(Back(bytes(self._unread))))
            self._line.close()

    def press(self, is_slow: bool) -> None:
        """Tell the protocol whether the network is slow."""
        if self._protocol is not None:
            if is_slow:
                self._protocol.pause_writing()
            else:
                self._protocol.resume_writing()

    def lose(self, error: Exception | None) -> None:
        """Tell the protocol that the connection is lost."""
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(error)


class _Line(asyncio.Protocol):
    """Takes what the other node sends.

    Args:
        line: The connection to the other node.
        begin: Makes the protocol of the client's connection.
    """

    def __init__(self, line: asyncio.Transport, begin: Callable[[Passed], asyncio.Protocol]) -> None:
        self._line = line
        self._begin = begin
        self._reader = reader()
        self._client: ForwardedTransport | None = None
        self._timer = asyncio.get_running_loop().call_later(_BEGIN_S, line.abort)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        try:
            for messages in self._reader.feed(data):
                for message in messages:
                    self._take(message)
        except msgspec.MsgspecError as problem:
            logger.warning(
                "closed a forwarded connection, on which came what no node sends: %s", problem, extra=by_client()
            )
            self._line.abort()

    def _take(self, message: FarFrame) -> None:
        client = self._client
        if client is None and isinstance(message, Begin):
            self._timer.cancel()
            self._client = client = ForwardedTransport(self._line, message.origin)
            protocol = self._begin(Passed(message.data, message.origin))
            client.set_protocol(protocol)
            protocol.connection_made(client)
        elif client is not None and isinstance(message, Data):
            client.take(message.data)
        elif client is not None and isinstance(message, Last):
            client.end_back()
        else:
            raise msgspec.DecodeError(f"a frame out of turn: {type(message).__name__}")

    def pause_writing(self) -> None:
        """Note that the network is slow."""
        if self._client is not None:
            self._client.press(is_slow=True)

    def resume_writing(self) -> None:
        """Note that the network takes bytes again."""
        if self._client is not None:
            self._client.press(is_slow=False)

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end."""
        self._timer.cancel()
        if self._client is not None:
            self._client.lose(error)


def take_forwarded(line: asyncio.Transport, begin: Callable[[Passed], asyncio.Protocol]) -> None:
    """Serve a client's connection that another node forwards.

    Args:
        line: The connection to the other node.
        begin: Makes the protocol of the client's connection.
    """
    line.set_protocol(_Line(line, begin))
