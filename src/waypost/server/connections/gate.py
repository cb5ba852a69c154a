"""Who may open a connection: asked of every handshake that is right in itself, whatever transport it came over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from waypost.errors import ConnectionRefused
from waypost.protocol.handshake import Refuse
from waypost.server.connections.addresses import AddressLimits
from waypost.server.watching.hooks import report_failure

if TYPE_CHECKING:
    from waypost.server.basics.handshake import Handshake
    from waypost.server.watching.hooks import Hooks

__all__ = ["Gate"]


class Gate:
    """Decides on handshakes.

    Args:
        limits: How many connections one address may have, and open in a while.
        allow_request: The application's function, asked about each handshake; ``None`` lets all in.
        timeout_s: Seconds in which that function has to answer.
        hooks: The observers of what the application's function raises.

    Attributes:
        is_shut: Whether nobody is let in any more, as the server stops.
    """

    def __init__(
        self,
        limits: AddressLimits,
        allow_request: Callable[[Handshake], Awaitable[bool]] | None,
        timeout_s: float,
        hooks: Hooks,
    ) -> None:
        self.is_shut = False
        self._limits = limits
        self._allow_request = allow_request
        self._timeout_s = timeout_s
        self._hooks = hooks

    async def refusal(self, handshake: Handshake) -> Refuse | None:
        """Decide on a handshake; whoever asks opens the connection without waiting for anything else.

        Returns:
            How to refuse it; ``None`` lets it in. May be cancelled.
        """
        # The application is asked only for those that could come in; meanwhile others may have.
        refuse = self._own_refusal(handshake)
        if refuse is None and self._allow_request is not None:
            refuse = await self._ask_application(self._allow_request, handshake) or self._own_refusal(handshake)
        return refuse

    def _own_refusal(self, handshake: Handshake) -> Refuse | None:
        if self.is_shut:
            return Refuse(503, 3, "Server shutting down", "CLOSING")
        if not self._limits.allows(handshake.address):
            return Refuse(429, 4, "Too many connections", "ADDRESS_LIMIT")
        return None

    async def _ask_application(
        self, allow_request: Callable[[Handshake], Awaitable[bool]], handshake: Handshake
    ) -> Refuse | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                allowed = await allow_request(handshake)
        except ConnectionRefused as refusal:
            return Refuse(403, 4, refusal.message, "FORBIDDEN")
        except Exception as error:  # noqa: BLE001  # reported; who can't be asked has not allowed it
            report_failure(self._hooks, "allow_request", "", "", error)
            return Refuse(403, 4, "Forbidden", "ALLOW_REQUEST_FAILED")
        return None if allowed else Refuse(403, 4, "Forbidden", "FORBIDDEN")
