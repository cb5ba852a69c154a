"""The source of an event: a client in a namespace, as the handling of events sees it."""

from __future__ import annotations

from typing import Any, Protocol

from waypost.protocol.codec import Codec
from waypost.server.basics.handshake import Handshake
from waypost.server.basics.slices import Slices
from waypost.server.emitting.outflow import Outflow
from waypost.server.events.pending import Pending
from waypost.server.events.registry import Registry
from waypost.typed.handlers import Handler

__all__ = ["EventSource"]


class EventSource(Protocol):
    """One client in one namespace, as the handling of its events sees it. A `Channel` is one.

    Attributes:
        data_touched: Whether a handler may have changed the application's data since it was stored.
        handshake: The client's request for the connection.
        pending: The bytes of its connection's events that were not handled yet.
    """

    data_touched: bool
    handshake: Handshake
    pending: Pending

    @property
    def sid(self) -> str:
        """The socket's id."""
        ...

    @property
    def namespace(self) -> str:
        """The namespace's name."""
        ...

    @property
    def codec(self) -> Codec:
        """The codec of its packets."""
        ...

    @property
    def out(self) -> Outflow:
        """Its outgoing packets; here, acknowledgements."""
        ...

    @property
    def socket(self) -> Any:
        """The `waypost.Socket`, the first argument of handlers."""
        ...

    @property
    def registry(self) -> Registry | None:
        """The handlers of this socket alone; ``None`` without any."""
        ...

    @property
    def middlewares(self) -> tuple[Handler, ...]:
        """The middleware that each of its events has to pass, in order."""
        ...

    @property
    def slices(self) -> Slices:
        """The time that its events share with the input of all clients."""
        ...

    @property
    def client_revision(self) -> int:
        """The revision of `protocol.extension` that the client speaks; 0 for official clients."""
        ...

    @property
    def connection_number(self) -> int:
        """The number of its connection; a later connection has a higher number."""
        ...

    @property
    def left_because(self) -> str | None:
        """The reason of its end; ``None`` before the end."""
        ...

    def pause_reading(self) -> None:
        """Stop reading from its connection."""
        ...

    def resume_reading(self) -> None:
        """Read from its connection again."""
        ...

    def release(self) -> None:
        """Let go of everything that refers back to the client: its last handler has been called."""
        ...

    def forget_rooms(self) -> None:
        """Note that the application was notified of the disconnect."""
        ...

    async def tell_ended(self) -> None:
        """Tell the application of the end of its session, if the client is lost and can't come back."""
        ...

    async def save_data(self) -> None:
        """Store the application's data if a handler may have changed it."""
        ...
