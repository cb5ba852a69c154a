"""The events that clients repeat until they get an answer: each is handled once, and every repeat gets its answer."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from weakref import ReferenceType, ref

from waypost.errors import StorageError
from waypost.logs import fields, get_logger
from waypost.protocol.extension import OutboxMark
from waypost.protocol.rejections import Rejection
from waypost.server.connections.addresses import counted_address
from waypost.server.events.moves import Left, Moves
from waypost.server.events.source import EventSource
from waypost.server.services import Services
from waypost.server.watching.hooks import report_failure
from waypost.storage.answer_base import UNCOUNTED, Answer, AnswerGivenUp, Answers
from waypost.storage.following import Nodes

__all__ = ["Admitted", "AnswerTurn", "Repeats"]

logger = get_logger("waypost.socket")

_MAX_CLIENTS = 10_000
"""The most clients with an outbox that memory keeps; the least recent sender is dropped first."""


@dataclass(slots=True)
class _Client:
    """The state of a client with an outbox, for the process's lifetime.

    Attributes:
        connection: The number of its newest connection; higher than that, once it has gone to another server.
        failed: The place of the event that failed last and was neither repeated nor given up yet.
        asked: The number of the newest connection, for which other servers were asked about the client.
        since: The time of that connection's handshake.
        source: The client on that connection.
        elsewhere: Whether it has a later connection to another server, once these have answered.
    """

    connection: int = 0
    failed: int | None = None
    asked: int = 0
    since: float = 0.0
    source: ReferenceType[EventSource] | None = None
    elsewhere: asyncio.Future[bool] | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """The decision on an event of an outbox. With no attribute set, the event is ignored.

    Attributes:
        turn: Handle the event.
        record: The event was handled before, and this is its answer.
        is_held: The event must wait until the client repeats an earlier one that failed.
        is_unknown: The store can't tell whether the event was handled.
        is_given_up: The event was handled before, and its answer is kept no more.
    """

    turn: AnswerTurn | None = None
    record: bytes | None = None
    is_held: bool = False
    is_unknown: bool = False
    is_given_up: bool = False


class AnswerTurn:
    """The handling of one event of an outbox. Repeats wait for its end.

    Args:
        repeats: The repeats that made it.
        client: The client's key in the store.
        mark: The event's mark.
        account: Whom the answer's bytes are counted for.

    Attributes:
        refusal: The final refusal of the event; ``None`` if there is none.
    """

    __slots__ = ("_account", "_client", "_done", "_mark", "_repeats", "refusal")

    def __init__(self, repeats: Repeats, client: bytes, mark: OutboxMark, account: str) -> None:
        self._account = account
        self._repeats = repeats
        self._client = client
        self._mark = mark
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.refusal: Rejection | None = None

    async def ended(self) -> None:
        """Wait for the end. May be cancelled."""
        await asyncio.wait((self._done,))

    async def find(self) -> bytes | None:
        """Return the stored answer of an earlier turn; ``None`` if there is none.

        Raises:
            AnswerGivenUp: The answer is kept no more.
            StorageError: The store did not answer.
        """
        return await self._repeats.answers().find(self._client, self._mark.sequence, self._mark.message)

    async def keep(self, record: bytes) -> None:
        """Store the answer.

        If the store does not take it, the error is logged. A repeat is then handled a second time, if the client did
        not get the answer either.
        """
        mark = self._mark
        try:
            await self._repeats.answers().keep(
                Answer(self._client, mark.sequence, mark.message, record, self._account), mark.settled
            )
        except StorageError as problem:
            logger.error(
                "the answer to message %s is not stored: %s",
                mark.message,
                problem,
                extra=fields(message_id=mark.message),
            )

    def fail(self) -> None:
        """Hold the client's later events back until it repeats this one."""
        self._repeats.hold(self._client, self._mark.sequence)

    def end(self) -> None:
        """Let repeats continue. A second call does nothing."""
        if not self._done.done():
            self._done.set_result(None)
            self._repeats.forget(self._client, self._mark)


class Repeats:
    """The events of outboxes that a server handles.

    A client sends on one connection at a time, and repeats on the next connection the events without an answer. An
    event of an older connection that was not started is therefore ignored: its repeat takes its place in the order.
    Connections to other servers of a cluster count too; see `Moves`.

    Args:
        services: The services that the server's parts share; here the store, which keeps the answers.
        account_of: The application's function that returns the account of a socket; ``None`` counts addresses only.
    """

    __slots__ = ("_account_of", "_clients", "_moves", "_services", "_turns")

    def __init__(self, services: Services, account_of: Callable[[Any], str | None] | None) -> None:
        self._services = services
        self._account_of = account_of
        self._clients: OrderedDict[bytes, _Client] = OrderedDict()
        self._turns: dict[tuple[bytes, str], AnswerTurn] = {}
        self._moves: Moves | None = None

    def meet(self, nodes: Nodes) -> Moves:
        """Ask other servers about clients that come, and answer them."""
        self._moves = Moves(nodes, self)
        return self._moves

    def part(self) -> None:
        """Be without other servers."""
        if self._moves is not None:
            self._moves.close()
            self._moves = None

    def forget_all(self) -> None:
        """Forget all clients and events, whose answers are in a closed store."""
        self._clients.clear()
        self._turns.clear()

    def answers(self) -> Answers:
        """Return the store's answers."""
        return self._services.store.answers()

    def arrived(self, source: EventSource, mark: OutboxMark) -> None:
        """Note that an event has arrived."""
        digest = _digest(source, mark)
        client = self._client(digest)
        client.connection = max(client.connection, source.connection_number)
        if self._moves is not None and client.asked < source.connection_number:
            client.asked = source.connection_number
            client.since = source.handshake.time
            client.source = ref(source)
            client.elsewhere = self._moves.came(digest, client.since)

    async def admit(self, source: EventSource, mark: OutboxMark) -> Admitted:
        """Decide on an event whose turn has come; waits while an earlier copy is being handled. May be cancelled."""
        digest = _digest(source, mark)
        client = self._client(digest)
        if client.elsewhere is not None and await self._is_elsewhere(client, client.elsewhere):
            # If its clock misleads us, it comes again, and has a later connection then.
            source.out.cut()
            return Admitted()
        while True:
            if self._moves is not None:
                await self._moves.ended(digest, mark.message)
            if source.left_because is not None or source.connection_number < client.connection:
                return Admitted()
            running = self._turns.get((digest, mark.message))
            if running is None:
                break
            await running.ended()
        if client.failed is not None and mark.settled < client.failed < mark.sequence:
            return Admitted(is_held=True)
        client.failed = None
        return await self._begin(digest, mark, self._account(source))

    async def _is_elsewhere(self, client: _Client, elsewhere: asyncio.Future[bool]) -> bool:
        await asyncio.wait((elsewhere,))
        if not elsewhere.result() and client.elsewhere is elsewhere:
            client.elsewhere = None
        return elsewhere.result()

    def _account(self, source: EventSource) -> str:
        """Return whom the answers to a client are counted for."""
        name: str | None = None
        if self._account_of is not None:
            try:
                name = self._account_of(source.socket)
            except Exception as error:  # noqa: BLE001  # reported; the client's address is counted then
                report_failure(self._services.hooks, "answer_account", source.sid, source.namespace, error)
        if name is not None:
            return f"account:{sha256(name.encode()).hexdigest()}"
        address = counted_address(source.handshake)
        return UNCOUNTED if address is None else f"address:{address}"

    async def _begin(self, digest: bytes, mark: OutboxMark, account: str) -> Admitted:
        turn = self._turns[digest, mark.message] = AnswerTurn(self, digest, mark, account)
        record: bytes | None = None
        try:
            record = await turn.find()
        except StorageError as problem:
            logger.error(
                "nobody can tell whether message %s was handled: %s",
                mark.message,
                problem,
                extra=fields(message_id=mark.message),
            )
            turn.fail()
            turn.end()
            return Admitted(is_unknown=True)
        except AnswerGivenUp:
            turn.end()
            return Admitted(is_given_up=True)
        except BaseException:
            turn.end()
            raise
        if record is None:
            return Admitted(turn=turn)
        turn.end()
        return Admitted(record=record)

    def hold(self, digest: bytes, sequence: int) -> None:
        """Hold a client's events after this one back."""
        self._client(digest).failed = sequence

    def leave(self, client: bytes, since: float) -> Left:
        """Note that a client has gone to another server; see `Resident`."""
        state = self._clients.get(client)
        if state is None:
            return Left()
        source = None if state.source is None else state.source()
        if source is not None and source.left_because is None and state.since > since:
            return Left(is_here=True)
        # Its events that were not started are left to the other server.
        state.connection = state.asked + 1
        failed, state.failed = state.failed, None
        return Left([message for digest, message in self._turns if digest == client], failed)

    def forget(self, digest: bytes, mark: OutboxMark) -> None:
        """Remove a turn that has ended."""
        del self._turns[digest, mark.message]
        if self._moves is not None:
            client = self._clients.get(digest)
            failed = mark.sequence if client is not None and client.failed == mark.sequence else None
            if self._moves.end(digest, mark.message, failed) and client is not None:
                client.failed = None

    def _client(self, digest: bytes) -> _Client:
        client = self._clients.get(digest)
        if client is None:
            client = self._clients[digest] = _Client()
            if len(self._clients) > _MAX_CLIENTS:
                self._clients.popitem(last=False)
        self._clients.move_to_end(digest)
        return client


def _digest(source: EventSource, mark: OutboxMark) -> bytes:
    """Return the key of a client in a namespace for the store, which must not contain the client's secret."""
    return sha256(f"{source.namespace}\n{mark.client}".encode()).digest()
