"""Where an event comes from: what its handling needs to know of a client in a namespace."""

from __future__ import annotations

from typing import Any, Protocol

from waypost.protocol.codec import Codec
from waypost.server.emitting.outflow import Outflow
from waypost.server.events.registry import Registry
from waypost.typed.handlers import Handler

__all__ = ["EventSource"]


class EventSource(Protocol):
    """One client in one namespace, as those who handle its events need it. A `Channel` is one.

    Attributes:
        data_touched: Whether a handler may have changed the application's data since it was stored.
    """

    data_touched: bool

    @property
    def sid(self) -> str:
        """The id of its socket."""
        ...

    @property
    def namespace(self) -> str:
        """The name of its namespace."""
        ...

    @property
    def codec(self) -> Codec:
        """Writes its packets."""
        ...

    @property
    def out(self) -> Outflow:
        """What goes out to it: here, acks."""
        ...

    @property
    def socket(self) -> Any:
        """The `waypost.Socket`, which handlers get first."""
        ...

    @property
    def registry(self) -> Registry | None:
        """The handlers that the application has registered for it alone; ``None`` while there are none."""
        ...

    @property
    def middlewares(self) -> tuple[Handler, ...]:
        """The middleware that each of its events has to pass, in order."""
        ...

    @property
    def client_revision(self) -> int:
        """The revision of `protocol.extension` that the client speaks; 0 for official clients."""
        ...

    @property
    def connection_number(self) -> int:
        """The number of the connection that carries it; a later connection has a higher one."""
        ...

    @property
    def left_because(self) -> str | None:
        """Why it has ended; ``None`` while it has not."""
        ...

    def pause_reading(self) -> None:
        """Read no more from its connection."""
        ...

    def resume_reading(self) -> None:
        """Read from its connection again."""
        ...

    def forget_rooms(self) -> None:
        """Note that the application has been told that it is going."""
        ...

    async def save_data(self) -> None:
        """Store the application's data if a handler may have changed it."""
        ...
