"""Catch-alls: handlers that see each event of clients, and listeners that see each event to clients."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from waypost.errors import ConfigurationError
from waypost.protocol.codec import Codec, EncodedEvent
from waypost.typed.handlers import Handler, check_handler

__all__ = ["CatchAlls"]


class CatchAlls:
    """The catch-alls of a namespace or of one socket.

    Args:
        leading: Whether they get the socket first: 1 or 0.

    Attributes:
        incoming: Handlers of all events from clients.
        outgoing: Listeners to all events to clients.
    """

    __slots__ = ("_leading", "incoming", "outgoing")

    def __init__(self, leading: int) -> None:
        self._leading = leading
        self.incoming: tuple[Handler, ...] = ()
        self.outgoing: tuple[Handler, ...] = ()

    def add_incoming(self, handler: Callable[..., Any]) -> None:
        """Add a handler; raises `ConfigurationError` if it can't be called."""
        self.incoming = (*self.incoming, check_handler("all events", handler, self._leading))

    def remove_incoming(self, handler: Callable[..., Any] | None) -> None:
        """Remove a handler, or all."""
        self.incoming = tuple(one for one in self.incoming if handler is not None and one.function != handler)

    def add_outgoing(self, listener: Callable[..., Any]) -> None:
        """Add a listener; raises `ConfigurationError` if it can't be called, or would wait."""
        checked = check_handler("all outgoing events", listener, self._leading)
        if checked.is_async:
            # It is called in the midst of sending, where nothing may be awaited.
            raise ConfigurationError("handler of all outgoing events", listener, "a plain def")
        self.outgoing = (*self.outgoing, checked)

    def remove_outgoing(self, listener: Callable[..., Any] | None) -> None:
        """Remove a listener, or all."""
        self.outgoing = tuple(one for one in self.outgoing if listener is not None and one.function != listener)

    def tell_outgoing(
        self, socket: Any, event: EncodedEvent, codec: Codec, failed: Callable[[Exception], None]
    ) -> None:
        """Tell the listeners of an event that goes out to a socket.

        Args:
            socket: The socket.
            event: The event.
            codec: Reads the event.
            failed: Told of what a listener raises.
        """
        arguments = ((socket,) if self._leading else ()) + _read(event, codec)
        for listener in self.outgoing:
            try:
                listener.function(*listener.fitting(arguments))
            except Exception as error:  # noqa: BLE001  # reported; its fault must not keep an event from a client
                failed(error)


def _read(event: EncodedEvent, codec: Codec) -> tuple[Any, ...]:
    """Return an event's name and arguments, as they were before it was encoded or stored."""
    decoder = codec.make_decoder(max_attachments=sys.maxsize, max_attachment_bytes=sys.maxsize)
    packets = [packet for frame in event.frames() if (packet := decoder.feed(frame)) is not None]
    return tuple(packets[0].data)
