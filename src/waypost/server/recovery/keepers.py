"""Opens the keeper of each namespace's sessions, while the store is open."""

from __future__ import annotations

import asyncio

from waypost.errors import StoreClosed
from waypost.server.recovery.absences import Absences
from waypost.server.recovery.options import Recovery
from waypost.server.recovery.recovery import Keeper
from waypost.server.services import Services

__all__ = ["Keepers"]


class Keepers:
    """Opens the `Keeper` of each namespace.

    Args:
        services: The services that the server's parts share.
        options: The recovery options; ``None`` with recovery off.

    Attributes:
        absences: The sessions whose clients are away.
    """

    __slots__ = ("_failures", "_options", "_services", "_turns", "absences")

    def __init__(self, services: Services, options: Recovery | None) -> None:
        self._services = services
        self._options = options
        self._failures = 0
        self._turns = self._new_turns()
        self.absences = Absences(1 if options is None else options.max_away_per_address)

    async def open(self, namespace: str) -> Keeper | None:
        """Open a namespace's sessions.

        Returns:
            The keeper; ``None`` with recovery off.

        Raises:
            StorageError: The store is not open, or was closed in the meantime.
        """
        options = self._options
        if options is None:
            return None
        failures = self._failures
        journal = await self._services.store.journal(namespace)
        if failures != self._failures:
            raise StoreClosed(self._services.store.capabilities.description)
        return Keeper(journal, options, self._services, self._turns, self.absences)

    def forget_all(self) -> None:
        """Note that the store was closed, or did not open completely; pending calls of `open` raise `StoreClosed`."""
        self._failures += 1
        self.absences.forget_all()
        self._turns = self._new_turns()

    def _new_turns(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(1 if self._options is None else self._options.concurrent_replays)
