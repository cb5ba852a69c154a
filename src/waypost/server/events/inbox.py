"""The inbox of one socket: its events in the order of arrival, and at the end its disconnect."""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from waypost.errors import ArgumentMismatch, EventRefused, shorten
from waypost.histograms import SECONDS
from waypost.logs import by_client, fields, get_logger
from waypost.masking import mask
from waypost.protocol.packet import Packet
from waypost.server.calling.faults import fault
from waypost.server.calling.waits import WAITS, Waits, Working
from waypost.server.events.farewell import Farewell
from waypost.server.events.incoming import MESSAGE_ID, Incoming
from waypost.server.events.pending import LARGE
from waypost.server.watching.counters import OTHER, count
from waypost.typed.handlers import Handler

if TYPE_CHECKING:
    from waypost.server.events.handling import Handling
    from waypost.server.events.registry import Registry
    from waypost.server.events.source import EventSource

__all__ = ["Inbox"]

logger = get_logger("waypost.socket")

_UNCOUNTED = 16
"""So many small events of a socket may wait uncounted: to count the bytes of every event would slow it down."""

_QUICK_NS = SECONDS[0]
_NAME_CHARACTERS = 100
_MISFIT_CHARACTERS = 200


class Inbox:
    """The events of one socket that wait for the application's handlers.

    Handlers run one after the other. The exception is a handler registered as concurrent: the next event waits only
    for its start, unless too many concurrent handlers are running.

    Args:
        source: The client that sends the events.
        handling: Calls the application's code of the namespace.
    """

    __slots__ = (
        "_done",
        "_earlier",
        "_handling",
        "_in_hand",
        "_is_working",
        "_items",
        "_running",
        "_source",
        "_waits",
    )

    def __init__(self, source: EventSource, handling: Handling) -> None:
        self._source = source
        self._handling = handling
        self._items: deque[Incoming | Farewell | Working] | None = None
        self._is_working = False
        self._in_hand: Incoming | None = None
        self._running: dict[asyncio.Task[None], str] | None = None
        self._waits: Waits | None = None
        self._earlier: Working | None = None
        self._done: asyncio.Event | None = None

    @property
    def is_working(self) -> bool:
        """Whether handlers are running, or about to be called."""
        return self._is_working

    @property
    def waits_for_client(self) -> bool:
        """Whether handlers are running, and all of them wait for an answer of this client."""
        if self._earlier is not None:
            return self._earlier.waits_for_client
        running = len(self._running or ()) + (self._in_hand is not None)
        return self._waits is not None and 0 < running <= self._waits.count

    def running(self) -> list[str]:
        """Return the names of the events whose handlers are running."""
        if self._earlier is not None:
            return self._earlier.running()
        concurrent = [] if self._running is None else list(self._running.values())
        return concurrent if self._in_hand is None else [self._in_hand.name, *concurrent]

    async def done(self) -> None:
        """Wait until no handler is running. May be cancelled."""
        while self._is_working:
            if self._done is None:
                self._done = asyncio.Event()
            await self._done.wait()

    def follow(self, earlier: Working) -> None:
        """Handle the events of this inbox after those of an earlier connection of the same client.

        Call it before the first event.
        """
        self._put(earlier)

    def receive(self, packet: Packet, size: int) -> None:
        """Take an event of the client; too many waiting events, or bytes, pause reading from its connection.

        Args:
            packet: The event.
            size: The bytes that the event takes in memory.
        """
        event = Incoming(self._source, self._handling.repeats, packet)
        items = self._put(event)
        if size > LARGE or len(items) > _UNCOUNTED:
            event.size = size
            self._source.pending.put(size)
        if len(items) >= self._handling.max_pending_events:
            self._source.pause_reading()

    def tell_disconnected(self, farewell: Farewell) -> None:
        """Run the disconnect handlers, after the handlers of all earlier events."""
        if self._is_working or self._running:
            farewell.limit()
        self._put(farewell)

    def _put(self, item: Incoming | Farewell | Working) -> deque[Incoming | Farewell | Working]:
        items = self._items
        if items is None:
            # Made at the first event: a deque takes 760 bytes, which an idle socket saves.
            items = self._items = deque()
        items.append(item)
        if not self._is_working:
            self._is_working = True
            self._handling.runners.submit(self._work)
        return items

    async def _work(self) -> None:
        items = self._items
        assert items is not None
        half = self._handling.max_pending_events // 2
        if self._waits is None:
            self._waits = Waits(self._source.sid)
        WAITS.set(self._waits)
        try:
            while items:
                item = items.popleft()
                if len(items) == half:
                    self._source.resume_reading()
                if not isinstance(item, Incoming):
                    self._in_hand = None
                    await (self._end(item) if isinstance(item, Farewell) else self._wait_for(item))
                    continue
                self._in_hand = item
                if item.size:
                    await self._handle_counted(item)
                else:
                    await (self._handle_marked if item.is_marked else self._process)(item)
                if items and not self._source.slices.has_time():
                    # The handlers of one client's events may take long together, even if none of them waits.
                    await self._source.slices.next()
        finally:
            self._in_hand = None
            self._is_working = False
            for item in items:  # left over only if the server stops
                if isinstance(item, Farewell):
                    item.call_off()
            if not items:
                self._items = None
            if self._done is not None:
                self._done.set()
                self._done = None

    async def _wait_for(self, earlier: Working) -> None:
        """Wait for the handlers of an earlier connection, as long as they wait for the client, or a time of grace."""
        self._earlier = earlier
        try:
            waits = True
            while waits and earlier.is_working:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._handling.handler_grace_s):
                        await earlier.done()
                waits = earlier.waits_for_client
        finally:
            self._earlier = None

    async def _handle_counted(self, event: Incoming) -> None:
        """Handle an event whose bytes are counted; a large one waits for other large ones of its connection."""
        pending = self._source.pending
        if event.size > LARGE:
            await pending.room_for(event.size)
        pending.waiting -= event.size
        pending.in_hand += event.size
        if pending.is_paused:
            pending.check()
        try:
            await (self._handle_marked if event.is_marked else self._process)(event)
        finally:
            pending.release(event.size)

    async def _end(self, farewell: Farewell) -> None:
        try:
            if self._running:
                await asyncio.wait(self._running)
            await farewell.tell()
        finally:
            farewell.call_off()
            self._source.release()

    @property
    def _registries(self) -> tuple[Registry, ...]:
        """The registries in the order of the search: the socket's own first."""
        own, shared = self._source.registry, self._handling.registries
        return shared if own is None else (own, *shared)

    async def _handle_marked(self, event: Incoming) -> None:
        """Handle an event of an outbox, unless it was handled before."""
        if not await event.begin():
            return
        MESSAGE_ID.set(None if event.message_id is None else (self._source.sid, event.message_id))
        try:
            await self._process(event)
            await event.settle()
        except BaseException:
            event.end()
            raise
        finally:
            MESSAGE_ID.set(None)

    async def _process(self, event: Incoming) -> None:
        source = self._source
        for middleware in source.middlewares:
            if not await self._passes(middleware, event):
                await source.save_data()
                return
        handling = self._handling
        registries = handling.registries if source.registry is None else self._registries
        for registry in registries:
            if registry.catch_alls.incoming:
                await self._show_to_all(registries, event)
                break
        for registry in registries:
            handler = registry.find(event.name)
            if handler is not None:
                received = handling.received
                name = OTHER if registry is source.registry else event.name
                # Almost always the name is there; to ask first, or to call, would cost each event more.
                try:
                    received[name] += 1
                except KeyError:
                    count(received, name)
                arguments = self._arguments_for(handler, event)
                if arguments is not None:
                    if event.name in registry.once:
                        registry.remove(event.name)
                    await (self._start if handler.is_concurrent else self._answer)(handler, event, name, arguments)
                return
        count(self._handling.received, OTHER)
        await source.save_data()
        self._report_unknown(event, registries)
        event.ignore()

    def _report(self, where: str, event: Incoming, error: BaseException) -> None:
        """Log an exception of the application for an event; a refusal is not an error."""
        if isinstance(error, EventRefused):
            logger.info(
                "socket %s: event %r is refused: %s",
                self._source.sid,
                event.name,
                error,
                extra=by_client(fields(event=event.name, sid=self._source.sid, namespace=self._source.namespace)),
            )
        else:
            self._handling.report_failure(where, self._source.sid, error)

    def _report_unknown(self, event: Incoming, registries: tuple[Registry, ...]) -> None:
        """Log an event without a handler: the first of each name as a warning, unless a catch-all has seen it."""
        seen = any(registry.catch_alls.incoming for registry in registries)
        is_news = not seen and registries[-1].note_unknown(event.name)
        level = logging.WARNING if is_news else logging.DEBUG
        logger.log(
            level,
            "socket %s sent event %s, which has no handler",
            self._source.sid,
            shorten(event.name, _NAME_CHARACTERS),
            extra=by_client(fields(event=event.name, sid=self._source.sid, namespace=self._source.namespace)),
        )

    async def _show_to_all(self, registries: tuple[Registry, ...], event: Incoming) -> None:
        for registry in reversed(registries):
            for catch_all in registry.catch_alls.incoming:
                await self._show(catch_all, (event.name, *event.arguments))

    async def _show(self, catch_all: Handler, arguments: tuple[Any, ...]) -> None:
        """Run a catch-all, unless its annotations do not fit the event."""
        try:
            converted = catch_all.convert(arguments)
        except ArgumentMismatch as mismatch:
            logger.debug(
                "socket %s: a handler of all events does not take this one: %s",
                self._source.sid,
                mismatch,
                extra=fields(sid=self._source.sid, namespace=self._source.namespace),
            )
            return
        await self._handling.run(catch_all, "any event", self._source, *converted)

    async def _passes(self, middleware: Handler, event: Incoming) -> bool:
        """Call a middleware of the socket for an event; if it refuses, the client gets the refusal as the ack.

        Returns:
            Whether the event may go on.
        """
        try:
            await self._handling.ask(middleware, self._source, event.name, *event.arguments)
        except BaseException as error:  # noqa: BLE001  # reported; an error of the application must not end the connection
            self._report("middleware", event, fault(error))
            event.fail(error)
        else:
            return True
        return False

    def _arguments_for(self, handler: Handler, event: Incoming) -> tuple[Any, ...] | None:
        """Return the arguments for a handler; ``None`` if the event does not fit, which is answered with an error."""
        count = len(event.arguments)
        # `takes`, without its call.
        if not handler.fewest <= handler.leading + count <= handler.most:
            problem = f"{event.name} takes {handler.expectation} argument(s), {count} came"
            logger.warning(
                "socket %s: %s",
                self._source.sid,
                problem,
                extra=by_client(fields(event=event.name, sid=self._source.sid, namespace=self._source.namespace)),
            )
            event.refuse(EventRefused(problem))
            return None
        arguments = event.arguments
        try:
            if handler.parameters is not None:
                arguments = handler.convert(arguments)
        except ArgumentMismatch as mismatch:
            logger.warning(
                "socket %s: %s: %s",
                self._source.sid,
                event.name,
                mismatch,
                extra=by_client(fields(event=event.name, sid=self._source.sid, namespace=self._source.namespace)),
            )
            if logger.isEnabledFor(logging.DEBUG):
                shown = shorten(mask({mismatch.parameter: mismatch.received}), _MISFIT_CHARACTERS)
                logger.debug(
                    "socket %s: %s: received %s",
                    self._source.sid,
                    event.name,
                    shown,
                    extra=by_client(fields(event=event.name, sid=self._source.sid, namespace=self._source.namespace)),
                )
            event.refuse(EventRefused(str(mismatch), mismatch.to_payload()))
            return None
        return (self._source.socket, *arguments) if handler.leading else arguments

    async def _start(self, handler: Handler, event: Incoming, name: str, arguments: tuple[Any, ...]) -> None:
        handling = self._handling
        if self._running is None:
            self._running = {}
        while len(self._running) >= handling.concurrent_handlers:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.get_running_loop().create_task(self._answer(handler, event, name, arguments))
        self._running[task] = event.name
        task.add_done_callback(self._running.pop)
        if event.size:
            pending = self._source.pending
            pending.in_hand += event.size  # until the task is done; the event's own turn ends before
            task.add_done_callback(lambda _: pending.release(event.size))
        handling.keep_task(task)

    async def _answer(self, handler: Handler, event: Incoming, name: str, arguments: tuple[Any, ...]) -> None:
        """Run an event's handler, and acknowledge the event with the result."""
        source, handling = self._source, self._handling
        answer, error = None, None
        try:
            began = handling.ticks_ns()
            try:
                # What `run` does for an async handler, without its call: it is made for each event.
                if handler.is_async:
                    answer = await handler.function(*arguments)
                else:
                    answer = await handler.run(arguments, handling.threads)
            except BaseException as failure:  # noqa: BLE001  # reported; the application's own fault must not end its client's connection
                error = fault(failure)
                self._report(event.name, event, error)
            took = handling.ticks_ns() - began
            try:
                seconds = handling.seconds[name]
            except KeyError:
                seconds = handling.seconds_of(name)
            # As `observe` does, without its call; most handlers that do not wait are in the first range.
            seconds[0 if took <= _QUICK_NS else bisect_left(SECONDS, took)] += 1
            seconds[-1] += took
            if source.data_touched:
                await source.save_data()
            if error is not None:
                event.fail(error)
                if event.is_marked:
                    await event.settle()
            elif event.is_marked:
                await event.accept(answer)
            else:
                event.answer(answer)
        finally:
            # Its traceback refers to this frame, which would refer back for ever.
            del error
            if event.is_marked:
                event.end()
