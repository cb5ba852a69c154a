"""Decides who may open a connection, on every transport, after the handshake itself was found valid."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from waypost.errors import ConnectionRefused
from waypost.protocol.handshake import Refuse
from waypost.server.calling.faults import fault
from waypost.server.connections.addresses import AddressLimits
from waypost.server.watching.hooks import report_failure

if TYPE_CHECKING:
    from waypost.server.basics.handshake import Handshake
    from waypost.server.watching.hooks import Hooks

__all__ = ["Gate"]


class Gate:
    """Decides on handshakes.

    Args:
        limits: The limits for each client address.
        allow_request: The application's function for each handshake; ``None`` allows all.
        timeout_s: Seconds that the application's function has to answer.
        hooks: The observers of exceptions in the application's function.

    Attributes:
        is_shut: Whether all handshakes are refused, because the server stops.
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
        """Decide on a handshake. The caller must open the connection without another wait. May be cancelled.

        Returns:
            The refusal; ``None`` allows the connection.
        """
        # Checked before and after: the application is not asked in vain, and others may connect during its answer.
        refuse = self._own_refusal(handshake)
        if refuse is None and self._allow_request is not None:
            refuse = await self._ask_application(self._allow_request, handshake) or self._own_refusal(handshake)
        return refuse

    def _own_refusal(self, handshake: Handshake) -> Refuse | None:
        if self.is_shut:
            return Refuse(503, 3, "Server shutting down", "CLOSING")
        if not self._limits.allows(handshake):
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
        except BaseException as error:  # noqa: BLE001  # reported; without an answer the request is not allowed
            report_failure(self._hooks, "allow_request", "", "", fault(error))
            return Refuse(403, 4, "Forbidden", "ALLOW_REQUEST_FAILED")
        return None if allowed else Refuse(403, 4, "Forbidden", "FORBIDDEN")
