"""The end of a socket, as the application is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from waypost.logs import fields, get_logger

if TYPE_CHECKING:
    from waypost.server.events.handling import Handling
    from waypost.server.events.registry import Registry
    from waypost.server.events.source import EventSource

__all__ = ["Farewell"]

logger = get_logger("waypost.socket")


class Farewell:
    """The disconnect handlers of one socket that has ended. They run once.

    They run after the handlers of the socket's events; ``handler_grace_s`` after the end at the latest, beside a
    handler that still runs.

    Args:
        source: The client.
        handling: Calls the application's code of the namespace.
        reason: The reason of the end.
        running: Returns the names of the events whose handlers run.
    """

    __slots__ = ("_handling", "_has_begun", "_is_over", "_reason", "_running", "_source", "_step", "_timer")

    def __init__(
        self, source: EventSource, handling: Handling, reason: str, running: Callable[[], list[str]]
    ) -> None:
        self._source = source
        self._handling = handling
        self._reason = reason
        self._running = running
        self._has_begun = False
        self._is_over = False
        self._step: asyncio.Event | None = None
        self._timer: asyncio.TimerHandle | None = None

    def limit(self) -> None:
        """Run the handlers after the time of grace at the latest. A second call does nothing."""
        if self._timer is None and not self._has_begun:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._handling.handler_grace_s, self._lose_patience)

    def hurry(self) -> None:
        """Run the handlers now, beside those that still run."""
        if not self._has_begun:
            self._handling.keep_task(asyncio.get_running_loop().create_task(self.tell()))

    def call_off(self) -> None:
        """Note that the handlers are not to be called any more: the client was not let in, or the server stops."""
        if not self._has_begun:
            self._begin()
            self._finish()

    async def tell(self) -> None:
        """Run the handlers. A later call waits until they have ended."""
        if self._has_begun:
            while not self._is_over:
                await self._next_step()
            return
        self._begin()
        try:
            for moment in ("disconnecting", "disconnect"):
                for registry in self._registries:
                    handler = registry.get(moment)
                    if handler is not None:
                        await self._handling.run(handler, moment, self._source, self._reason)
                self._source.forget_rooms()
            await self._source.tell_ended()
        finally:
            self._finish()

    async def over(self) -> None:
        """Wait until the handlers have ended, but for no longer than ``handler_grace_s``. May be cancelled."""
        while not self._has_begun:
            await self._next_step()
        try:
            async with asyncio.timeout(self._handling.handler_grace_s):
                while not self._is_over:
                    await self._next_step()
        except TimeoutError:
            logger.warning(
                "the handler of 'disconnect' still runs for socket %s in %s after %g s (handler_grace_s): the client "
                "is connected again meanwhile",
                self._source.sid,
                self._source.namespace,
                self._handling.handler_grace_s,
                extra=fields(
                    event="disconnect",
                    sid=self._source.sid,
                    namespace=self._source.namespace,
                    option="handler_grace_s",
                ),
            )

    @property
    def _registries(self) -> tuple[Registry, ...]:
        own, shared = self._source.registry, self._handling.registries
        return shared if own is None else (own, *shared)

    def _lose_patience(self) -> None:
        logger.warning(
            "the handler of %s still runs for socket %s in %s, %g s after the end of its connection "
            "(handler_grace_s): its disconnect is told meanwhile",
            " and ".join(map(repr, self._running())) or "an event",
            self._source.sid,
            self._source.namespace,
            self._handling.handler_grace_s,
            extra=fields(sid=self._source.sid, namespace=self._source.namespace, option="handler_grace_s"),
        )
        self.hurry()

    def _begin(self) -> None:
        self._has_begun = True
        if self._timer is not None:
            self._timer.cancel()
        self._advance()

    def _finish(self) -> None:
        self._is_over = True
        self._advance()

    def _advance(self) -> None:
        if self._step is not None:
            self._step.set()
            self._step = None

    async def _next_step(self) -> None:
        if self._step is None:
            self._step = asyncio.Event()
        await self._step.wait()
