"""The composition root: options, store, engine, namespaces and deliveries, and their common life."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, overload

from waypost.errors import ConfigurationError, StorageError
from waypost.protocol.codec import codec_for
from waypost.protocol.engineio import PacketType
from waypost.protocol.session_settings import SessionSettings
from waypost.server.basics.environment import Environment
from waypost.server.basics.turn import Turn
from waypost.server.calling.runners import Runners
from waypost.server.cluster.seam import Alone, Others, Question, Reply
from waypost.server.connections.connection import Connection
from waypost.server.connections.drain import Drain
from waypost.server.connections.engine import Engine
from waypost.server.connections.gate import Gate
from waypost.server.events.repeats import Repeats
from waypost.server.namespaces.directory import Directory
from waypost.server.namespaces.peer import Peer
from waypost.server.options import Options
from waypost.server.queues.deliveries import Deliveries
from waypost.server.recovery.recovery import Keeper
from waypost.server.watching.counters import Counters, JournalState, ServerState
from waypost.server.watching.debug_log import attach_debug_log
from waypost.server.watching.hooks import Hooks
from waypost.server.watching.queue_events import ConsumerExpired
from waypost.storage.base import Retention, Store
from waypost.storage.choose import make_store

if TYPE_CHECKING:
    from waypost.server.namespaces.namespace import Namespace
    from waypost.server.namespaces.parents import ParentNamespace

__all__ = ["Hub"]

logger = logging.getLogger("waypost.server")

_UPKEEP_INTERVAL_S = 10.0
_HANDLERS_TIMEOUT_S = 5.0


class Hub:
    """Everything a server consists of, without the outside that carries it.

    Args:
        options: What it was told.
        environment: Chance and wall time.

    Attributes:
        codec: What packets are written in.
        hooks: Who is told of what happens.
        directory: The namespaces.
        threads: Where ``def`` handlers run.
        turn: When what was written goes out.
        runners: What runs handlers.
        gate: Who may open a connection.
        counters: What has happened so far.
        repeats: What clients send again until it is answered.
        openings: How often the store was opened in vain.
        others: The other servers of a cluster.
    """

    def __init__(self, options: Options, environment: Environment) -> None:
        self.options = options
        self.codec = codec_for(options.parser)
        self.environment = environment
        self.hooks = Hooks()
        self.store: Store = self._make_store(options.store)
        self.engine = Engine(self._session_settings(), environment.new_id, self._accept, self.hooks)
        self.threads = ThreadPoolExecutor(options.handler_threads, "waypost-handler")
        self.gate = Gate(options, self.hooks)
        self.openings = 0
        self.others: Others = Alone()
        self.counters = Counters()
        self.repeats = Repeats(lambda: self.store)
        self.deliveries = Deliveries(
            # Not bound to one store: `use_store` may still replace it.
            lambda: self.store,
            options.queues,
            environment,
            self.keep_task,
            self.hooks,
            self.counters,
            self.threads,
        )
        # A dict for its order, so that a simulation cancels them in the same one every time.
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self.turn = Turn()
        self.runners = Runners(self.keep_task, self.turn)
        self._upkeep: asyncio.Task[None] | None = None
        self._start: asyncio.Task[None] | None = None
        self._stop: asyncio.Task[None] | None = None
        self._drain = Drain(self.engine)
        self._replay_turns = asyncio.Semaphore(options.recovery.concurrent_replays if options.recovery else 1)
        self.directory = Directory(self)
        self.directory.of("/")

    # -- what is in it --------------------------------------------------------------------------------------

    @overload
    def of(self, name: str) -> Namespace: ...

    @overload
    def of(self, name: re.Pattern[str] | Callable[..., Any]) -> ParentNamespace: ...

    def of(self, name: str | re.Pattern[str] | Callable[..., Any]) -> Namespace | ParentNamespace:
        """Return a namespace, or make a parent.

        Raises:
            ConfigurationError: It is no name for one, no pattern and no function.
        """
        return self.directory.of(name) if isinstance(name, str) else self.directory.add_parent(name)

    def use_store(self, spec: str | PathLike[str]) -> None:
        """Use another store than the options name; only before the start."""
        if self._start is not None:
            raise ConfigurationError("store", spec, "to be chosen before the server starts")
        self.store = self._make_store(spec)

    def describe(self) -> str:
        """Say in words where things are kept and how durably."""
        return f"store: {self.store.capabilities.description}"

    def state(self) -> ServerState:
        """Take the server's numbers."""
        journals = {}
        for namespace in self.directory:
            journal = namespace.feed.journal
            if journal is not None:
                journals[namespace.name] = JournalState(
                    events=journal.top - journal.oldest + 1,
                    bytes=journal.size_bytes,
                    oldest_offset=f"{journal.generation}.{journal.oldest}",
                    newest_offset=f"{journal.generation}.{journal.top}",
                )
        return ServerState(
            connections=len(self.engine),
            sockets={namespace.name: len(namespace.index) for namespace in self.directory},
            counters=replace(self.counters, recoveries=dict(self.counters.recoveries)),
            journals=journals,
        )

    def keep_task(self, task: asyncio.Task[Any]) -> None:
        """Hold on to a task until it is done, and wait for it at the end."""
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    def ask_others(self, namespace: str, question: Question, timeout_s: float) -> AsyncIterator[Reply]:
        """Ask the other servers of a cluster; see `Others.ask`."""
        return self.others.ask(namespace, question, timeout_s)

    async def open_keeper(self, namespace: str) -> Keeper | None:
        """Open the sessions of a namespace; ``None`` with recovery off."""
        if self.options.recovery is None:
            return None
        journal = await self.store.journal(namespace)
        return Keeper(journal, self.options.recovery, self.environment, self._replay_turns, self.counters, self.codec)

    # -- its life -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store, once; whoever comes later waits for the same start.

        Raises:
            StorageError: The store can't be opened.
        """
        if self._start is None:
            self._start = asyncio.get_running_loop().create_task(self._open())
        try:
            await asyncio.shield(self._start)
        except StorageError:
            self._start = None
            raise

    async def _open(self) -> None:
        await self.store.open()
        try:
            for namespace in list(self.directory):
                await namespace.ready()
            if self.options.recovery is not None:
                await self.directory.revive(await self.store.followed_journals())
            await self.deliveries.start()
        except StorageError:
            await self.store.close()
            # Last, so that nobody has found the closed one meanwhile.
            self.openings += 1
            for namespace in self.directory:
                namespace.forget_store()
            raise
        self._upkeep = asyncio.get_running_loop().create_task(self._keep_up())
        attach_debug_log(self.hooks)
        logger.info("started; %s", self.describe())

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(_UPKEEP_INTERVAL_S)
            try:
                await self.keep_up()
            except StorageError as problem:
                logger.error("upkeep of the store failed: %s", problem)

    async def keep_up(self) -> None:
        """Expire sessions and consumers, telling the application of each, trim, and forget namespaces nobody needs.

        Done every 10 s by itself.

        Raises:
            StorageError: The store did not take it; it is tried again.
        """
        for expired in await self.store.expire_sessions():
            self.counters.expired_sessions += 1
            namespace = self.directory.get(expired.journal)
            if namespace is not None:
                await namespace.tell_expired(expired)
        self.counters.trimmed_events += await self.store.trim()
        await self.directory.clean_up()
        await self._expire_consumers()

    async def _expire_consumers(self) -> None:
        for ended in await self.store.expire_consumers(self.options.consumer_ttl_s, self.deliveries.attached):
            self.counters.expired_consumers += 1
            logger.warning(
                "queue %r: consumer %r has expired, %d messages waited",
                ended.queue,
                ended.consumer,
                ended.waiting,
            )
            if self.hooks.consumer_expired.observers:
                expired = ConsumerExpired(ended.queue, ended.consumer, ended.waiting, ended.dead)
                self.hooks.consumer_expired.tell(expired)

    async def close(self, drain_s: float | None = None) -> None:
        """Stop gracefully: take nobody new, tell clients, let handlers finish, close the store.

        Sessions are kept, so clients recover when a server comes up again on the same store. Whoever calls it again
        waits for the same stop, and may shorten it. If cancelled, the stop goes on.

        Args:
            drain_s: Seconds over which clients are told; ``None`` for the option of that name.

        Raises:
            StorageError: The store could not be closed properly.
        """
        if drain_s is not None or self._stop is None:
            self._drain.end_within(self.options.drain_s if drain_s is None else drain_s)
        if self._stop is None:
            self.gate.is_shut = True
            self.deliveries.stop()
            self._stop = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._stop)

    async def _close(self) -> None:
        await self._drain.run()
        await self._finish_tasks()
        if self._upkeep is not None:
            self._upkeep.cancel()
        if self._start is not None:
            await asyncio.wait({self._start})
        await self.store.close()
        self.threads.shutdown(wait=False, cancel_futures=True)
        if self._start is not None:
            logger.info("stopped")

    async def _finish_tasks(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _HANDLERS_TIMEOUT_S
        # A task may leave work for another one.
        while self._tasks and (left_s := deadline - loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left_s)
        if self._tasks:
            logger.warning("%d handlers were still running and are cancelled", len(self._tasks))
        deadline = loop.time() + _HANDLERS_TIMEOUT_S
        while self._tasks and (left_s := deadline - loop.time()) > 0:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.wait(self._tasks, timeout=left_s)

    # -- its parts ------------------------------------------------------------------------------------------

    def _accept(self, connection: Connection) -> Peer:
        return Peer(connection, self)

    def _session_settings(self) -> SessionSettings:
        options = self.options
        packet = options.initial_packet
        return SessionSettings(
            ping_interval_s=options.ping_interval_s,
            ping_timeout_s=options.ping_timeout_s,
            upgrade_timeout_s=options.upgrade_timeout_s,
            max_payload_bytes=options.max_payload_bytes,
            max_buffered_bytes=options.max_buffered_bytes,
            max_stalled_s=options.max_stalled_s,
            upgrades=tuple(name for name in options.transports if name == "websocket" and options.allow_upgrades),
            initial_message=PacketType.MESSAGE + packet if isinstance(packet, str) else packet,
        )

    def _make_store(self, spec: str | PathLike[str]) -> Store:
        recovery = self.options.recovery
        retention = Retention()
        if recovery is not None:
            retention = Retention(
                max_age_s=recovery.max_age_s,
                max_entries=recovery.max_events,
                max_bytes=recovery.max_bytes,
            )
        return make_store(
            spec,
            durability=self.options.durability,
            retention=retention,
            tail_bytes=recovery.tail_bytes if recovery else 0,
            orphan_ttl_s=recovery.session_ttl_s if recovery else 0,
            answer_ttl_s=self.options.answer_ttl_s,
            queue_limits=self.options.queues.limits,
            wall_time=self.environment.wall_time,
        )
