"""Parent namespaces: handlers, middleware and operators of all namespaces whose names fit, made as clients come."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from waypost.errors import ConfigurationError, ConnectionRefused
from waypost.protocol.codec import Codec, EncodedEvent
from waypost.server.basics.targets import Target
from waypost.server.emitting.feed import Feed
from waypost.server.emitting.operator import Broadcasting, Flags
from waypost.server.events.listening import Listening
from waypost.server.events.registry import PARENT_MOMENTS, Registry
from waypost.typed.handlers import Handler, check_handler

if TYPE_CHECKING:
    from waypost.server.cluster.seam import Question, Reply
    from waypost.server.emitting.audience import Audience
    from waypost.server.hub import Hub
    from waypost.server.namespaces.channel import Channel
    from waypost.server.namespaces.directory import Directory
    from waypost.server.namespaces.namespace import Namespace

__all__ = ["ParentNamespace"]


class ParentNamespace(Broadcasting, Listening):
    """All the namespaces whose names fit. Made by `waypost.Server.of` with a pattern or a function.

    A namespace comes into being when the first client names it. What is registered here counts for each of them, also
    for those that are there already; what is emitted here goes to each of them.

    A child's own handler of an event is asked first, and then alone.

    What is emitted here reaches every child that anybody is in, or may come back to. Emits go to the children side by
    side: if one fails, others may have got it, and the error is raised when all are done. Each child has an order of
    its own; where an emit of the parent is not awaited before one of the child, either may come first.

    Args:
        accepts: A compiled pattern, which the whole name has to match; or a function that is called with the name and
            the client's auth, ``async def``, or ``def`` to run in a thread, and returns whether it may enter.
        directory: Where the children are.
        hub: The server.

    Attributes:
        handlers: The application's handlers.
        middlewares: The application's gates, in order.
        children: The namespaces there are, by name.

    Raises:
        ConfigurationError: It is neither.
    """

    def __init__(self, accepts: re.Pattern[str] | Callable[..., Any], directory: Directory, hub: Hub) -> None:
        self.handlers = handlers = Registry(1, PARENT_MOMENTS)
        self._registry = handlers
        self.middlewares: list[Handler] = []
        self._middlewares = self.middlewares
        self.children: dict[str, Namespace] = {}
        self._directory = directory
        self._hub = hub
        self._told: WeakKeyDictionary[Namespace, asyncio.Task[None]] = WeakKeyDictionary()
        self._pattern: re.Pattern[str] | None = None
        self._decider: Handler | None = None
        if isinstance(accepts, re.Pattern) and isinstance(accepts.pattern, str):
            self._pattern = accepts
        elif callable(accepts):
            self._decider = check_handler("namespaces", accepts, 2)
        else:
            raise ConfigurationError("namespace", accepts, "a name, a compiled pattern of text, or a function")
        self._audience: Audience = ParentFeed(self.children, hub.codec)
        self._target = Target()
        self._flags = Flags(timeout_s=hub.options.ack_timeout_s)

    def of(self, name: str) -> Namespace:
        """Return a child, made if need be; it stays for as long as the server does.

        Args:
            name: Its name; it has to match the pattern, while a function is not asked.

        Raises:
            ConfigurationError: It is no name for a child of this one.
        """
        if self._pattern is not None and not self.matches(name):
            raise ConfigurationError("namespace", name, f"a name that matches {self._pattern.pattern}")
        return self._directory.child(name, self)

    # -- for the rest of the server -------------------------------------------------------------------------

    def matches(self, name: str) -> bool:
        """Tell whether the pattern, if it has one, takes a name."""
        return self._pattern is not None and self._pattern.fullmatch(name) is not None

    async def accepts(self, name: str, auth: dict[str, Any] | None) -> bool:
        """Tell whether a client may enter the namespace that it named.

        Raises:
            ConnectionRefused: The function wants it refused with these words.
        """
        if self._decider is None:
            return self.matches(name)
        try:
            return bool(await self._decider.run((name, auth), self._hub.threads))
        except ConnectionRefused:
            raise
        except Exception as error:  # noqa: BLE001  # reported; the application's own fault must not end its client's connection
            self._hub.hooks.report_failure("namespaces", "", name, error)
            return False

    async def tell_made(self, child: Namespace) -> None:
        """Let the application see a child before anybody is let in; whoever comes meanwhile waits."""
        handler = self.handlers.get("new_namespace")
        if handler is None:
            return
        telling = self._told.get(child)
        if telling is None:
            telling = self._told[child] = asyncio.get_running_loop().create_task(self._tell_made(child, handler))
            self._hub.keep_task(telling)
        await asyncio.shield(telling)

    async def _tell_made(self, child: Namespace, handler: Handler) -> None:
        try:
            await handler.run_with((child,), self._hub.threads)
        except Exception as error:  # noqa: BLE001  # reported; the application's own fault must not keep clients out
            self._hub.hooks.report_failure("new_namespace", "", child.name, error)


class ParentFeed:
    """The feeds of all children as one; what an `Operator` of a parent talks to.

    Args:
        children: The children, as they are at each moment.
        codec: What packets are written in.
    """

    def __init__(self, children: dict[str, Namespace], codec: Codec) -> None:
        self.namespace = "/"
        self.codec = codec
        self._children = children

    async def publish(self, target: Target, event: EncodedEvent, *, compress: bool) -> None:
        """Emit an event to each; see `Feed.publish`."""
        record = event.to_record()
        await self._all(
            feed.publish(target, self._restore(record, feed), compress=compress) for feed in self._feeds()
        )

    async def join(self, target: Target, rooms: Collection[str]) -> None:
        """Let all in each whom a target means join rooms; see `Feed.join`."""
        await self._all(feed.join(target, rooms) for feed in self._feeds())

    async def leave(self, target: Target, rooms: Collection[str]) -> None:
        """Let all in each whom a target means leave rooms; see `Feed.leave`."""
        await self._all(feed.leave(target, rooms) for feed in self._feeds())

    async def publish_volatile(self, target: Target, event: EncodedEvent, *, compress: bool) -> None:
        """Emit an event to whoever in each can take it right now; see `Feed.publish_volatile`."""
        record = event.to_record()
        await self._all(
            feed.publish_volatile(target, self._restore(record, feed), compress=compress) for feed in self._feeds()
        )

    async def each(self, target: Target, action: Callable[[Channel], None]) -> None:
        """Do something with everyone in each whom a target means; see `Feed.each`."""
        await self._all(feed.each(target, action) for feed in self._feeds())

    async def ask_others(self, question: Question, timeout_s: float) -> AsyncIterator[Reply]:
        """Ask the other servers of a cluster about each; see `Others.ask`."""
        for feed in self._feeds():
            async for reply in feed.ask_others(question, timeout_s):
                yield reply

    def _restore(self, record: bytes, feed: Feed) -> EncodedEvent:
        # Its arguments are not encoded again, only its head.
        return self.codec.restore_event(record, feed.namespace)

    def _feeds(self) -> list[Feed]:
        return [child.feed for child in self._children.values()]

    async def _all(self, operations: Iterable[Awaitable[None]]) -> None:
        outcomes = await asyncio.gather(*operations, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
