"""One history of several servers on one store: the host, the servers' lives, the clients, and what lies between."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any
from unittest.mock import patch

from tests.sim.app import install
from tests.sim.client import ClientSocket, Manager, Shown
from tests.sim.clock import LIFE, Life, VirtualLoop
from tests.sim.disk import Disk
from tests.sim.history import History, ServersPlan, Step
from tests.sim.lives import LifeLog
from tests.sim.network import Link
from tests.sim.operations import Operations
from tests.sim.servers.asking import install_asking
from tests.sim.servers.links import StoreLink
from tests.sim.store import Pace, SimStore
from tests.sim.trace import Trace
from waypost.application import Server
from waypost.errors import StorageError
from waypost.protocol.socketio import Packet
from waypost.server.basics.environment import Environment
from waypost.server.hub import Hub
from waypost.server.namespaces.socket import Socket
from waypost.server.queues.options import QueueOptions, limits_of
from waypost.server.recovery.options import Recovery
from waypost.storage.choose import Clocks, StoreOptions
from waypost.storage.host import host
from waypost.storage.host.host import StoreHost
from waypost.storage.journal_records import Retention
from waypost.storage.remote.store import RemoteStore
from waypost.storage.wire.link import Link as AnyLink

__all__ = ["Node", "ServersWorld"]

_EPOCH = 1_700_000_000.0
_ORPHANED_S = 0.2
"""The longest time until a server ends whose host is gone; it hears nothing of the store meanwhile."""
_STUCK_S = 5.0
"""The time after which the parent gives the consumers of a server that stands still to others."""
_QUEUES = QueueOptions(lease_s=30.0, max_failures=50)


class Node:
    """One life of one of the servers.

    Attributes:
        number: Which server it is.
        life: When it is over.
        died: When it was killed.
        server: The server.
        links: The links of clients that it has accepted.
        store_links: Its links to the host.
        freezes: How often it is frozen now.
        unreachable: From when to when it could not reach the host, or was not reached.
        is_stopping: Whether it is being stopped.
    """

    def __init__(self, number: int, life: Life, server: Server, context: contextvars.Context) -> None:
        self.number = number
        self.life = life
        self.died = inf
        self.server = server
        self.context = context
        self.links: list[Link] = []
        self.store_links: list[StoreLink] = []
        self.freezes = 0
        self.unreachable: list[tuple[float, float]] = []
        self.is_stopping = False

    @property
    def hub(self) -> Hub:
        return self.server._hub

    @property
    def all_links(self) -> Iterator[Link | StoreLink]:
        yield from self.store_links
        yield from self.links


class ServersWorld:
    """Everything there is in one history.

    Attributes:
        nodes: The servers that run, by number.
        lived: Every life of a server, by its number.
        problems: What happened that must never happen.
        is_healed: Whether no faults happen any more.
        homes: The life of the server in which each client was let in last.
        asked: The clients that a handler of their events has called, each with the life of the server that did.
        last_calls: The number of the first operation after all faults: each call from there on must be answered.
    """

    def __init__(self, history: History, loop: VirtualLoop) -> None:
        assert history.circumstances.servers is not None
        self.history = history
        self.circumstances = history.circumstances
        self.plan: ServersPlan = history.circumstances.servers
        self.loop = loop
        self.trace = Trace(loop.time)
        self.problems: list[str] = []
        self.is_healed = False
        self.nodes: dict[int, Node] = {}
        self.lived: dict[int, Node] = {}
        self.sockets: dict[tuple[str, str], Socket] = {}
        self.homes: dict[tuple[str, str], Node] = {}
        self.lives = LifeLog(loop.time)
        self.said: dict[int, int] = {}
        self.notes: set[int] = set()
        self.noted: dict[str, int] = {}
        self.acknowledged: list[tuple[str, str, int]] = []
        self.opened: list[tuple[str, float]] = []
        self.asked: set[tuple[int, str]] = set()
        self.last_calls = 0
        self._links = 0
        self._absences = 0
        self._openings = self._host_lives = 0
        self._visited: dict[str, int] = {}
        self._outside = contextvars.copy_context()
        self.disk = Disk(
            Retention(max_entries=self.circumstances.max_events),
            limits_of(_QUEUES),
            loop.time,
            self.wall_time,
            f"s{history.seed}",
        )
        self.operations = Operations(self.disk.log, self.trace)
        self._handling = history.chance("client handlers")
        self.managers = {
            name: Manager(name, self, history.chance(f"client {name}"), self.circumstances.reconnect_ms)
            for name in self.circumstances.clients
        }
        self._wall_ahead_s = {"host": 0.0}
        self.host = self._make_host()
        self._beat()

    # -- surroundings ---------------------------------------------------------------------------------------

    def time(self) -> float:
        return self.loop.time()

    def wall_time(self) -> float:
        return _EPOCH + self.loop.time()

    def set_clock(self, who: str, ahead_s: float) -> None:
        """Set a wall clock: the host's, or that of a server."""
        self.trace.note("the clock of {} is set {:.0f} s ahead", who, ahead_s)
        self._wall_ahead_s[who] = ahead_s

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

    # -- the store ------------------------------------------------------------------------------------------

    @contextmanager
    def simulated_store(self) -> Iterator[None]:
        """Let the host open the simulated disk."""
        one = self.circumstances
        pace = Pace(one.commit_s, one.report_s, one.full, one.session_ttl_s, blames=False)

        def make_store(_options: StoreOptions, _clocks: Clocks) -> Any:
            self._openings += 1
            return SimStore(self.disk, pace, self.history.chance(f"disk {self._openings}"), lambda _name: False)

        with patch.object(host, "make_store", make_store):
            yield

    def _make_host(self) -> StoreHost:
        life = self.host_life = Life(-1 - self._host_lives)
        self._host_lives += 1
        self._in_host = self._outside.copy()
        self._in_host.run(LIFE.set, life)
        clocks = Clocks(wall_time=lambda: self.wall_time() + self._wall_ahead_s["host"], steady_time=self.time)
        return self._in_host.run(StoreHost, clocks=clocks)

    def kill_host(self, down_s: float) -> None:
        """Kill the host, and with it all servers, each a moment later; all come back after a while."""
        if self.host_life.over:
            return
        self.trace.note("the host is killed")
        self.loop.end(self.host_life)
        chance = self.history.chance(f"orphans {self._host_lives}")
        for node in [*self.nodes.values()]:
            for link in node.store_links:
                link.host_died()
            self.after(chance.random() * _ORPHANED_S, self._orphaned, node, down_s)
        self.after(_ORPHANED_S, self._renew_host)

    def _orphaned(self, node: Node, down_s: float) -> None:
        if not node.life.over:
            self.trace.note("server {} ends, its host is gone", node.life.number)
            self._end(node)
            self.after(down_s + _ORPHANED_S, self.start, node.number)

    def _renew_host(self) -> None:
        self.host = self._make_host()

    def _make_store(self, life: Life, context: contextvars.Context, options: StoreOptions, clocks: Clocks) -> Any:
        async def connect() -> AnyLink:
            node = self.lived[life.number]
            name = f"n{life.number}.{len(node.store_links)}"
            link = StoreLink(
                self.later,
                lambda when, callback: self.loop.call_at(when, callback, context=context),
                self.time,
                self.history.chance(f"link {name}"),
                self.plan.link_s,
            )
            node.store_links.append(link)
            for _ in range(node.freezes + self._absences):
                link.stall()
            if self.host_life.over:
                link.host_died()
            else:
                self._in_host.copy().run(self.host.attach, link.host, name)
            return link.server

        return RemoteStore(connect, options, clocks)

    # -- the servers' lives ---------------------------------------------------------------------------------

    def start(self, number: int) -> None:
        """Start a server, unless it runs."""
        if number in self.nodes:
            return
        if self.host_life.over:
            # It is the parent that starts servers.
            self.after(_ORPHANED_S, self.start, number)
            return
        life = Life(len(self.lived) + 1)
        context = self._outside.copy()
        context.run(LIFE.set, life)
        self.trace.note("server {} starts as {}", number, life.number)
        node = context.run(self._make_node, number, life, context)
        self.nodes[number] = self.lived[life.number] = node
        self.run_in(node, self._start(node))

    def _make_node(self, number: int, life: Life, context: contextvars.Context) -> Node:
        chance = self.history.chance(f"server {life.number}")
        ids = self.history.chance(f"ids {life.number}")
        one = self.circumstances
        # Nobody sets it, and no two begin alike.
        ahead_s = self.history.chance(f"steady clock {life.number}").uniform(0, 1e6)
        server = Server(
            environment=Environment(
                new_id=lambda: f"{ids.getrandbits(64):016x}",
                wall_time=lambda: self.wall_time() + self._wall_ahead_s.get(f"s{number}", 0.0),
                steady_time=lambda: self.time() + ahead_s,
                random=chance.random,
                ticks_ns=lambda: int(self.time() * 1e9),
            ),
            ping_interval_s=one.ping_interval_s,
            ping_timeout_s=one.ping_timeout_s,
            max_buffered_bytes=one.max_buffered_bytes,
            drain_s=one.drain_s,
            queues=_QUEUES,
            recovery=Recovery(
                session_ttl_s=one.session_ttl_s,
                max_events=one.max_events,
                replay_max_events=one.replay_max_events,
                concurrent_replays=one.concurrent_replays,
            ),
        )
        node = Node(number, life, server, context)
        node.hub.use_store_from(lambda options, clocks: self._make_store(life, context, options, clocks))
        app, leaving = self.history.chance(f"app {life.number}"), self.history.chance(f"leaving {life.number}")
        install(server, life.number, one, self, app, leaving)
        install_asking(server, self.operations, lambda sid: self.asked.add((life.number, sid)))
        return node

    async def _start(self, node: Node) -> None:
        while True:
            try:
                await node.server.start()
            except StorageError as problem:
                self.trace.note("server {} could not start: {!r}", node.life.number, problem)
                await asyncio.sleep(1.0)
            else:
                return

    def run_in(self, node: Node, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something as part of a server's process."""
        return self.loop.create_task(coroutine, context=node.context.copy())

    def in_server(self, step: Step, make: Callable[[Server], Coroutine[Any, Any, Any]]) -> None:
        """Run something in the server that a step is about, if it lives."""
        node = self.node_of(step)
        if node is not None:
            self.run_in(node, make(node.server))

    def with_socket(self, step: Step, make: Callable[[Socket], Coroutine[Any, Any, Any]]) -> None:
        """Run something with the socket that a step is about, in the server that has let it in last."""
        node = self.homes.get((step.who, step.where))
        if node is not None and not node.life.over:
            self.run_in(node, make(self.sockets[step.who, step.where]))

    def node_of(self, step: Step) -> Node | None:
        """Return the server that a step is about, if it lives."""
        return self.nodes.get(int(step.who[1:]))

    def kill(self, node: Node, down_s: float) -> None:
        """Kill a server; it comes back after a while."""
        self.trace.note("server {} is killed", node.life.number)
        self._end(node)
        self.after(down_s, self.start, node.number)

    def stop(self, node: Node, down_s: float) -> None:
        """Stop a server gracefully; it comes back after a while."""
        if not node.is_stopping:
            node.is_stopping = True
            self.run_in(node, self._stop(node, down_s))

    async def _stop(self, node: Node, down_s: float) -> None:
        await node.server.close()
        self.trace.note("server {} has stopped", node.life.number)
        self._end(node)
        self.after(down_s, self.start, node.number)

    def _end(self, node: Node) -> None:
        self.loop.end(node.life)
        node.died = self.time()
        del self.nodes[node.number]
        for store_link in node.store_links:
            store_link.server_died(was_frozen=node.freezes > 0)
        chance = self.history.chance(f"end {node.life.number}")
        for link in node.links:
            if chance.random() < 0.3:
                link.down.cut()
                self.after(chance.random() * self.circumstances.latency_s, link.client_notices)
            else:
                link.server_died()

    def freeze(self, node: Node, seconds: float) -> None:
        """Let nothing reach a server or come from it for a while, and all of it later."""
        self.trace.note("server {} is frozen", node.life.number)
        node.freezes += 1
        node.unreachable.append((self.time(), self.time() + seconds))
        for link in node.all_links:
            link.stall()
        self.loop.freeze(node.life)
        self.after(seconds, self._thaw, node)
        if seconds > _STUCK_S:
            self.after(_STUCK_S, self._take_for_stuck, node)

    def _take_for_stuck(self, node: Node) -> None:
        if not (node.life.over or self.host_life.over):
            for number in range(len(node.store_links)):
                self.host.free_consumers(f"n{node.life.number}.{number}")

    def _thaw(self, node: Node) -> None:
        self.trace.note("server {} goes on", node.life.number)
        node.freezes -= 1
        if not (node.freezes or node.life.over):
            self.loop.thaw(node.life)
        for link in node.all_links:
            link.resume()

    def _beat(self) -> None:
        if not (self._absences or self.host_life.over):
            self.host.beat()
        self.after(1.0, self._beat)

    def lose_host(self, seconds: float) -> None:
        """Let no server reach the host for a while."""
        self.trace.note("the host is away")
        self._absences += 1
        for node in self.nodes.values():
            node.unreachable.append((self.time(), self.time() + seconds))
            for link in node.store_links:
                link.stall()
        self.after(seconds, self._find_host)

    def _find_host(self) -> None:
        self.trace.note("the host is back")
        self._absences -= 1
        for node in self.lived.values():
            for link in node.store_links:
                link.resume()

    # -- the network ----------------------------------------------------------------------------------------

    def connect(self, manager: Manager) -> Link:
        self._links += 1
        name = f"{manager.name}~{self._links}"
        one, chance = self.circumstances, self.history.chance(f"{manager.name}~{self._links}")
        link = Link(name, manager, self.later, self.time, chance, one.latency_s, one.window)
        node = self._choose(manager.name, name)
        self.opened.append((name, self.time()))
        self.trace.note("{} opens to {}", name, None if node is None else node.life.number)
        self.after(self.history.chance(f"{name} open").random() * one.latency_s, self._accept, node, link)
        return link

    def _choose(self, client: str, link: str) -> Node | None:
        """Choose the server that a client comes to: mostly another one than the last."""
        chance = self.history.chance(f"{link} where")
        others = [number for number in sorted(self.nodes) if number != self._visited.get(client)]
        number = chance.choice(others) if others and chance.random() < 0.85 else chance.randrange(self.plan.count)
        self._visited[client] = number
        return self.nodes.get(number)

    def _accept(self, node: Node | None, link: Link) -> None:
        if node is None or node.life.over:
            link.client_notices()
            return
        node.links.append(link)
        for _ in range(node.freezes):
            link.stall()
        self.run_in(node, self._serve(node, link))

    async def _serve(self, node: Node, link: Link) -> None:
        scope = {
            "type": "websocket",
            "path": "/socket.io/",
            "query_string": b"EIO=4&transport=websocket&t=abc",
            "headers": [],
            "client": (link.name, 0),
        }
        try:
            await node.server(scope, link.asgi_receive, link.asgi_send)
        except StorageError as problem:
            self.trace.note("{} can't be served: {}", link.name, problem)
        await link.asgi_send({"type": "websocket.close"})

    # -- the clients' application ---------------------------------------------------------------------------

    def delivered(self, socket: ClientSocket, packet: Packet, shown: Shown) -> None:
        if packet.ack_id is None:
            generation, _point, position = (shown.offset or "").partition(".")
            journal = self.disk.journal(socket.namespace)
            if generation != journal.generation or not position.isdigit():
                self.wrong(f"{socket.label} was shown {shown} with an odd offset")
            elif int(position) > journal.top:
                self.wrong(f"{socket.label} was shown {shown} before it was on disk")
            return
        chance = self._handling.random()
        if self.is_healed or chance < 0.7:
            self._acknowledge(socket, packet.ack_id, shown)
        elif chance < 0.8 and shown.name == "q":
            socket.acknowledge(packet.ack_id, {"nack": True, "retry_in": self._handling.random() * 3})
        else:
            self.after(self._handling.random() * 8, self._acknowledge, socket, packet.ack_id, shown)

    def _acknowledge(self, socket: ClientSocket, ack_id: int, shown: Shown) -> None:
        self.trace.note("{}: acknowledges {} {}", socket.label, shown.name, shown.arguments[:1])
        if shown.name == "q":
            self.acknowledged.append((*self.circumstances.consumes[socket.manager.name], shown.arguments[1]))
        socket.acknowledge(ack_id, shown.arguments[0])

    def answered(self, socket: ClientSocket, ack_id: int, arguments: list[Any]) -> None:
        if arguments != [ack_id]:
            self.wrong(f"{socket.label} got {arguments} as the ack of {ack_id}")
        if ack_id in self.notes:
            sid = socket.epochs[-1].sid
            self.noted[sid] = max(ack_id, self.noted.get(sid, 0))

    def turned_away(self, socket: ClientSocket, why: str) -> None:
        self.trace.note("{}: {}", socket.label, why)
        self.after(0.2 + 2 * self._handling.random(), socket.connect)

    # -- the servers' application ---------------------------------------------------------------------------

    def entered(self, socket: Socket) -> None:
        life = LIFE.get()
        assert life is not None
        name = socket.handshake.auth["name"]
        self.trace.note("connect handler of {} {} in {}", name, socket.id, life.number)
        self.homes[name, socket.namespace] = self.lived[life.number]
        noted, kept = self.noted.get(socket.id, 0), socket.data.get("noted", 0)
        if kept < noted:
            self.wrong(f"{socket.id} has forgotten its note {noted}, it has {kept}")

    def handled(self, socket: Socket, number: int) -> None:
        self.said[number] = self.said.get(number, 0) + 1
        if self.said[number] > 1:
            self.wrong(f"{socket.id} handled event {number} of its client twice")

    @property
    def is_whole(self) -> bool:
        """Whether every server runs and reaches the host."""
        nodes = self.nodes.values()
        is_held = self._absences or self.host_life.over or any(node.freezes or node.is_stopping for node in nodes)
        return len(nodes) == self.plan.count and not is_held

    def heal(self) -> None:
        """Let no fault happen any more."""
        self.trace.note("HEALED")
        self.is_healed = True
        for socket in self.client_sockets:
            socket.connect()
