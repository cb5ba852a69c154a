"""The host of a store: opens it once, and serves it to nodes over links."""

from __future__ import annotations

import asyncio
import secrets
import weakref
from collections.abc import Awaitable
from functools import partial
from typing import Final

import msgspec

from waypost.errors import ConfigurationError, StorageError, StoreClosed, StoreLost, WaypostError
from waypost.logs import fields, get_logger
from waypost.retrying import STORE_RETRIES, Backoff
from waypost.storage.choose import MACHINE_CLOCKS, Clocks, StoreOptions, make_store
from waypost.storage.host.driving import Then, begin
from waypost.storage.host.journals import HostedJournal
from waypost.storage.host.node import HostedNode
from waypost.storage.host.outgoing import Limits, Outgoing
from waypost.storage.host.outsiders import Outsiders
from waypost.storage.host.served import Handler, ServedStore
from waypost.storage.journal_records import Capabilities, Entry
from waypost.storage.wire import reports, requests
from waypost.storage.wire.frames import FrameReader, encode
from waypost.storage.wire.link import Link
from waypost.storage.wire.problems import to_problem
from waypost.version import __version__

__all__ = ["StoreHost"]

_logger = get_logger(__name__)


class _Receiver:
    """Takes what one node sends."""

    def __init__(self, host: StoreHost, node: HostedNode) -> None:
        self._host = host
        self._node = node
        self._reader: FrameReader[requests.Request] = FrameReader(requests.REQUESTS)

    def received(self, data: bytes) -> None:
        try:
            for messages in self._reader.feed(data):
                for message in messages:
                    self._host.handle(self._node, message)
        except msgspec.MsgspecError as error:
            self._host.cut(self._node, f"it sent what is no request: {error}")

    def closed(self) -> None:
        self._host.cut(self._node, "its link was closed")


class StoreHost:
    """Has a store open, and serves it to several nodes.

    It belongs to one event loop, and needs nothing else: no thread and no clock but those of the store.

    Args:
        limits: How much it keeps for each node that is slow.
        clocks: The store's clocks.
    """

    def __init__(self, *, limits: Limits | None = None, clocks: Clocks = MACHINE_CLOCKS) -> None:
        self._clocks = clocks
        self._limits = limits or Limits()
        self._nodes: dict[str, HostedNode] = {}
        self._linked: set[HostedNode] = set()
        self._opening: ServedStore | None = None
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._insisting: weakref.WeakSet[asyncio.Task[None]] = weakref.WeakSet()
        self._own_handlers: Final[dict[type, Handler]] = {
            requests.Send: self._send,
            requests.Credit: lambda node, one: node.outgoing.credit(one.size),
            requests.Hello: self._hello,
            requests.Goodbye: self._goodbye,
        }
        self._handlers = self._own_handlers
        self._outsiders = Outsiders(lambda: self._opening)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the living nodes, in the order in which they came."""
        return tuple(self._nodes)

    @property
    def capabilities(self) -> Capabilities | None:
        """The guarantees of the store; ``None`` while it is closed."""
        return None if self._opening is None else self._opening.store.capabilities

    @property
    def options(self) -> StoreOptions | None:
        """The options with which the store was opened; ``None`` while it is closed."""
        return None if self._opening is None else self._opening.options

    # -- its life --------------------------------------------------------------------------------------------

    async def open(self, options: StoreOptions) -> None:
        """Open the store. Without this, the first node that comes opens it with its options.

        Raises:
            StorageError: The store can't be opened, or is open already.
            ConfigurationError: The options describe no store.
        """
        async with self._changing:
            if self._opening is not None:
                raise StorageError(self._opening.name, "it is open already")
            await self._open(options)

    async def close(self) -> None:
        """Cut all nodes off, and close the store. A second call does nothing."""
        for node in [*self._linked]:
            node.link.close()
            self._leave(node)
        while self._tasks:
            for task in self._insisting:
                # What the store did not take in time, its next opening mends.
                task.cancel()
            await asyncio.wait(self._tasks)
        async with self._changing:
            opening, self._opening = self._opening, None
            self._handlers = self._own_handlers
            if opening is not None:
                opening.alarm.stop()
                await opening.store.close()

    def beat(self) -> None:
        """Note that this process runs. Call it each second, or never.

        When the process has stood still, clients could not come back to their sessions. So no session ends for as
        long as it stood still.
        """
        if self._opening is not None:
            self._opening.upkeep.beat()

    def attach(self, link: Link, name: str = "") -> str:
        """Serve a node at the other end of a link, from its hello on.

        Args:
            link: The host's side of the link.
            name: The node's name, that no other node ever had; a random one without it.

        Returns:
            The node's name.
        """
        name = name or secrets.token_hex(4)
        outgoing = Outgoing(link, self._limits, self._read, lambda problem: self.cut(node, problem))
        node = HostedNode(name, link, outgoing)
        self._linked.add(node)
        link.start(_Receiver(self, node))
        return name

    def attach_outsider(self, link: Link) -> None:
        """Serve a program at the other end of a link that is no node: it emits, publishes, moves and disconnects."""
        self._outsiders.attach(link)

    def detach(self, name: str, problem: str) -> None:
        """Take nothing more from a node: its process has ended, even if its link is still open somewhere."""
        for node in [*self._linked]:
            if node.name == name:
                self.cut(node, problem)

    def free_consumers(self, name: str) -> None:
        """Let other nodes own the consumers of a node whose event loop stands still; its clients stay with it."""
        node = self._nodes.get(name)
        if node is not None and self._opening is not None:
            self._opening.queues.free_all(node)

    def cut(self, node: HostedNode, problem: str) -> None:
        """Take nothing more from a node; called for a link that was closed, too."""
        if not node.is_gone:
            _logger.warning("node %s of the store is gone: %s", node.name, problem, extra=fields(node=node.name))
        node.link.close()
        self._leave(node)

    async def _open(self, options: StoreOptions) -> None:
        store = make_store(options, self._clocks)
        await store.open()
        opening = ServedStore(options, store, self._nodes)
        store.watch(partial(self._tell_all, reports.Changed()))
        store.watch_loss(self._lost)
        self._opening = opening
        self._handlers = self._own_handlers | opening.handlers

    # -- requests --------------------------------------------------------------------------------------------

    def handle(self, node: HostedNode, request: requests.Request) -> None:
        """Begin what a node asks for."""
        if node.is_gone:
            return
        try:
            handler = self._handlers.get(type(request))
            if handler is None:
                raise StoreClosed("of the parent process")
            handler(node, request)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is handed to the node that asked
            call = getattr(request, "call", None)
            if call is not None:
                node.fail(call, error)
            else:
                _logger.warning(
                    "a request of node %s could not be begun: %s", node.name, error, extra=fields(node=node.name)
                )

    @property
    def _open_store(self) -> ServedStore:
        if self._opening is None:
            raise StoreClosed("of the parent process")
        return self._opening

    def _send(self, node: HostedNode, request: requests.Send) -> None:
        message = encode(reports.Message(node.name, request.topic, request.message))

        def give(receiver: HostedNode) -> None:
            # The sender waits for its own.
            if not (request.may_drop and receiver.outgoing.is_far_behind) or receiver is node:
                receiver.outgoing.add_encoded(message)

        def send() -> None:
            if request.receiver is None:
                for receiver in self._nodes.values():
                    give(receiver)
            elif (one := self._nodes.get(request.receiver)) is not None:
                give(one)

        # Its place is between the rows of what the node has written before and of what it writes later.
        node.behind_writes(send)

    async def _read(self, number: int, after: int, upto: int, max_entries: int, max_bytes: int) -> list[Entry]:
        return await self._open_store.journals[number].read(after, upto, max_entries, max_bytes)

    # -- nodes come and go -----------------------------------------------------------------------------------

    def _hello(self, node: HostedNode, request: requests.Hello) -> None:
        self._keep(self._welcome(node, request))

    async def _welcome(self, node: HostedNode, request: requests.Hello) -> None:
        try:
            opening = await self._opening_for(request)
        except WaypostError as error:
            node.fail(request.call, error)
            node.outgoing.close()
            node.link.close()
            self._leave(node)
            return
        if node.is_gone:
            return
        clock = opening.store.clock
        others = [*self._nodes]
        welcome = reports.Welcome(
            node.name,
            others,
            opening.name,
            opening.path,
            clock.now(),
            clock.ahead_s,
            self._limits.window_bytes // 8,
        )
        node.answer(request.call, welcome)
        self._tell_all(reports.Came(node.name))
        self._nodes[node.name] = node

    async def _opening_for(self, request: requests.Hello) -> ServedStore:
        if request.version != __version__:
            expected = f"the version of the process that has it open, {__version__}; start that one anew"
            raise ConfigurationError("store", request.version, expected)
        options = request.options
        async with self._changing:
            if self._opening is None:
                await self._open(options)
            opening = self._open_store
        if difference := opening.options.difference(options):
            expected = f"the options it was opened with: {difference}; to change them, restart the whole service"
            raise ConfigurationError("store", str(options.spec), expected)
        return opening

    def _goodbye(self, node: HostedNode, request: requests.Goodbye) -> None:
        def leave() -> None:
            node.is_stopped = True
            node.answer(request.call, None)
            self._leave(node)

        node.after_all(leave)

    def _leave(self, node: HostedNode) -> None:
        self._linked.discard(node)
        if node.is_gone:
            return
        node.is_gone = True
        node.outgoing.close()
        if self._nodes.pop(node.name, None) is not None and self._opening is not None:
            opening = self._opening
            # What it has asked for last takes effect before it is gone.
            node.after_all(lambda: self._keep(self._bury(node, opening)))

    async def _bury(self, node: HostedNode, opening: ServedStore) -> None:
        for journal in opening.journals:
            journal.leave(node, partial(self._detach, opening))
        opening.upkeep.leave(node)
        self._tell_all(reports.Gone(node.name))
        await opening.queues.leave(node)

    def _detach(self, opening: ServedStore, hosted: HostedJournal, key: bytes, expires_at: float | None) -> None:
        if expires_at is None:
            expires_at = opening.store.clock.now() + opening.options.orphan_ttl_s
        begin(
            hosted.journal.detach_session(key, expires_at),
            Then(lambda _: None, lambda error: self._insist(opening, hosted, key, error)),
        )

    def _insist(self, opening: ServedStore, hosted: HostedJournal, key: bytes, error: BaseException) -> None:
        if not isinstance(error, StoreClosed):
            self._insisting.add(self._keep(self._detach_later(opening, hosted, key, error)))

    async def _detach_later(
        self, opening: ServedStore, hosted: HostedJournal, key: bytes, error: BaseException
    ) -> None:
        backoff = Backoff(STORE_RETRIES)
        while self._opening is opening and key not in hosted.homes:
            _logger.error(
                "a session of a node that is gone could not be detached: %s",
                error,
                extra=fields(namespace=hosted.journal.name),
            )
            await asyncio.sleep(backoff.next_s())
            try:
                expires_at = opening.store.clock.now() + opening.options.orphan_ttl_s
                await hosted.journal.detach_session(key, expires_at)
            except StoreClosed:
                return
            except StorageError as again:
                error = again
            else:
                return

    def _lost(self, lost: StoreLost) -> None:
        self._tell_all(reports.Lost(to_problem(lost)))

    def _tell_all(self, message: object) -> None:
        for node in [*self._nodes.values()]:
            node.tell(message)

    def _keep(self, work: Awaitable[None]) -> asyncio.Task[None]:
        async def run() -> None:
            await work

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
