"""One history, run: the server's lives, the clients, the network between them, and what is done to them."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from dataclasses import replace
from math import inf
from random import Random
from typing import Any

from tests.sim.app import install
from tests.sim.client import ClientSocket, Manager, Shown
from tests.sim.clock import LIFE, Life, VirtualLoop
from tests.sim.disk import Disk
from tests.sim.history import Circumstances, History, Step
from tests.sim.lives import LifeLog
from tests.sim.network import Link
from tests.sim.operations import Operations
from tests.sim.queue_clients import QueueClients
from tests.sim.store import Pace, SimStore
from tests.sim.trace import Trace
from waypost.application import Server
from waypost.errors import StorageError
from waypost.protocol.extension import HEADER
from waypost.protocol.socketio import Packet
from waypost.server.basics.environment import Environment
from waypost.server.hub import Hub
from waypost.server.namespaces.socket import Socket
from waypost.server.queues.options import QueueOptions, limits_of
from waypost.server.recovery.options import Recovery
from waypost.storage.journal_records import Retention

__all__ = ["Process", "World"]

_EPOCH = 1_700_000_000.0


class Process:
    """One life of the server.

    Attributes:
        life: When it is over.
        server: The server.
        store: Its opening of the disk.
        links: The links it has accepted.
        is_stopping: Whether it is being stopped.
    """

    def __init__(self, life: Life, server: Server, store: SimStore, context: contextvars.Context) -> None:
        self.life = life
        self.server = server
        self.store = store
        self.context = context
        self.links: list[Link] = []
        self.is_stopping = False

    @property
    def hub(self) -> Hub:
        return self.server._hub


class World:
    """Everything there is in one history.

    Attributes:
        process: The server that runs, if one does.
        problems: What happened that must never happen.
        is_healed: Whether no faults happen any more.
        queue_clients: What clients do with messages of a queue.
        clock_set_at: When somebody set the wall clock last.
    """

    def __init__(self, history: History, loop: VirtualLoop) -> None:
        self.history = history
        self.circumstances = history.circumstances
        self.loop = loop
        self.trace = Trace(loop.time)
        self.problems: list[str] = []
        self.is_healed = False
        self.process: Process | None = None
        self.sockets: dict[tuple[str, str], Socket] = {}
        self.lives = LifeLog(loop.time)
        self.acknowledged: list[tuple[str, str, int]] = []
        self.said: dict[int, int] = {}
        self.notes: set[int] = set()
        self.noted: dict[str, int] = {}
        self.links = 0
        self.opened: list[tuple[str, float]] = []
        self.jump_s = 0.0
        self.clock_set_at = -inf
        self._lives = 0
        self._armed: tuple[str, int, float] | None = None
        self._outside = contextvars.copy_context()
        self.disk = Disk(
            Retention(max_entries=self.circumstances.max_events),
            limits_of(_queue_options(self.circumstances)),
            loop.time,
            self.wall_time,
            f"s{history.seed}",
        )
        self.operations = Operations(self.disk.log, self.trace)
        self._handling = self.chance("client handlers")
        self.queue_clients = QueueClients(self, self._handling)
        self.managers = {
            name: Manager(name, self, self.chance(f"client {name}"), self.circumstances.reconnect_ms)
            for name in self.circumstances.clients
        }

    # -- surroundings ---------------------------------------------------------------------------------------

    def chance(self, name: str) -> Random:
        """Return a source of chance of its own, so that one draw more here changes nothing there."""
        return self.history.chance(name)

    def time(self) -> float:
        return self.loop.time()

    def wall_time(self) -> float:
        return self.wall_time_at(self.loop.time()) + self.jump_s

    def wall_time_at(self, time: float) -> float:
        """Return the right time of day at a virtual time."""
        return _EPOCH + time

    def later(self, when: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        """Call something at a time, whoever dies meanwhile."""
        return self.loop.call_at(when, callback, *args, context=self._outside)

    def after(self, seconds: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        """Call something after a while, whoever dies meanwhile."""
        return self.later(self.loop.time() + seconds, callback, *args)

    def wrong(self, problem: str) -> None:
        self.problems.append(problem)
        self.trace.note("WRONG: {}", problem)

    @property
    def client_sockets(self) -> list[ClientSocket]:
        """List all clients' sockets."""
        return [socket for manager in self.managers.values() for socket in manager.sockets.values()]

    # -- the server's lives ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the server, unless it runs."""
        if self.process is not None:
            return
        self._lives += 1
        life = Life(self._lives)
        context = self._outside.copy()
        context.run(LIFE.set, life)
        self.trace.note("server {} starts", life.number)
        self.process = process = context.run(self._make_process, life, context)
        self.run_in(process, self._start(process))

    def _make_process(self, life: Life, context: contextvars.Context) -> Process:
        chance = self.chance(f"server {life.number}")
        ids = self.chance(f"ids {life.number}")
        one = self.circumstances
        server = Server(
            environment=Environment(
                new_id=lambda: f"{ids.getrandbits(64):016x}",
                wall_time=self.wall_time,
                steady_time=self.time,
                random=chance.random,
                ticks_ns=lambda: int(self.time() * 1e9),
            ),
            ping_interval_s=one.ping_interval_s,
            ping_timeout_s=one.ping_timeout_s,
            max_buffered_bytes=one.max_buffered_bytes,
            drain_s=one.drain_s,
            queues=_queue_options(one),
            recovery=Recovery(
                session_ttl_s=one.session_ttl_s,
                max_events=one.max_events,
                replay_max_events=one.replay_max_events,
                concurrent_replays=one.concurrent_replays,
            ),
        )
        full = 0.0 if self.is_healed else one.full
        pace = Pace(one.commit_s, one.report_s, full, one.session_ttl_s, blames=one.queue is not None)
        store = SimStore(self.disk, pace, self.chance(f"disk {life.number}"), self._gate)
        process = Process(life, server, store, context)
        process.hub.services.store = store
        app, leaving = self.chance(f"app {life.number}"), self.chance(f"leaving {life.number}")
        install(server, life.number, one, self, app, leaving)
        if one.queue is not None:
            self.disk.queues.watch(server, life.number)
        return process

    async def _start(self, process: Process) -> None:
        while True:
            try:
                await process.server.start()
            except StorageError as problem:
                self.trace.note("server {} could not start: {!r}", process.life.number, problem)
                await asyncio.sleep(1.0)
            else:
                return

    def run_in(self, process: Process, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something as part of a server's process."""
        return self.loop.create_task(coroutine, context=process.context.copy())

    def in_server(self, step: Step, make: Callable[[Server], Coroutine[Any, Any, Any]]) -> None:
        """Run something in the server, if it lives."""
        if self.process is not None:
            self.run_in(self.process, make(self.process.server))

    def with_socket(self, step: Step, make: Callable[[Socket], Coroutine[Any, Any, Any]]) -> None:
        """Run something with the socket that a step is about."""
        socket = self.sockets.get((step.who, step.where))
        if self.process is not None and socket is not None:
            self.run_in(self.process, make(socket))

    def crash(self, down_s: float) -> None:
        """Kill the server; it comes back after a while."""
        process = self.process
        if process is None:
            return
        self.trace.note("server {} is killed", process.life.number)
        self._end(process)
        self.after(down_s, self.start)

    def _end(self, process: Process) -> None:
        self.loop.end(process.life)
        self.disk.queues.note("ended", "", "", process.life.number, process.is_stopping)
        self.process = None
        self._armed = None
        self.sockets.clear()
        chance = self.chance(f"end {process.life.number}")
        for link in process.links:
            if chance.random() < 0.3:
                link.down.cut()
                self.after(chance.random() * self.circumstances.latency_s, link.client_notices)
            else:
                link.server_died()

    def _gate(self, name: str) -> bool:
        if self._armed is None or self._armed[0] != name:
            return False
        _name, left, down_s = self._armed
        if left > 1:
            self._armed = (name, left - 1, down_s)
            return False
        self.trace.note("the store is at {}", name)
        self.crash(down_s)
        return True

    async def _stop(self, process: Process, down_s: float) -> None:
        await process.server.close()
        self.trace.note("server {} has stopped", process.life.number)
        self._end(process)
        self.after(down_s, self.start)

    # -- the network ----------------------------------------------------------------------------------------

    def connect(self, manager: Manager) -> Link:
        self.links += 1
        name = f"{manager.name}~{self.links}"
        one = self.circumstances
        link = Link(name, manager, self.later, self.time, self.chance(name), one.latency_s, one.window)
        self.opened.append((name, self.loop.time()))
        self.trace.note("{} opens", name)
        self.after(self.chance(f"{name} open").random() * one.latency_s, self._accept, link)
        return link

    def _accept(self, link: Link) -> None:
        process = self.process
        if process is None:
            link.client_notices()
            return
        process.links.append(link)
        self.run_in(process, self._serve(process, link))

    async def _serve(self, process: Process, link: Link) -> None:
        scope = {
            "type": "websocket",
            "path": "/socket.io/",
            "query_string": b"EIO=4&transport=websocket&t=abc",
            "headers": [] if self.circumstances.queue is None else [(HEADER.encode(), b"1")],
            "client": (link.name, 0),
        }
        try:
            await process.server(scope, link.asgi_receive, link.asgi_send)
        except StorageError as problem:
            self.trace.note("{} can't be served: {}", link.name, problem)
        await link.asgi_send({"type": "websocket.close"})
        process.links.remove(link)

    # -- the clients' application ---------------------------------------------------------------------------

    def delivered(self, socket: ClientSocket, packet: Packet, shown: Shown) -> None:
        if packet.ack_id is None:
            self._check_committed(socket, shown)
            return
        if self.circumstances.queue is not None and shown.mark is not None:
            self.queue_clients.take(socket, packet.ack_id, self.circumstances.queue)
            return
        chance = self._handling.random()
        if self.is_healed or chance < 0.7:
            self._acknowledge(socket, packet.ack_id, shown)
        elif chance < 0.8 and shown.name == "q":
            pause_s = self._handling.random() * self.circumstances.longest_pause_s
            socket.acknowledge(packet.ack_id, {"nack": True, "retry_in": pause_s})
        else:
            self.after(self._handling.random() * 8, self._acknowledge, socket, packet.ack_id, shown)

    def _acknowledge(self, socket: ClientSocket, ack_id: int, shown: Shown) -> None:
        self.trace.note("{}: acknowledges {} {}", socket.label, shown.name, shown.arguments[:1])
        if shown.name == "q":
            queue, consumer = self.circumstances.consumes[socket.manager.name]
            self.acknowledged.append((queue, consumer, shown.arguments[1]))
        socket.acknowledge(ack_id, shown.arguments[0])

    def _check_committed(self, socket: ClientSocket, shown: Shown) -> None:
        generation, _point, position = (shown.offset or "").partition(".")
        journal = self.disk.journal(socket.namespace)
        if not position.isdigit() or (generation != journal.generation and generation not in journal.ends):
            self.wrong(f"{socket.label} was shown {shown} with an odd offset")
        elif int(position) > journal.top:
            self.wrong(f"{socket.label} was shown {shown} before it was on disk")

    def answered(self, socket: ClientSocket, ack_id: int, arguments: list[Any]) -> None:
        if arguments != [ack_id]:
            self.wrong(f"{socket.label} got {arguments} as the ack of {ack_id}")
        if ack_id in self.notes:
            sid = socket.epochs[-1].sid
            self.noted[sid] = max(ack_id, self.noted.get(sid, 0))

    def turned_away(self, socket: ClientSocket, why: str) -> None:
        self.trace.note("{}: {}", socket.label, why)
        self.after(0.2 + 2 * self._handling.random(), socket.connect)

    # -- the server's application ---------------------------------------------------------------------------

    def entered(self, socket: Socket) -> None:
        self.trace.note("connect handler of {} {}", socket.handshake.auth["name"], socket.id)
        noted, kept = self.noted.get(socket.id, 0), socket.data.get("noted", 0)
        # With a full disk a note may be acknowledged and not stored; that is logged.
        if kept < noted and not self.circumstances.full:
            self.wrong(f"{socket.id} has forgotten its note {noted}, it has {kept}")

    def handled(self, socket: Socket, number: int) -> None:
        self.said[number] = self.said.get(number, 0) + 1
        if self.said[number] > 1:
            self.wrong(f"{socket.id} handled event {number} of its client twice")

    # -- what is done to the server -------------------------------------------------------------------------

    def arm(self, gate: str, count: int, down_s: float) -> None:
        """Kill the server when its store comes to a step for the so many-th time."""
        if not self.is_healed:
            self._armed = (gate, count, down_s)

    def stop(self, down_s: float) -> None:
        """Stop the server gracefully; it comes back after a while."""
        process = self.process
        if process is not None and not process.is_stopping:
            process.is_stopping = True
            self.run_in(process, self._stop(process, down_s))

    def jump_clock(self, seconds: float) -> None:
        """Move the wall clock."""
        self.disk.queues.note("set", "", "")
        self.jump_s += seconds
        self.clock_set_at = self.loop.time()
        self.disk.queues.note("set", "", "")

    def heal(self) -> None:
        """Let no fault happen any more."""
        self.trace.note("HEALED")
        self.is_healed = True
        self._armed = None
        if self.process is not None:
            self.process.store.full = 0.0
        for socket in self.client_sockets:
            socket.connect()


def _queue_options(one: Circumstances) -> QueueOptions:
    options = QueueOptions(lease_s=one.lease_s, max_failures=one.max_failures)
    plan = one.queue
    if plan is None:
        return options
    return replace(
        options,
        max_losses=plan.max_losses,
        max_messages=plan.max_messages,
        overflow="refuse" if plan.max_messages is None else "drop_oldest",
        prefetch=plan.prefetch,
        max_lease_s=plan.max_lease_s,
        first_backoff_s=plan.first_backoff_s,
        backoff_jitter=plan.backoff_jitter,
    )
