"""Calls the application's code of one namespace, and reports its exceptions."""

from __future__ import annotations

from concurrent.futures import Executor
from functools import partial
from typing import Any

from waypost.errors import ConfigurationError
from waypost.histograms import Histogram
from waypost.protocol.codec import EncodedEvent
from waypost.server.calling.faults import fault
from waypost.server.events.registry import Registry
from waypost.server.events.repeats import Repeats
from waypost.server.events.source import EventSource
from waypost.server.services import Services
from waypost.server.watching.counters import count, histogram_of, table_of
from waypost.server.watching.hooks import report_failure
from waypost.typed.handlers import Handler

__all__ = ["Handling"]


class Handling:
    """Calls the application's code of one namespace.

    Args:
        namespace: The namespace's name.
        counted_as: The name under which its events are counted.
        registries: The handlers of the namespace, then those of its parent: the order of the search.
        services: The services that the server's parts share.
        repeats: The events that clients repeat until they get an answer.
        max_pending_events: The most events of one socket that may wait for their handlers.
        concurrent_handlers: The most concurrent handlers of one socket that run at the same time.
        handler_grace_s: Seconds for which handlers of an ended socket are waited for.

    Attributes:
        runners: The tasks that run handlers.
        keep_task: Keeps a task until it is done.
        received: The numbers of events so far, by name.
        seconds: How long their handlers took, by name; a new name comes by `seconds_of`.
        ticks_ns: Returns the time of a clock that counts nanoseconds.
    """

    __slots__ = (
        "_errors",
        "_hooks",
        "_namespace",
        "_services",
        "concurrent_handlers",
        "handler_grace_s",
        "keep_task",
        "max_pending_events",
        "received",
        "registries",
        "repeats",
        "runners",
        "seconds",
        "ticks_ns",
    )

    def __init__(
        self,
        namespace: str,
        counted_as: str,
        registries: tuple[Registry, ...],
        services: Services,
        repeats: Repeats,
        *,
        max_pending_events: int,
        concurrent_handlers: int,
        handler_grace_s: float,
    ) -> None:
        self.registries = registries
        self.repeats = repeats
        self.max_pending_events = max_pending_events
        self.concurrent_handlers = concurrent_handlers
        self.handler_grace_s = handler_grace_s
        self.runners = services.runners
        self._services = services
        self.keep_task = services.keep_task
        self._hooks = services.hooks
        self._namespace = namespace
        self.received = table_of(services.counters.events_received, counted_as)
        self.seconds: dict[str, Histogram] = table_of(services.counters.handler_seconds, counted_as)
        self.ticks_ns = services.environment.ticks_ns
        self._errors = table_of(services.counters.handler_errors, counted_as)

    @property
    def threads(self) -> Executor:
        """The threads that run ``def`` handlers."""
        return self._services.threads

    def seconds_of(self, name: str) -> Histogram:
        """Return the histogram of how long the handlers of an event took, made if need be."""
        return histogram_of(self.seconds, name)

    # -- handlers -------------------------------------------------------------------------------------------

    def handlers_of(self, moment: str) -> list[Handler]:
        """Return the handlers for an event of the server itself, the parent's first."""
        handlers = (registry.get(moment) for registry in reversed(self.registries))
        return [handler for handler in handlers if handler is not None]

    async def run(self, handler: Handler, name: str, source: EventSource, *arguments: Any) -> None:
        """Run a handler; an exception is reported and not raised.

        Args:
            handler: The handler.
            name: The event's name, for the report.
            source: The client.
            arguments: The arguments, after the socket if the handler takes it.
        """
        try:
            await self.call(handler, source, *arguments)
        except BaseException as error:  # noqa: BLE001  # reported; the application's own fault must not end its client's connection
            self.report_failure(name, source.sid, fault(error))

    async def ask(self, handler: Handler, source: EventSource, *arguments: Any) -> None:
        """Run a connect handler or middleware. It refuses by raising; this returns if it does not refuse.

        Raises:
            ConfigurationError: It returned False. Other libraries take that for a refusal, so it can't mean consent.
            Exception: Any error that it raises.
        """
        if await self.call(handler, source, *arguments) is False:
            expected = "None; to refuse, raise waypost.ConnectionRefused, or EventRefused for an event"
            raise ConfigurationError(f"result of {handler.name}", False, expected)

    async def call(self, handler: Handler, source: EventSource, *arguments: Any) -> Any:
        """Run a handler.

        Raises:
            Exception: Any error that the handler raises.
        """
        leading = (source.socket,) if handler.leading else ()
        return await handler.run_with((*leading, *arguments), self.threads)

    async def run_server_side(self, handler: Handler, name: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        """Run a handler for an event of another server; an exception is reported and not raised.

        Returns:
            Whether the handler returned, and its result.
        """
        try:
            return True, await handler.run_with(handler.convert(arguments), self.threads)
        except BaseException as error:  # noqa: BLE001  # reported; an error of the application must not stop the cluster
            self.report_failure(name, "", fault(error))
            return False, None

    def report_failure(self, event: str, sid: str, error: BaseException) -> None:
        """Count and log an exception of the application's code, and notify the observers of errors."""
        count(self._errors, event)
        report_failure(self._hooks, event, sid, self._namespace, error)

    # -- listeners ------------------------------------------------------------------------------------------

    def is_listened_to(self) -> bool:
        """Return whether the namespace has listeners for outgoing events."""
        return any(registry.catch_alls.outgoing for registry in self.registries)

    def tell_outgoing(self, source: EventSource, event: EncodedEvent) -> None:
        """Call the namespace's listeners for an outgoing event, then the socket's own."""
        for registry in self.registries if source.registry is None else (*self.registries, source.registry):
            if registry.catch_alls.outgoing:
                failed = partial(self.report_failure, "any outgoing event", source.sid)
                registry.catch_alls.tell_outgoing(source.socket, event, source.codec, failed)
