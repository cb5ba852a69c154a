"""Parent namespaces: the names that they accept, their children, and the feed of all children."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from waypost.checking.arguments import NAMESPACE, check
from waypost.errors import ConfigurationError, ConnectionRefused
from waypost.protocol.codec import Codec, EncodedEvent
from waypost.server.basics.targets import Target
from waypost.server.calling.faults import fault
from waypost.server.emitting.feed import Feed
from waypost.server.emitting.flags import Flags
from waypost.server.events.registry import PARENT_MOMENTS, Registry
from waypost.server.watching.counters import OTHER
from waypost.server.watching.hooks import report_failure
from waypost.typed.handlers import Handler, check_handler

if TYPE_CHECKING:
    from waypost.server.cluster.seam import Question, Reply
    from waypost.server.emitting.members import Member
    from waypost.server.services import Services

__all__ = ["Child", "ParentCore"]


class Child(Protocol):
    """A child of a parent. A `NamespaceCore` is one.

    Attributes:
        public: The `waypost.Namespace` that the application uses.
        name: The child's name.
        feed: The child's outgoing events.
    """

    public: Any
    name: str
    feed: Feed


class ParentCore:
    """A parent, below its public `ParentNamespace`.

    Args:
        accepts: A compiled pattern that the whole name must match, or a function of the name and the client's auth
            that returns whether the client may enter: ``async def``, or ``def`` to run in a thread.
        services: The services that the server's parts share.
        flags: The default options of an emit.

    Attributes:
        public: The `ParentNamespace` that the application uses.
        handlers: The application's handlers for all children.
        middlewares: The application's middleware for all children, in order.
        children: The existing children, by name.
        feed: The feeds of all children as one.
        flags: The default options of an emit.

    Raises:
        ConfigurationError: ``accepts`` is neither a pattern of text nor a function.
    """

    def __init__(
        self, accepts: re.Pattern[str] | Callable[..., Any], services: Services, flags: Flags, *, has_journal: bool
    ) -> None:
        self.public: Any = None
        self.has_journal = has_journal
        self.handlers = Registry(1, PARENT_MOMENTS)
        self.middlewares: list[Handler] = []
        self.children: dict[str, Child] = {}
        self.feed = ParentFeed(self.children, services)
        self.flags = flags
        self._services = services
        self._told: WeakKeyDictionary[Child, asyncio.Task[None]] = WeakKeyDictionary()
        self._pattern: re.Pattern[str] | None = None
        self._decider: Handler | None = None
        if isinstance(accepts, re.Pattern) and isinstance(accepts.pattern, str):
            self._pattern = accepts
        elif callable(accepts):
            self._decider = check_handler("namespaces", accepts, 2)
        else:
            raise ConfigurationError("namespace", accepts, "a name, a compiled pattern of text, or a function")

    @property
    def counted_as(self) -> str:
        """The name under which all children are counted, as clients choose theirs."""
        return OTHER if self._pattern is None else self._pattern.pattern

    def matches(self, name: str) -> bool:
        """Return whether the parent has a pattern and the name matches it."""
        return self._pattern is not None and self._pattern.fullmatch(name) is not None

    def check_child(self, name: str) -> None:
        """Check a name that the application gives a child. A function is not called.

        Raises:
            ConfigurationError: The name is not valid for a child of this parent.
        """
        check("namespace", name, NAMESPACE)
        if self._pattern is not None and not self.matches(name):
            raise ConfigurationError("namespace", name, f"a name that matches {self._pattern.pattern}")

    async def accepts(self, name: str, auth: dict[str, Any] | None) -> bool:
        """Return whether a client may enter the namespace that it named.

        Raises:
            ConnectionRefused: The function refuses the client with a message.
        """
        if self._decider is None:
            return self.matches(name)
        try:
            return bool(await self._decider.run((name, auth), self._services.threads))
        except ConnectionRefused:
            raise
        except BaseException as error:  # noqa: BLE001  # reported; the application's own fault must not end its client's connection
            report_failure(self._services.hooks, "namespaces", "", name, fault(error))
            return False

    async def tell_made(self, child: Child) -> None:
        """Call the application's handler for a new child before any client enters it; later clients wait."""
        handler = self.handlers.get("new_namespace")
        if handler is None:
            return
        telling = self._told.get(child)
        if telling is None:
            telling = self._told[child] = asyncio.get_running_loop().create_task(self._tell_made(child, handler))
            self._services.keep_task(telling)
        await asyncio.shield(telling)

    async def _tell_made(self, child: Child, handler: Handler) -> None:
        try:
            await handler.run_with((child.public,), self._services.threads)
        except BaseException as error:  # noqa: BLE001  # reported; the application's own fault must not keep clients out
            report_failure(self._services.hooks, "new_namespace", "", child.name, fault(error))


class ParentFeed:
    """The feeds of all children as one, for an `Operator` of a parent.

    Args:
        children: The children; read at each call.
        services: The services that the server's parts share.
    """

    def __init__(self, children: Mapping[str, Child], services: Services) -> None:
        self.namespace = "/"
        self.codec: Codec = services.codec
        self.own_loop = services.own_loop
        self._children = children
        self._services = services

    async def publish(self, target: Target, event: EncodedEvent, *, compress: bool) -> None:
        """Emit an event to each child; see `Feed.publish`."""
        record = event.to_record()
        await self._all(
            feed.publish(target, self._restore(record, feed), compress=compress) for feed in self._feeds()
        )

    async def join(self, target: Target, rooms: Collection[str]) -> None:
        """Let all members of a target join rooms in each child; see `Feed.join`."""
        await self._all(feed.join(target, rooms) for feed in self._feeds())

    async def leave(self, target: Target, rooms: Collection[str]) -> None:
        """Let all members of a target leave rooms in each child; see `Feed.leave`."""
        await self._all(feed.leave(target, rooms) for feed in self._feeds())

    async def disconnect(self, target: Target, *, close: bool) -> None:
        """Disconnect all members of a target in each child; see `Feed.disconnect`."""
        await self._all(feed.disconnect(target, close=close) for feed in self._feeds())

    async def publish_volatile(self, target: Target, event: EncodedEvent, *, compress: bool) -> None:
        """Emit an event to the members of each child that can take it at once; see `Feed.publish_volatile`."""
        record = event.to_record()
        await self._all(
            feed.publish_volatile(target, self._restore(record, feed), compress=compress) for feed in self._feeds()
        )

    async def each(self, target: Target, action: Callable[[Member], None]) -> None:
        """Call a function with each member of a target in each child; see `Feed.each`."""
        await self._all(feed.each(target, action) for feed in self._feeds())

    @property
    def has_others(self) -> bool:
        """Whether there are other servers in the cluster."""
        return self._services.others.exist

    def ask_others(self, question: Question, timeout_s: float) -> AsyncIterator[Reply]:
        """Ask the other servers of a cluster about all children; see `Others.ask`."""
        return self._services.others.ask(list(self._children), question, timeout_s)

    async def on_this_server(self, target: Target) -> Target:
        """Return a target of those sockets of all children that are on this server; see `Feed.on_this_server`."""
        if self._services.bus is None:
            return target
        targets = [await feed.on_this_server(target) for feed in self._feeds()]
        return Target(frozenset().union(*(one.rooms or () for one in targets)))

    def _restore(self, record: bytes, feed: Feed) -> EncodedEvent:
        # Only the packet's head is encoded again, not the arguments.
        return self.codec.restore_event(record, feed.namespace)

    def _feeds(self) -> list[Feed]:
        return [child.feed for child in self._children.values()]

    async def _all(self, operations: Iterable[Awaitable[None]]) -> None:
        outcomes = await asyncio.gather(*operations, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
