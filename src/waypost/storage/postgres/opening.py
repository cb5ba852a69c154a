"""Opens a PostgreSQL store: connections, this node among the others, and the parts that it is made of."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any, Final

from waypost.errors import StorageError
from waypost.logs import fields, get_logger
from waypost.storage.answer_base import AnswerLimits
from waypost.storage.clock import StoreClock, steady_clock
from waypost.storage.database_address import Address
from waypost.storage.journal_records import Retention
from waypost.storage.postgres import schema
from waypost.storage.postgres.answers import PostgresAnswers
from waypost.storage.postgres.driver import Connection, EngineGone, Pool, Refusal, Warned, connect
from waypost.storage.postgres.engine import Engine, check_server
from waypost.storage.postgres.hearing import Hearing
from waypost.storage.postgres.journals.following import Following
from waypost.storage.postgres.journals.journals import Journals
from waypost.storage.postgres.mesh.mesh import Mesh
from waypost.storage.postgres.mesh.opening import have_ways, open_mesh
from waypost.storage.postgres.mesh.progress import Progress
from waypost.storage.postgres.nodes.entering import Entrance
from waypost.storage.postgres.nodes.history import History
from waypost.storage.postgres.nodes.identity import NodeIdentity
from waypost.storage.postgres.nodes.nodes import NodeParts, PostgresNodes
from waypost.storage.postgres.nodes.opening import become_node
from waypost.storage.postgres.outbox import OutboxMover
from waypost.storage.postgres.problems import problem_of
from waypost.storage.postgres.queues.queues import PostgresQueues
from waypost.storage.queue_records import QueueLimits
from waypost.storage.store_numbers import Commits
from waypost.version import __version__

__all__ = ["Opened", "Settings", "open_parts"]

_logger = get_logger(__name__)

_POLL_S: Final = 0.5
_POLL_WITHOUT_LISTEN_S: Final = 0.03
# Besides those that append: reads, notices, upkeep, beats.
_OTHER_CONNECTIONS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of a PostgreSQL store.

    Attributes:
        address: Where it is.
        retention: The limits of each journal.
        queue_limits: The limits of each queue without its own.
        answer_ttl_s: Seconds for which an answer is kept.
        answer_limits: The limits on the bytes of answers.
        tail_bytes: The bytes of each journal's newest records that memory keeps too.
        orphan_ttl_s: Seconds for which a session is kept whose node is dead.
        patience_s: Seconds for which an uncertain write is settled before it is raised as uncertain.
        now: A wall clock that the engine goes by instead of its own; ``None`` for its own.
        node: This node's name; "" for a random one.
        commits: Counts the ordered writes.
        is_server: Whether this node is a server, which others reach; a command is none.
    """

    address: Address
    retention: Retention
    queue_limits: QueueLimits
    answer_ttl_s: float
    answer_limits: AnswerLimits
    tail_bytes: int
    orphan_ttl_s: float
    patience_s: float
    now: Callable[[], float] | None
    node: str
    commits: Commits = field(default_factory=Commits)
    is_server: bool = True

    def shared(self) -> dict[str, Any]:
        """Return the options that all nodes should have alike, as plain data."""
        return {
            "retention": asdict(self.retention),
            "queue_limits": asdict(self.queue_limits),
            "answer_ttl_s": self.answer_ttl_s,
            "answer_limits": asdict(self.answer_limits),
            "orphan_ttl_s": self.orphan_ttl_s,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """The parts of an open store.

    Attributes:
        engine: The engine.
        hearing: Hears and gives notices.
        following: Follows the logs.
        journals: The open journals.
        queues: The queues.
        answers: The answers to clients.
        nodes: The other nodes.
        mesh: The links to them.
        does_upkeep: Whether the upkeep runs by itself; not where a test moves the clock.
        mover: Moves what other programs have emitted and published.
    """

    engine: Engine
    hearing: Hearing
    following: Following
    journals: Journals
    queues: PostgresQueues
    answers: PostgresAnswers
    nodes: PostgresNodes
    mesh: Mesh
    does_upkeep: bool
    mover: OutboxMover

    def start(self) -> None:
        """Begin to follow, to hear, and to look after the other nodes."""
        self.following.start()
        self.hearing.start()
        self.nodes.start()
        if self.does_upkeep:
            self.queues.start(lambda: self.nodes.is_maintainer)
            self.mover.start()

    async def close(self) -> None:
        """Finish the writes that were asked for, say goodbye, and close all connections.

        Each of these has the patience that a write has, so a server that does not answer holds up no stop for ever.
        """
        patience_s = 2 * self.engine.patience_s
        await _in_time("the outbox", self.mover.close(), patience_s)
        await _in_time("the journals", self.journals.close(), patience_s)
        await _in_time("the queues", self.queues.close(), patience_s)
        await _in_time("the answers", self.answers.close(), patience_s)
        await self.mesh.close()
        await _in_time("the links to other nodes", self.nodes.close(), patience_s)
        await self.following.close()
        await self.hearing.close()
        for pool in (self.engine.appending, self.engine.reading, self.engine.upkeep):
            await pool.close()


async def _in_time(part: str, step: Awaitable[None], patience_s: float) -> None:
    try:
        async with asyncio.timeout(patience_s):
            await step
    except TimeoutError:
        _logger.warning(
            "PostgreSQL does not answer: %s could not be closed as they should", part, extra=fields(code=part)
        )


async def open_parts(settings: Settings, clock: StoreClock) -> Opened:
    """Open a store, as a new node of its engine.

    Raises:
        ConfigurationError: The server is none that keeps what it reports.
        StorageError: The engine can't be reached, or refuses it; or its schema is too old or too new.
    """
    name = settings.address.shown
    opening = _Opening(settings, clock, settings.node or secrets.token_hex(4))
    try:
        return await opening.run()
    except (EngineGone, Refusal) as error:
        await opening.give_up()
        raise problem_of(name, error) from error
    except Warned as error:
        await opening.give_up()
        raise StorageError(name, f"PostgreSQL: {error}") from error
    except BaseException:
        await opening.give_up()
        raise


class _Opening:
    """One attempt to open a store."""

    def __init__(self, settings: Settings, clock: StoreClock, node: str) -> None:
        self._settings = settings
        self._address = settings.address
        self._name = settings.address.shown
        self._clock = clock
        self._node = node
        self._upkeep = Pool(1, lambda: self._connect("upkeep"))
        self._mesh: Mesh | None = None
        self._progress = Progress()

    async def run(self) -> Opened:
        journals = Journals(self._settings.retention, self._settings.tail_bytes)
        mesh, address = await self._open_mesh(journals)
        entrance = Entrance(
            self._node,
            address,
            __version__,
            self._settings.shared(),
            self._settings.orphan_ttl_s,
            self._address.connections + _OTHER_CONNECTIONS,
            schema.SCHEMA_VERSION,
        )
        steady = steady_clock()
        identity, history, first = await become_node(
            self._name, entrance, self._upkeep, steady, journals.applied, journals.fork
        )

        engine = self._engine(identity, history)
        # A pooler in transaction mode carries no notices.
        listens = self._address.listen == "on" and (not self._address.pooled or bool(self._address.direct))
        hearing = Hearing(lambda: self._connect("notices", direct=True), listens=listens)
        following = Following(engine, _POLL_S if listens else _POLL_WITHOUT_LISTEN_S)
        journals.begin(engine, following, hearing, self._progress, lambda: bool(nodes.others))
        queues = PostgresQueues(engine, self._settings.queue_limits, hearing, lambda: nodes.consumers.queues)
        nodes = PostgresNodes(
            NodeParts(
                store=self._name,
                entrance=entrance,
                identity=identity,
                history=history,
                clock=self._clock if self._settings.now is None else None,
                steady=steady,
                upkeep=self._upkeep,
                beat_opener=lambda: self._connect("beats"),
                messages=mesh,
                catch_up=following.catch_up,
                settled=queues.settled,
                owns=queues.own,
                follow_queues=queues.follow,
                lag=following.lag,
                lag_s=self._address.lag_s,
            ),
            first,
        )

        have_ways(mesh, identity.id, self._address.node_label, self._upkeep, nodes.members.place)
        answers = PostgresAnswers(engine, self._settings.answer_ttl_s, self._settings.answer_limits)
        mesh.unknown, mesh.broken = nodes.noticed, nodes.broken
        hearing.listen("n", lambda _: nodes.noticed())
        hearing.listen("j", following.heard)
        hearing.watch(following.wake_all)
        does_upkeep = self._settings.now is None
        mover = OutboxMover(engine, hearing, lambda: nodes.is_maintainer)
        return Opened(engine, hearing, following, journals, queues, answers, nodes, mesh, does_upkeep, mover)

    async def _open_mesh(self, journals: Journals) -> tuple[Mesh, str]:
        """Listen for the other nodes, once the engine and its schema are as they must be; returns the address too."""
        async with self._upkeep.take() as connection:
            await check_server(connection, self._name)
            await self._check_schema(connection)
            self._mesh, address = await open_mesh(
                self._name,
                self._node,
                self._address.node_address if self._settings.is_server else None,
                connection,
                self._progress,
                journals.after_writes,
            )
        return self._mesh, address

    def _engine(self, identity: NodeIdentity, history: History) -> Engine:
        async def checked(purpose: str) -> Connection:
            connection = await self._connect(purpose)
            try:
                await history.check(connection)
            except BaseException:
                connection.terminate()
                raise
            return connection

        return Engine(
            self._name,
            self._address,
            self._clock,
            identity,
            count(1),
            Pool(self._address.connections, lambda: checked("append")),
            Pool(1, lambda: checked("read")),
            self._upkeep,
            self._settings.patience_s,
            self._settings.commits,
        )

    async def give_up(self) -> None:
        if self._mesh is not None:
            await self._mesh.close()
        await self._upkeep.close()

    async def _check_schema(self, connection: Connection) -> None:
        found = await schema.read_versions(connection)
        if not found.version:
            await schema.migrate(connection)
        elif problem := found.problem():
            raise StorageError(self._name, problem)

    def _connect(self, purpose: str, *, direct: bool = False) -> Awaitable[Connection]:
        pooled = self._address.pooled and not (direct and self._address.direct)
        dsn = self._address.direct if direct and self._address.direct else self._address.dsn
        return connect(dsn, f"{purpose} {self._node}", pooled=pooled, now=self._settings.now)
