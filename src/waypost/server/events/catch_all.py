"""Catch-alls: handlers for all incoming events, and listeners for all outgoing events."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from waypost.errors import ConfigurationError
from waypost.protocol.codec import Codec, EncodedEvent
from waypost.server.calling.faults import fault
from waypost.server.events.foreign_forms import check_catch_all
from waypost.typed.handlers import Handler, check_handler

__all__ = ["CatchAlls"]


class CatchAlls:
    """The catch-alls of a namespace or of one socket.

    Args:
        leading: The number of arguments before the event's own: 1 if handlers get the socket, else 0.

    Attributes:
        incoming: The handlers for all events from clients.
        outgoing: The listeners for all events to clients.
    """

    __slots__ = ("_leading", "incoming", "outgoing")

    def __init__(self, leading: int) -> None:
        self._leading = leading
        self.incoming: tuple[Handler, ...] = ()
        self.outgoing: tuple[Handler, ...] = ()

    def add_incoming(self, handler: Callable[..., Any]) -> None:
        """Add a handler.

        Raises:
            ConfigurationError: The handler can't be called that way.
        """
        checked = check_handler("all events", handler, self._leading)
        check_catch_all(checked)
        self.incoming = (*self.incoming, checked)

    def remove_incoming(self, handler: Callable[..., Any] | None) -> None:
        """Remove a handler; ``None`` removes all."""
        self.incoming = tuple(one for one in self.incoming if handler is not None and one.function != handler)

    def add_outgoing(self, listener: Callable[..., Any]) -> None:
        """Add a listener.

        Raises:
            ConfigurationError: The listener can't be called that way, or is ``async``.
        """
        checked = check_handler("all outgoing events", listener, self._leading)
        check_catch_all(checked)
        if checked.is_async:
            # Listeners are called while the server sends, where it can't await.
            raise ConfigurationError("handler of all outgoing events", listener, "a plain def")
        self.outgoing = (*self.outgoing, checked)

    def remove_outgoing(self, listener: Callable[..., Any] | None) -> None:
        """Remove a listener; ``None`` removes all."""
        self.outgoing = tuple(one for one in self.outgoing if listener is not None and one.function != listener)

    def tell_outgoing(
        self, socket: Any, event: EncodedEvent, codec: Codec, failed: Callable[[BaseException], None]
    ) -> None:
        """Call the listeners for an outgoing event.

        Args:
            socket: The socket.
            event: The event.
            codec: The codec that decodes the event.
            failed: Called with each exception that a listener raises.
        """
        arguments = ((socket,) if self._leading else ()) + _read(event, codec)
        for listener in self.outgoing:
            try:
                listener.function(*listener.fitting(arguments))
            except BaseException as error:  # noqa: BLE001  # reported; a listener must not keep an event from a client
                failed(fault(error))


def _read(event: EncodedEvent, codec: Codec) -> tuple[Any, ...]:
    """Return an event's name and arguments, decoded from its frames."""
    decoder = codec.make_decoder(max_attachments=sys.maxsize, max_attachment_bytes=sys.maxsize)
    packets = [packet for frame in event.frames() if (packet := decoder.feed(frame)) is not None]
    return tuple(packets[0].data)
