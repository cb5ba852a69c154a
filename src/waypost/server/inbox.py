"""What a client sent and is still to be handled: its events, in the order of arrival, and at last that it is gone."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from waypost.errors import ArgumentMismatch, EncodingFailed, EventRefused
from waypost.protocol.packet import Packet
from waypost.server.handlers import Handler

if TYPE_CHECKING:
    from waypost.server.channel import Channel
    from waypost.server.registry import Registry

__all__ = ["Inbox"]

logger = logging.getLogger("waypost.socket")


class Inbox:
    """One socket's events on their way to the application's handlers.

    They are handled one after the other. A handler that is registered as concurrent is only started in its turn: the
    next event does not wait for its end, unless too many of them are running.

    Args:
        channel: Whose events they are.
    """

    __slots__ = ("_channel", "_items", "_running", "_worker")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._items: deque[Packet | str] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()

    def receive(self, packet: Packet) -> None:
        """Take an event of the client; with too many waiting, its connection is read no further for a while."""
        self._items.append(packet)
        if len(self._items) >= self._channel.namespace.max_pending_events:
            self._channel.pause_reading()
        self._wake()

    def tell_disconnected(self, reason: str) -> None:
        """Let the disconnect handlers run, after the handlers of all events that came before."""
        self._items.append(reason)
        self._wake()

    def _wake(self) -> None:
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())
            self._channel.namespace.keep_task(self._worker)

    async def _work(self) -> None:
        try:
            while self._items:
                item = self._items.popleft()
                if len(self._items) == self._channel.namespace.max_pending_events // 2:
                    self._channel.resume_reading()
                if isinstance(item, str):
                    await self._handle_disconnect(item)
                else:
                    await self._handle(item)
        finally:
            self._worker = None

    async def _handle_disconnect(self, reason: str) -> None:
        if self._running:
            await asyncio.wait(self._running)
        for moment in ("disconnecting", "disconnect"):
            for registry in self._registries:
                handler = registry.get(moment)
                if handler is not None:
                    await self._run(handler, moment, reason)
            self._channel.forget_rooms()

    @property
    def _registries(self) -> tuple[Registry, ...]:
        """Where to look for a handler: what is registered for the socket alone comes first."""
        own, shared = self._channel.registry, self._channel.namespace.registries
        return shared if own is None else (own, *shared)

    async def _handle(self, packet: Packet) -> None:
        name, *arguments = packet.data
        for gate in self._channel.gates:
            if not await self._passes(gate, packet):
                await self._channel.save_data()
                return
        registries = self._registries
        for registry in reversed(registries):
            for catch_all in registry.catch_alls.incoming:
                await self._show(catch_all, (name, *arguments))
        for registry in registries:
            handler = registry.find(name)
            if handler is not None:
                await self._dispatch(registry, handler, packet)
                return
        await self._channel.save_data()
        logger.debug("socket %s sent event %r, which has no handler", self._channel.sid, name)

    async def _show(self, catch_all: Handler, arguments: tuple[Any, ...]) -> None:
        """Run a handler of all events, unless it is annotated for others."""
        try:
            converted = catch_all.convert(arguments)
        except ArgumentMismatch as mismatch:
            logger.debug("socket %s: a handler of all events does not take this one: %s", self._channel.sid, mismatch)
            return
        await self._run(catch_all, "any event", *converted)

    async def _passes(self, gate: Handler, packet: Packet) -> bool:
        """Ask a middleware of the socket about an event; a client that waits for an ack is told of a refusal."""
        refusal = EventRefused("Internal server error")
        try:
            await self._channel.namespace.call_handler(gate, self._channel, *packet.data)
        except EventRefused as problem:
            logger.info("socket %s: event %r is refused: %s", self._channel.sid, packet.data[0], problem)
            refusal = problem
        except Exception as error:  # noqa: BLE001  # reported; the application's own fault must not end its client's connection
            self._channel.namespace.report_failure("middleware", self._channel.sid, error)
        else:
            return True
        answer = {"error": refusal.message}
        self._acknowledge(packet, answer if refusal.data is None else {**answer, "data": refusal.data})
        return False

    async def _dispatch(self, registry: Registry, handler: Handler, packet: Packet) -> None:
        name, *arguments = packet.data
        if not handler.takes(len(arguments)):
            problem = f"{name} takes {handler.expectation} argument(s), {len(arguments)} came"
            logger.warning("socket %s: %s", self._channel.sid, problem)
            self._acknowledge(packet, {"error": problem})
            return
        try:
            converted = handler.convert(tuple(arguments))
        except ArgumentMismatch as mismatch:
            logger.warning("socket %s: %s: %s", self._channel.sid, name, mismatch)
            self._acknowledge(packet, mismatch.to_payload())
            return
        registry.spend(name)
        if handler.is_concurrent:
            await self._start(handler, packet, converted)
        else:
            await self._answer(handler, packet, converted)

    async def _start(self, handler: Handler, packet: Packet, arguments: tuple[Any, ...]) -> None:
        namespace = self._channel.namespace
        while len(self._running) >= namespace.concurrent_handlers:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.get_running_loop().create_task(self._answer(handler, packet, arguments))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        namespace.keep_task(task)

    async def _answer(self, handler: Handler, packet: Packet, arguments: tuple[Any, ...]) -> None:
        """Run an event's handler, and acknowledge the event with what it returns."""
        answer, succeeded = await self._run(handler, packet.data[0], *arguments)
        await self._channel.save_data()
        if succeeded:
            self._acknowledge(packet, answer)

    async def _run(self, handler: Handler, name: str, *arguments: Any) -> tuple[Any, bool]:
        return await self._channel.namespace.run(handler, name, self._channel, *arguments)

    def _acknowledge(self, packet: Packet, answer: Any) -> None:
        if packet.ack_id is None:
            return
        channel = self._channel
        arguments = answer if isinstance(answer, tuple) else () if answer is None else (answer,)
        try:
            frames = channel.codec.encode_ack(channel.namespace.name, packet.ack_id, arguments)
        except EncodingFailed as problem:
            logger.error("the ack of %r on socket %s is not sent: %s", packet.data[0], channel.sid, problem)
            return
        if channel.left_because is None:
            channel.send(frames)
