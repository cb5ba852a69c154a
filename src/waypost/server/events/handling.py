"""How the application's code of one namespace is called, and what becomes of what it raises."""

from __future__ import annotations

from functools import partial
from typing import Any

from waypost.protocol.codec import EncodedEvent
from waypost.server.events.registry import Registry
from waypost.server.events.repeats import Repeats
from waypost.server.events.source import EventSource
from waypost.server.services import Services
from waypost.server.watching.hooks import report_failure
from waypost.typed.handlers import Handler

__all__ = ["Handling"]


class Handling:
    """How the application's code of one namespace is called.

    Args:
        namespace: The namespace's name.
        registries: The handlers of the namespace, then those of its parent: the order in which they are looked for.
        services: What the server's parts share.
        repeats: The events that clients send again until they are answered.
        max_pending_events: How many events of one socket may wait for their handlers.
        concurrent_handlers: How many concurrent handlers of one socket may run at the same time.

    Attributes:
        runners: The tasks in which handlers run.
        threads: The threads in which ``def`` handlers run.
        keep_task: Holds on to a task until it is done.
    """

    __slots__ = (
        "_hooks",
        "_namespace",
        "concurrent_handlers",
        "keep_task",
        "max_pending_events",
        "registries",
        "repeats",
        "runners",
        "threads",
    )

    def __init__(
        self,
        namespace: str,
        registries: tuple[Registry, ...],
        services: Services,
        repeats: Repeats,
        *,
        max_pending_events: int,
        concurrent_handlers: int,
    ) -> None:
        self.registries = registries
        self.repeats = repeats
        self.max_pending_events = max_pending_events
        self.concurrent_handlers = concurrent_handlers
        self.runners = services.runners
        self.threads = services.threads
        self.keep_task = services.keep_task
        self._hooks = services.hooks
        self._namespace = namespace

    # -- handlers -------------------------------------------------------------------------------------------

    def handlers_of(self, moment: str) -> list[Handler]:
        """Return the handlers of something that the server itself calls: the parent's comes first."""
        handlers = (registry.get(moment) for registry in reversed(self.registries))
        return [handler for handler in handlers if handler is not None]

    async def run(self, handler: Handler, name: str, source: EventSource, *arguments: Any) -> None:
        """Run a handler; what it raises is reported and goes no further.

        Args:
            handler: The handler.
            name: What it handles, for the report.
            source: The client that it is called for.
            arguments: What it is called with, behind the socket if it takes that.
        """
        try:
            await self.call(handler, source, *arguments)
        except Exception as error:  # noqa: BLE001  # reported; the application's own fault must not end its client's connection
            self.report_failure(name, source.sid, error)

    async def call(self, handler: Handler, source: EventSource, *arguments: Any) -> Any:
        """Run a handler that may refuse; raises what it raises."""
        leading = (source.socket,) if handler.leading else ()
        return await handler.run_with((*leading, *arguments), self.threads)

    async def run_server_side(self, handler: Handler, name: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        """Run a handler of an event of another server; what it raises is reported and goes no further.

        Returns:
            Whether it returned, and what.
        """
        try:
            return True, await handler.run_with(handler.convert(arguments), self.threads)
        except Exception as error:  # noqa: BLE001  # reported; the application's own fault must not end the cluster's work
            self.report_failure(name, "", error)
            return False, None

    def report_failure(self, event: str, sid: str, error: BaseException) -> None:
        """Log what the application's code raised, and tell the observers of errors."""
        report_failure(self._hooks, event, sid, self._namespace, error)

    # -- listeners ------------------------------------------------------------------------------------------

    def is_listened_to(self) -> bool:
        """Tell whether listeners of the namespace are told of every event that goes out."""
        return any(registry.catch_alls.outgoing for registry in self.registries)

    def tell_outgoing(self, source: EventSource, event: EncodedEvent) -> None:
        """Tell the listeners of the namespace, then those of one client, of an event that goes out to it."""
        for registry in self.registries if source.registry is None else (*self.registries, source.registry):
            if registry.catch_alls.outgoing:
                failed = partial(self.report_failure, "any outgoing event", source.sid)
                registry.catch_alls.tell_outgoing(source.socket, event, source.codec, failed)
