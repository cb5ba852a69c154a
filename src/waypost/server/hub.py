"""The centre of the server: builds all parts, passes each what it needs, and starts and stops them together."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from dataclasses import replace
from os import PathLike, path
from pathlib import Path
from typing import TYPE_CHECKING, Any

from waypost.checking.arguments import POSITIVE_OR_ZERO, check
from waypost.daemon_threads import DaemonThreads
from waypost.errors import ConfigurationError, StorageError, StoreClosed, StoreLost, WrongEventLoop
from waypost.logs import fields, get_logger
from waypost.own_loop import OwnLoop
from waypost.protocol.codec import codec_for
from waypost.protocol.engineio import PacketType
from waypost.protocol.session_settings import SessionSettings
from waypost.server.basics.deadline import Deadline
from waypost.server.basics.environment import Environment
from waypost.server.basics.write_turn import WriteTurn
from waypost.server.calling.runners import Runners
from waypost.server.calling.tasks import Tasks
from waypost.server.cluster.asking import Asking
from waypost.server.connections.addresses import AddressLimits
from waypost.server.connections.connection import Connection
from waypost.server.connections.drain import Drain
from waypost.server.connections.engine import Engine
from waypost.server.connections.gate import Gate
from waypost.server.events.background import Background
from waypost.server.events.repeats import Repeats
from waypost.server.namespaces.core import Parts
from waypost.server.namespaces.directory import Directory
from waypost.server.namespaces.neighbours import Neighbours
from waypost.server.namespaces.numbers import Numbers
from waypost.server.namespaces.peer import Peer
from waypost.server.namespaces.settings import NamespaceSettings
from waypost.server.options import Options
from waypost.server.queues.deliveries import Deliveries
from waypost.server.queues.options import limits_of
from waypost.server.queues.schedules import Schedules
from waypost.server.recovery.elsewhere import Elsewhere
from waypost.server.recovery.keepers import Keepers
from waypost.server.services import Services
from waypost.server.watching.counters import Counters, ServerState
from waypost.server.watching.debug_log import attach_debug_log
from waypost.server.watching.hooks import Hooks
from waypost.server.watching.queue_events import ConsumerExpired
from waypost.server.watching.queue_labels import QueueLabels
from waypost.server.watching.readiness import Phase, Readiness
from waypost.storage.answer_base import AnswerLimits
from waypost.storage.base import Store
from waypost.storage.choose import Clocks, StoreOptions, file_of_store, make_store, whole_spec
from waypost.storage.journal_records import Retention
from waypost.storage.specs import is_database
from waypost.storage.waiting import open_when_free

if TYPE_CHECKING:
    from waypost.server.namespaces.namespace import Namespace, ParentNamespace

__all__ = ["Hub"]

logger = get_logger("waypost.server")

_UPKEEP_INTERVAL_S = 10.0
_HANDLERS_S = 5.0
"""How long handlers of events may take after the last client was disconnected, however long workers took."""
# Answers to what clients have asked for may still reach them.
_SEND_AWAY_AFTER_S = 2.0


class Hub:
    """All parts of a server, without the transports: builds, starts and stops them.

    Args:
        options: The options this server was created with.
        environment: Random numbers and wall time.

    Attributes:
        options: The options this server was created with.
        services: The services that the parts share.
        engine: The table of connections.
        gate: Decides who may open a connection.
        directory: The namespaces.
        deliveries: Delivers the messages of queues to sockets and workers.
        schedules: Puts messages into queues at certain times of day.
        background: The application's background tasks.
        numbers: The numbers of this server, and those of others in a cluster.
        tasks: The tasks that the server waits for when it stops.
        codec: The codec of packets.
        environment: Random numbers and wall time.
        hooks: The observers of the server.
        turn: Collects the writes of one iteration of the event loop.
    """

    def __init__(self, options: Options, environment: Environment) -> None:
        self.options = options
        self.environment = environment
        self._store_spec = options.store
        self._open_from: Callable[[StoreOptions, Clocks], Store] = make_store
        self.codec = codec_for(options.parser, options.max_attachments, options.json_default)
        self.hooks = Hooks()
        self.turn = WriteTurn()
        self.tasks = Tasks()
        asking, counters = Asking(), Counters()
        self.services = Services(
            codec=self.codec,
            environment=environment,
            hooks=self.hooks,
            counters=counters,
            queues=QueueLabels(counters.queues, options.metrics_queues),
            threads=self._new_threads(),
            turn=self.turn,
            keep_task=self.tasks.keep,
            runners=Runners(self.tasks.keep, self.turn),
            store=self._make_store(),
            others=asking,
            own_loop=OwnLoop(),
        )
        self.engine = Engine(self._session_settings(), environment.new_id, self._accept, self.hooks)
        limits = AddressLimits(options.max_connections_per_address, options.max_handshakes_per_address, self.hooks)
        self.gate = Gate(limits, options.allow_request, options.connect_timeout_s, self.hooks)
        self.engine.when_forgotten = limits.forget
        self.deliveries = Deliveries(self.services, options.queues)
        self.schedules = Schedules(self.services, self.deliveries)
        self.background = Background(self.services)
        self._keepers = Keepers(self.services, options.recovery)
        self._elsewhere = Elsewhere(self.services)
        self._parts = Parts(
            self.services,
            self._namespace_settings(),
            self._keepers,
            self._elsewhere,
            Repeats(self.services, options.answer_account),
            self.deliveries,
        )
        self.directory = Directory(self._parts)
        self.directory.of("/")
        self.numbers = Numbers(self.services, self.engine.by_transport, self.engine.traffic, self.directory)
        away = self._keepers.absences.counts
        self.numbers.sites = {"open": limits.open, "half open": limits.half_open, "away": away}
        self._neighbours = Neighbours(self.services, asking, self.directory, self.numbers, self._parts.repeats)
        self._upkeep: asyncio.Task[None] | None = None
        self._beside: set[asyncio.Task[None]] = set()
        self._start: asyncio.Task[None] | None = None
        self._stop: asyncio.Task[None] | None = None
        self._drain = Drain(self.engine)
        self._work_ends = Deadline()
        self._logs_events = False

    # -- what is in it --------------------------------------------------------------------------------------

    def of(
        self, name: str | re.Pattern[str] | Callable[..., Any], *, has_journal: bool
    ) -> Namespace | ParentNamespace:
        """Return a namespace, or make a parent namespace.

        Raises:
            ConfigurationError: The argument is no valid name, no pattern and no function, or the namespace has opened
                its journal already, and is to have none.
        """
        if isinstance(name, str):
            return self.directory.of(name, has_journal=has_journal)
        return self.directory.add_parent(name, has_journal=has_journal)

    def use_store(self, spec: str | PathLike[str]) -> None:
        """Replace the store of the options; only before the start."""
        if self._stop is not None and self._stop.done():
            self._renew()
        if self._start is not None:
            raise ConfigurationError("store", spec, "to be chosen before the server starts")
        self._store_spec = spec
        self.services.store = self._make_store()

    @property
    def store_file(self) -> Path | None:
        """The file of the store, with symbolic links resolved; ``None`` for a store that is none."""
        file = file_of_store(self._store_spec)
        return None if file is None else Path(path.realpath(file))

    @property
    def has_nodes(self) -> bool:
        """Whether other processes, on any machine, can be one service with this one by the store alone."""
        return is_database(self._store_spec)

    def use_store_from(self, opener: Callable[[StoreOptions, Clocks], Store]) -> None:
        """Get the store from a function instead of opening it in this process; only before the start."""
        if self._start is not None:
            raise ConfigurationError("store", opener, "to be chosen before the server starts")
        self._open_from = opener
        self.services.store = self._make_store()

    def describe(self) -> str:
        """Return a description of the store and its durability, in words."""
        return f"store: {self.services.store.capabilities.description}"

    def state(self) -> ServerState:
        """Return the current numbers of the server, in a cluster those of all servers."""
        nodes = self.services.store.nodes
        engine = None if nodes is None else nodes.state()
        return replace(self.numbers.state(), readiness=self.readiness(), engine=engine)

    def readiness(self) -> Readiness:
        """Return whether the server can serve new clients as it should, and if not, why."""
        phase = self._phase()
        return Readiness(phase, self.services.store.troubles() if phase == "running" else ())

    def _phase(self) -> Phase:
        if self._stop is not None:
            return "stopped" if self._stop.done() else "draining"
        if self._start is None:
            return "stopped"
        if not self._start.done():
            return "opening"
        return "draining" if self.gate.is_shut else "running"

    # -- its life -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store. A second call waits for the same start; during a stop it waits, and starts anew.

        Raises:
            StorageError: The store can't be opened.
            WrongEventLoop: The server runs on another event loop, or was not closed on it.
        """
        while (stop := self._stop) is not None:
            if not stop.done():
                _check_loop(stop, "start")
                await asyncio.wait({stop})
            if self._stop is stop:
                self._renew()
        if self._start is None:
            self.services.own_loop.enter("start")
            self._start = asyncio.get_running_loop().create_task(self._open())
        starting = self._start
        _check_loop(starting, "start")
        try:
            await asyncio.shield(starting)
        except (StorageError, ConfigurationError):
            if self._start is starting:
                self._start = None
                self.services.own_loop.leave()
            raise

    async def start_for_request(self) -> None:
        """Open the store at the first request, if nobody did before; a request never starts a closed server.

        Raises:
            StorageError: The store can't be opened.
            WrongEventLoop: The server runs on another event loop.
        """
        if self._stop is not None:
            return
        if self._start is None:
            logger.warning(
                "the first request starts the server, as no lifespan did: an emit before it fails, and nothing tells"
                " clients of a stop; write FastAPI(lifespan=io.lifespan) around app.mount(…), or await io.start() and"
                " io.close(); in a test, `with TestClient(app) as client:`, or `async with io.lifespan():` around"
                " httpx's ASGITransport"
            )
        await self.start()

    def _renew(self) -> None:
        """Be as before the first start. What the application registered stays."""
        self._start = self._stop = self._upkeep = None
        self._drain, self._work_ends = Drain(self.engine), Deadline()
        self.tasks.forget()
        self.services.store = self._make_store()
        self.services.threads = self._new_threads()
        self.services.runners.renew()
        self.turn.renew()
        self.engine.renew()
        self.gate.is_shut = False
        self._keepers.forget_all()
        self.deliveries.renew()
        self.directory.renew()
        self._parts.repeats.forget_all()

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task that ends with the server: a stop cancels it."""
        task = asyncio.get_running_loop().create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def _open(self) -> None:
        await open_when_free(self.services.store, self.options.store_wait_s, lambda: self._stop is not None)
        self.services.store.watch_loss(self._store_lost)
        self._elsewhere.start()
        nodes = self.services.store.nodes
        if nodes is not None:
            if nodes.ways is not None:
                self.engine.worker = nodes.ways.suffix
            self._neighbours.meet(nodes)
        self.directory.start()
        try:
            for namespace in list(self.directory):
                await namespace.ready()
            if self.options.recovery is not None:
                await self.directory.revive(await self.services.store.followed_journals())
            await self.deliveries.start()
            self.schedules.start()
        except StorageError as problem:
            self._neighbours.part(problem)
            await self.services.store.close()
            # Last, because other tasks may have opened journals of the store during its close.
            self._keepers.forget_all()
            for namespace in self.directory:
                namespace.forget_store()
            raise
        self._upkeep = asyncio.get_running_loop().create_task(self._keep_up())
        self.numbers.start()
        self.background.start()
        if not self._logs_events:
            attach_debug_log(self.hooks)
            self._logs_events = True
        logger.info("started; %s", self.describe())

    def _store_lost(self, lost: StoreLost) -> None:
        self._neighbours.part(lost)
        if lost.is_taken_over:
            # The other server emits from now on, and nothing of it reaches clients that stay here.
            self.gate.is_shut = True
            asyncio.get_running_loop().call_later(_SEND_AWAY_AFTER_S, self._send_away)

    def _send_away(self) -> None:
        for connection in self.engine.connections():
            connection.close("forced server close")

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(_UPKEEP_INTERVAL_S)
            try:
                await self.keep_up()
            except StorageError as problem:
                logger.error("upkeep of the store failed: %s", problem)

    async def keep_up(self) -> None:
        """Expire sessions and consumers, trim journals, and remove idle child namespaces.

        The server calls it every 10 s. The application is notified of each expired session and consumer.

        Raises:
            StorageError: The store failed; the next call tries again.
        """
        for expired in await self.services.store.expire_sessions():
            self.services.counters.expired_sessions += 1
            namespace = self.directory.get(expired.journal)
            if namespace is None and self.services.store.nodes is not None:
                # The session of a client of another node that is gone, and that has made this child namespace.
                await self.directory.revive([expired.journal])
                namespace = self.directory.get(expired.journal)
            if namespace is not None:
                await namespace.tell_expired(expired)
        self.services.counters.trimmed_events += await self.services.store.trim()
        self.deliveries.look_for_losses()
        await self.directory.clean_up()
        await self._expire_consumers()

    async def _expire_consumers(self) -> None:
        for ended in await self.services.store.expire_consumers(
            self.options.consumer_ttl_s, self.deliveries.attached
        ):
            self.services.queues.totals(ended.queue).expired_consumers += 1
            logger.warning(
                "queue %r: consumer %r has expired, %d messages waited",
                ended.queue,
                ended.consumer,
                ended.waiting,
                extra=fields(queue=ended.queue, consumer=ended.consumer, count=ended.waiting),
            )
            if self.hooks.consumer_expired.observers:
                expired = ConsumerExpired(ended.queue, ended.consumer, ended.waiting, ended.dead)
                self.hooks.consumer_expired.tell(expired)

    async def close(self, drain_s: float | None = None, stop_timeout_s: float | None = None) -> None:
        """Stop gracefully: let workers finish, disconnect clients, let handlers finish, close the store.

        Sessions stay in the store, so clients recover when a server starts on the same store. A second call waits for
        the same stop, and may shorten it. If cancelled, the stop continues.

        Args:
            drain_s: Seconds over which clients are disconnected, from 0; ``None`` for the option of that name.
            stop_timeout_s: Seconds in which workers and handlers may finish, from 0; ``None`` for the option of that
                name.

        Raises:
            ConfigurationError: An argument is not a number from 0.
            StorageError: The store could not be closed properly.
            WrongEventLoop: The server runs on another event loop.
        """
        if self._start is not None:
            _check_loop(self._start, "close")
        if drain_s is not None or self._stop is None:
            self._drain.end_within(self.options.drain_s if drain_s is None else drain_s)
        if stop_timeout_s is not None or self._stop is None:
            seconds = self.options.stop_timeout_s if stop_timeout_s is None else stop_timeout_s
            check("stop_timeout_s", seconds, POSITIVE_OR_ZERO)
            self._work_ends.end_within(seconds)
        if self._stop is None:
            self.deliveries.workers.retire()
            running = len(self.deliveries.workers.running)
            if running:
                logger.info(
                    "stopping; waiting for the functions of %d messages, clients are served",
                    running,
                    extra=fields(count=running),
                )
            else:
                self._shut()
            self._stop = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._stop)

    def _shut(self) -> None:
        """Accept no more clients, and deliver no more messages."""
        self.gate.is_shut = True
        self.schedules.stop()
        self.background.stop()
        self.deliveries.stop()

    async def _close(self) -> None:
        await self.deliveries.workers.finish(self._work_ends)
        self._shut()
        await self._drain.run()
        for core in self.directory:
            core.ownership.give_up()
        self._work_ends.leave(_HANDLERS_S)
        await self.tasks.finish(self._work_ends)
        for task in (self._upkeep, *self._beside):
            if task is not None:
                task.cancel()
        if self._start is not None:
            await asyncio.wait({self._start})
        self.numbers.stop()
        self._neighbours.part(StoreClosed(self.services.store.capabilities.description))
        try:
            await self.services.store.close()
        finally:
            self.services.own_loop.leave()
        self.services.threads.shutdown(wait=False, cancel_futures=True)
        if self._start is not None:
            logger.info("stopped")

    # -- its parts ------------------------------------------------------------------------------------------

    def _accept(self, connection: Connection) -> Peer:
        return Peer(connection, self._parts, self.directory)

    def _namespace_settings(self) -> NamespaceSettings:
        options = self.options
        return NamespaceSettings(
            recovery=options.recovery,
            ack_timeout_s=options.ack_timeout_s,
            connect_timeout_s=options.connect_timeout_s,
            concurrent_handlers=options.concurrent_handlers,
            handler_grace_s=options.handler_grace_s,
            max_attachments=options.max_attachments,
            max_auth_bytes=options.max_auth_bytes,
            max_buffered_bytes=options.max_buffered_bytes,
            max_child_namespaces=options.max_child_namespaces,
            max_child_namespaces_per_address=options.max_child_namespaces_per_address,
            max_messages_per_s=options.max_messages_per_s,
            max_namespaces=options.max_namespaces,
            max_payload_bytes=options.max_payload_bytes,
            max_pending_bytes=options.max_pending_bytes,
            max_pending_events=options.max_pending_events,
            cleanup_empty_child_namespaces=options.cleanup_empty_child_namespaces,
        )

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

    def _new_threads(self) -> DaemonThreads:
        return DaemonThreads("waypost-handler", self.options.handler_threads)

    def _make_store(self) -> Store:
        recovery = self.options.recovery
        retention = Retention()
        if recovery is not None:
            retention = Retention(
                max_age_s=recovery.max_age_s,
                max_entries=recovery.max_events,
                max_bytes=recovery.max_bytes,
            )
        return self._open_from(
            StoreOptions(
                spec=whole_spec(self._store_spec),
                durability=self.options.durability,
                retention=retention,
                tail_bytes=recovery.tail_bytes if recovery else 0,
                orphan_ttl_s=recovery.session_ttl_s if recovery else 0,
                answer_ttl_s=self.options.answer_ttl_s,
                answer_limits=AnswerLimits(self.options.max_answer_bytes, self.options.max_answer_bytes_per_address),
                queue_limits=limits_of(self.options.queues),
                disk_reserve_bytes=self.options.disk_reserve_bytes,
                patience_s=self.options.store_patience_s,
                copy_before_upgrade=self.options.store_copy_before_upgrade,
            ),
            Clocks(wall_time=self.environment.wall_time, steady_time=self.environment.steady_time),
        )


def _check_loop(task: asyncio.Task[None], what: str) -> None:
    """Check that a task of the server's life belongs to the running event loop.

    Raises:
        WrongEventLoop: It does not.
    """
    loop = task.get_loop()
    if loop is not asyncio.get_running_loop():
        raise WrongEventLoop(what, is_closed=loop.is_closed())
