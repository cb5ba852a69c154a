"""The other nodes on a PostgreSQL store: composed of beats, members, consumers, and the messages between nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol

from waypost.errors import StorageError
from waypost.logs import fields, get_logger
from waypost.storage.clock import StoreClock
from waypost.storage.engine_state import EngineState, Lag
from waypost.storage.following import QueueFollower, Ways
from waypost.storage.postgres.driver import Connection, EngineGone, Pool, Refusal, Warned
from waypost.storage.postgres.nodes.beats import Beats
from waypost.storage.postgres.nodes.clock_watch import ClockWatch
from waypost.storage.postgres.nodes.consumers import Consumers
from waypost.storage.postgres.nodes.entering import Entrance, leave
from waypost.storage.postgres.nodes.history import History
from waypost.storage.postgres.nodes.identity import NodeIdentity
from waypost.storage.postgres.nodes.members import Members
from waypost.storage.postgres.nodes.observing import STUCK_S, Beat, Seen, Verdict

__all__ = ["Messages", "NodeParts", "PostgresNodes"]

_logger = get_logger(__name__)

_LEADS_S: Final = 5.0
_LOOK_S: Final = 6.0
_APART_S: Final = 0.25
_OFF_S: Final = 5.0
_FORGET_EACH_S: Final = 3600.0
_KEEP_S: Final = 30 * 24 * 3600.0

_DECLARE: Final = "SELECT waypost.declare_1($1, $2, $3, $4)"
_CUT_OFF: Final = "SELECT waypost.cut_off_1($1)"
_RELIEVE: Final = "SELECT waypost.relieve_1($1, $2, $3)"
_FORGET: Final = "SELECT waypost.forget_nodes_1($1)"
_STEPPED: Final = "SELECT waypost.clock_stepped_1($1, $2)"


class Messages(Protocol):
    """The links between nodes; see `waypost.storage.following.Nodes` for `send` and `listen`."""

    @property
    def ways(self) -> Ways | None:
        """The ways to the processes of other nodes."""
        ...

    def send(self, receiver: str | None, topic: str, message: bytes, *, may_drop: bool = False) -> None:
        """Send a message. Returns at once."""
        ...

    def listen(self, topic: str, receive: Callable[[str, bytes], None] | None) -> None:
        """Call a function with the sender and the content of each message on a topic; ``None`` ends that."""
        ...

    def came(self, name: str, address: str) -> None:
        """Note that a node is alive, and where it is reached."""
        ...

    def gone(self, name: str) -> None:
        """Hand out what a node that is dead has sent, and nothing of it any more."""
        ...

    def renewed(self) -> None:
        """Note that this node was dead for the others, and is alive again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeParts:
    """The parts of a store that nodes are made of.

    Attributes:
        store: The store, as errors name it.
        entrance: What this node says of itself.
        identity: Who it is.
        history: What it knows of the engine's history.
        clock: The store's clock, which follows the engine's; ``None`` if the engine goes by another clock that the
            store has been given, and that makes steps.
        steady: The machine's steady clock.
        upkeep: The connection for all of this.
        beat_opener: Opens the connection of the beats' thread, in that thread's event loop.
        messages: The links between nodes.
        catch_up: Applies all rows that are in the log now.
        settled: Waits for this node's earlier writes for a queue.
        owns: Called with a queue when this node owns a consumer of it, before anybody is told so.
        follow_queues: Called with the follower of queues, which is told of what others add.
        lag: Returns how far this node is behind the log.
        lag_s: The lag in seconds above which this node is not ready, and owns no consumers.
    """

    store: str
    entrance: Entrance
    identity: NodeIdentity
    history: History
    clock: StoreClock | None
    steady: Callable[[], float]
    upkeep: Pool
    beat_opener: Callable[[], Awaitable[Connection]]
    messages: Messages
    catch_up: Callable[[], Awaitable[None]]
    settled: Callable[[str], Awaitable[None]]
    owns: Callable[[str], Awaitable[None]]
    follow_queues: Callable[[QueueFollower], None] = lambda _: None
    lag: Callable[[], Lag] = Lag
    lag_s: float = 10.0


class PostgresNodes:
    """The other nodes on the store; see `waypost.storage.following.Nodes`.

    Args:
        parts: What it needs of the other parts of the store.
        first: A beat that this node has made before it serves anybody.

    Attributes:
        identity: Who this node is.
        members: The other nodes.
        consumers: The consumers that this node owns or wants.
    """

    def __init__(self, parts: NodeParts, first: Beat) -> None:
        self.identity = parts.identity
        self.members = Members(parts.identity.name)
        self.consumers = Consumers(parts.store, parts.identity, parts.upkeep, parts.settled, parts.owns)
        self._parts = parts
        self._watch = ClockWatch()
        self._step_s = 0.0
        self._deaths = 0
        self._has_come_back = False
        self._beats = Beats(parts.beat_opener, parts.identity, self._heard, self._missed, parts.steady)
        self._beat = first
        self._verdict = Verdict()
        self._missed_since: float | None = None
        self._looked_at = self._forgot_at = first.answered_at
        self._is_lagging = False
        self._has_news = asyncio.Event()
        self._is_noticed = True
        self._work: asyncio.Task[None] | None = None
        self._led: list[Callable[[bool], None]] = []
        self._is_leading = first.upkeep == parts.identity.id
        self._follow_clock(first)
        self.identity.watch(self._came_back)
        for one in self._came(first):
            parts.messages.came(one.name, one.address)

    # -- its life --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to beat, and to look after the others."""
        self._work = asyncio.get_running_loop().create_task(self._run())
        self._beats.start()

    async def close(self) -> None:
        """Leave, after all of this node's writes; others have at once what it had."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
            self._work = None
        try:
            async with self._parts.upkeep.take() as connection:
                entered = self.identity.id, self.identity.incarnation
                await leave(connection, entered, self._parts.entrance.orphan_ttl_s)
        except (EngineGone, Refusal, Warned) as problem:
            _logger.warning(
                "node %s could not say goodbye, and others find out that it is gone: %s",
                self.name,
                problem,
                extra=fields(node=self.name),
            )
        await self._beats.stop()
        self._lead(leads=False)

    def noticed(self) -> None:
        """Look at once: the engine says that something has changed among the nodes."""
        self._is_noticed = True
        self._beats.hurry()

    def broken(self, name: str) -> None:
        """Tell that messages between this node and a living one are lost: for the watchers it has gone and come."""
        if name in self.others:
            self.members.tell(name, is_there=False)
            self.members.tell(name, is_there=True)

    async def admit(self, connection: Connection) -> None:
        """Check the engine's history on a new connection; see `History.check`."""
        await self._parts.history.check(connection)

    # -- the contract ----------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """This node's name; no other node ever has it."""
        return self.identity.name

    @property
    def others(self) -> Collection[str]:
        """The names of the other nodes that are alive."""
        return self.members.others

    def send(self, receiver: str | None, topic: str, message: bytes, *, may_drop: bool = False) -> None:
        """Send a message to a node, or to everybody."""
        self._parts.messages.send(receiver, topic, message, may_drop=may_drop)

    def listen(self, topic: str, receive: Callable[[str, bytes], None] | None) -> None:
        """Call a function with the sender and the content of each message on a topic; ``None`` ends that."""
        self._parts.messages.listen(topic, receive)

    @property
    def ways(self) -> Ways | None:
        """The ways to the processes of other nodes."""
        return self._parts.messages.ways

    def watch(self, changed: Callable[[str, bool], None]) -> None:
        """Call a function with the name of each other node that comes (True) or is gone (False).

        A node that was dead for others and has come back is gone first, and then there again.
        """
        self.members.watch(changed)

    async def claim_consumer(self, queue: str, consumer: str) -> str:
        """Own a consumer, if no other living node does; returns who owns it."""
        return await self.consumers.claim(queue, consumer)

    async def release_consumer(self, queue: str, consumer: str) -> None:
        """Own a consumer no more, after all earlier writes for it."""
        await self.consumers.release(queue, consumer)

    def follow_queues(self, follower: QueueFollower) -> None:
        """Set the follower of queues."""
        self.consumers.follow(follower)
        self._parts.follow_queues(follower)

    # -- the upkeep, and the state ---------------------------------------------------------------------------

    @property
    def is_maintainer(self) -> bool:
        """Whether this node does the upkeep for all: it trims, expires, and releases what is due."""
        is_current = self._parts.steady() - self._beat.answered_at < _LEADS_S
        return self._is_leading and is_current

    def watch_upkeep(self, changed: Callable[[bool], None]) -> None:
        """Call a function with whether this node does the upkeep, when that changes."""
        self._led.append(changed)

    def state(self) -> EngineState:
        """Return what this node sees of the engine and of the others."""
        parts, lag = self._parts, self._parts.lag()
        since = self._missed_since
        upkeep = self.members.names.get(self._beat.upkeep, "")
        return EngineState(
            is_reachable=since is None,
            unreachable_s=0.0 if since is None else parts.steady() - since,
            is_ready=since is None and lag.seconds <= parts.lag_s,
            lag=lag,
            servers=tuple(sorted({*self.others, self.name})),
            upkeep=upkeep,
            era=parts.history.era or "",
            connections=parts.entrance.connections,
            address=parts.entrance.address,
        )

    # -- beats -----------------------------------------------------------------------------------------------

    def _heard(self, beat: Beat, verdict: Verdict) -> None:
        if self._missed_since is not None:
            _logger.info("node %s: the engine answers again", self.name, extra=fields(node=self.name))
        self._beat, self._verdict, self._missed_since = beat, verdict, None
        self._follow_clock(beat)
        self._look_at_itself(beat)
        for one in self._came(beat):
            self._parts.messages.came(one.name, one.address)
            self.members.tell(one.name, is_there=True)
        self._lead(leads=beat.upkeep == self.identity.id and not beat.is_fenced)
        self._has_news.set()

    def _came(self, beat: Beat) -> list[Seen]:
        """Return the servers that are new; to a node that is none itself they are nothing."""
        return self.members.came(beat.nodes) if self._parts.entrance.address else []

    def _look_at_itself(self, beat: Beat) -> None:
        for one in beat.nodes:
            if one.id == self.identity.id and (one.deaths != self._deaths or one.stuck_s >= STUCK_S):
                # Others may have taken what it owns.
                if one.deaths != self._deaths and not self._has_come_back:
                    # The answer that said so was lost.
                    self._came_back()
                self._deaths, self._has_come_back, self._is_noticed = one.deaths, False, True

    def _missed(self, problem: str) -> None:
        if self._missed_since is None:
            self._missed_since = self._parts.steady()
            _logger.warning(
                "node %s: the engine does not answer: %s", self.name, problem, extra=fields(node=self.name)
            )

    def _lead(self, *, leads: bool) -> None:
        if leads != self._is_leading:
            self._is_leading = leads
            for changed in [*self._led]:
                changed(leads)

    def _follow_clock(self, beat: Beat) -> None:
        clock = self._parts.clock
        if clock is None:
            return
        self._step_s = self._watch.look(beat)
        now = beat.now + (beat.answered_at - beat.sent_at) / 2 + (self._parts.steady() - beat.answered_at)
        if not self._step_s and abs(now - clock.now()) > _APART_S:
            ahead_s = beat.ahead_s if abs(beat.ahead_s) > _OFF_S else 0.0
            clock.follow(now, ahead_s)

    # -- what is to be done ----------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            beat, verdict = self._beat, self._verdict
            try:
                await self._act(beat, verdict)
            except (EngineGone, Warned) as problem:
                # The next beat brings the same again.
                _logger.info(
                    "node %s looks at the others again later: %s", self.name, problem, extra=fields(node=self.name)
                )
            except (Refusal, StorageError) as problem:
                _logger.error(
                    "node %s can't look after the others: %s", self.name, problem, extra=fields(node=self.name)
                )

    async def _act(self, beat: Beat, verdict: Verdict) -> None:
        if beat.is_fenced:
            await self._come_back(beat)
            return
        await self._correct_clock(beat)
        for name in self.members.missing(beat.nodes):
            await self._part(name)
        for one in [*verdict.dead, *await self._cut_off(verdict.missing)]:
            await self._declare(one)
        for one in verdict.stuck:
            await self._relieve(one)
        await self._look_at_consumers(beat)
        await self._forget_the_dead(beat)

    async def _come_back(self, beat: Beat) -> None:
        """Be alive for the others again; what they took meanwhile stays theirs."""
        await self.identity.renew(beat.incarnation)
        await self.consumers.look()

    def _came_back(self) -> None:
        _logger.warning(
            "node %s was dead for the others, and is alive again: what they took stays theirs",
            self.name,
            extra=fields(node=self.name),
        )
        self._has_come_back = self._is_noticed = True
        self._parts.messages.renewed()
        self._beats.hurry()

    async def _part(self, name: str) -> None:
        """Tell of a node that is dead, after its last row was applied."""
        await self._parts.catch_up()
        self._parts.messages.gone(name)
        self.members.gone(name)
        self.members.tell(name, is_there=False)
        self._is_noticed = True
        # It may have come back in the meantime.
        self._beats.hurry()

    async def _cut_off(self, missing: Collection[Seen]) -> list[Seen]:
        if not missing:
            return []
        async with self._parts.upkeep.take() as connection:
            gone = await connection.value(_CUT_OFF, [one.id for one in missing])
        return [one for one in missing if one.id in gone]

    async def _declare(self, one: Seen) -> None:
        async with self._parts.upkeep.take() as connection:
            ttl_s = self._parts.entrance.orphan_ttl_s
            is_dead = await connection.value(_DECLARE, one.id, one.incarnation, one.counter, ttl_s)
        if is_dead:
            _logger.warning(
                "node %s is dead: its beats stopped (declared by %s)",
                one.name,
                self.name,
                extra=fields(node=one.name),
            )
            self._beats.hurry()

    async def _relieve(self, one: Seen) -> None:
        async with self._parts.upkeep.take() as connection:
            is_relieved = await connection.value(_RELIEVE, one.id, one.counter, STUCK_S)
        if is_relieved:
            _logger.warning(
                "node %s: its event loop stands still; its consumers go to others",
                one.name,
                extra=fields(node=one.name),
            )
            self._is_noticed = True

    async def _correct_clock(self, beat: Beat) -> None:
        step_s = self._step_s
        if step_s and self.is_maintainer:
            _logger.warning(
                "the engine's clock was set by %.1f s; the store's time goes on without that",
                step_s,
                extra=fields(seconds=step_s),
            )
            async with self._parts.upkeep.take() as connection:
                await connection.rows(_STEPPED, step_s, beat.ahead_s)
            self._beats.hurry()

    async def _forget_the_dead(self, beat: Beat) -> None:
        if self.is_maintainer and beat.answered_at - self._forgot_at > _FORGET_EACH_S:
            self._forgot_at = beat.answered_at
            async with self._parts.upkeep.take() as connection:
                await connection.rows(_FORGET, _KEEP_S)

    async def _look_at_consumers(self, beat: Beat) -> None:
        lag = self._parts.lag()
        if (lag.seconds > self._parts.lag_s) != self._is_lagging:
            self._is_lagging = not self._is_lagging
            _logger.warning(
                "node %s is %.1f s behind the log, %d rows",
                self.name,
                lag.seconds,
                lag.ticks,
                extra=fields(node=self.name, seconds=lag.seconds, count=lag.ticks),
            )
            self.consumers.refuse("this node is too far behind the others" if self._is_lagging else "")
            if self._is_lagging:
                await self.consumers.hand_over()
        if self._is_noticed or beat.answered_at - self._looked_at > _LOOK_S:
            self._is_noticed, self._looked_at = False, beat.answered_at
            await self.consumers.look()
