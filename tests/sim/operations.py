"""What the application asks of the server, each taken down: when it was asked, and what became of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from tests.sim.disk import OPERATION
from tests.sim.trace import Trace
from waypost.application import Server
from waypost.errors import AckTimeout, NotConnected, StorageError
from waypost.server.emitting.operator import Operator
from waypost.server.namespaces.socket import Socket

__all__ = ["Operation", "Operations"]


@dataclass(slots=True)
class Operation:
    """One of them.

    Attributes:
        number: Names it; events carry it as their first argument.
        kind: ``emit``, ``volatile``, ``join``, ``leave``, ``early join``, ``join all``, ``leave all``, ``call``,
            ``queue``, ``message``, ``seek``, ``pause``, ``resume``, ``redrive``, ``discard``.
        where: The namespace or queue.
        sid: The socket it is about, if any.
        rooms: The rooms it is about; ``None`` is everyone.
        except_: The rooms that are left out; of ``… all``, the rooms whose members are meant, none for everyone.
        asked: How many writes were on the disk when it was asked.
        done: How many there were when it returned.
        outcome: ``open``, ``accepted``, or why it was not.
    """

    number: int
    kind: str
    where: str
    sid: str
    rooms: tuple[str, ...] | None
    except_: tuple[str, ...]
    asked: int
    done: int | None = None
    outcome: str = "open"


class Log(Protocol):
    def __len__(self) -> int: ...


class Operations:
    """All of a history.

    Args:
        log: The disk's log, for its length.
        trace: What happened.
    """

    def __init__(self, log: Log, trace: Trace) -> None:
        self.all: list[Operation] = []
        self._log = log
        self._trace = trace

    def _new(
        self, kind: str, where: str, sid: str, rooms: tuple[str, ...] | None, except_: tuple[str, ...] = ()
    ) -> Operation:
        operation = Operation(len(self.all), kind, where, sid, rooms, except_, len(self._log))
        self.all.append(operation)
        self._trace.note("#{} {} in {} sid={} rooms={} except={}", operation.number, kind, where, sid, rooms, except_)
        return operation

    async def _run(self, operation: Operation, work: Callable[[], Awaitable[object]]) -> None:
        OPERATION.set(operation.number)
        try:
            await work()
        except (StorageError, NotConnected, AckTimeout) as problem:
            operation.outcome = type(problem).__name__
        else:
            operation.outcome = "accepted"
        finally:
            OPERATION.set(None)
        operation.done = len(self._log)
        self._trace.note("#{} is {}", operation.number, operation.outcome)

    async def emit(
        self,
        operator: Operator,
        where: str,
        rooms: tuple[str, ...] | None,
        except_: tuple[str, ...] = (),
        *extra: str,
        sid: str = "",
    ) -> None:
        """Emit a plain event."""
        operation = self._new("emit", where, sid, rooms, except_)
        await self._run(operation, lambda: operator.emit("e", operation.number, *extra))

    async def emit_to_all(self, server: Server, where: str, rooms: tuple[str, ...] | None, *extra: str) -> None:
        """Emit to everyone or to rooms."""
        namespace = server.of(where)
        operator = namespace.except_() if rooms is None else namespace.to(*rooms)
        await self.emit(operator, where, rooms, (), *extra)

    async def volatile(
        self, operator: Operator, where: str, rooms: tuple[str, ...] | None, except_: tuple[str, ...]
    ) -> None:
        """Emit a volatile event that ends in a string."""
        operation = self._new("volatile", where, "", rooms, except_)
        await self._run(operation, lambda: operator.volatile.emit("v", operation.number, "text"))

    async def socket_emit(self, socket: Socket, *extra: str) -> None:
        """Emit to one socket."""
        operation = self._new("emit", socket.namespace, socket.id, (socket.id,))
        await self._run(operation, lambda: socket.emit("e", operation.number, *extra))

    async def socket_to(self, socket: Socket, rooms: tuple[str, ...]) -> None:
        """Emit to rooms, a socket excluded."""
        await self.emit(socket.to(*rooms), socket.namespace, rooms, (socket.id,), sid=socket.id)

    async def join(self, socket: Socket, rooms: tuple[str, ...], *, early: bool = False) -> None:
        """Let a socket join rooms."""
        operation = self._new("early join" if early else "join", socket.namespace, socket.id, rooms)
        await self._run(operation, lambda: socket.join(*rooms))

    async def leave(self, socket: Socket, rooms: tuple[str, ...]) -> None:
        """Let a socket leave rooms."""
        operation = self._new("leave", socket.namespace, socket.id, rooms)
        await self._run(operation, lambda: socket.leave(*rooms))

    async def move(
        self, operator: Operator, kind: str, where: str, rooms: tuple[str, ...] | None, changed: tuple[str, ...]
    ) -> None:
        """Let everyone, or the members of rooms, join or leave rooms."""
        operation = self._new(f"{kind} all", where, "", changed, rooms or ())
        change = operator.sockets_join if kind == "join" else operator.sockets_leave
        await self._run(operation, lambda: change(*changed))

    async def call(self, socket: Socket, timeout_s: float) -> Any:
        """Call a socket; returns what came back, and the call's number."""
        operation = self._new("call", socket.namespace, socket.id, (socket.id,))
        answers: list[Any] = []

        async def work() -> None:
            answers.append(await socket.call("c", operation.number, timeout_s=timeout_s))

        await self._run(operation, work)
        if answers and answers[0] != operation.number:
            operation.outcome = f"answered with {answers[0]!r}"

    async def queue(self, server: Server, name: str, message_id: str) -> None:
        """Put a message into a queue."""
        operation = self._new("queue", name, message_id, None)
        key = message_key(operation.number)
        await self._run(
            operation, lambda: server.queue(name).emit("q", message_id, operation.number, id=message_id, key=key)
        )

    async def message(
        self, server: Server, name: str, message_id: str, key: str | None, ttl_s: float | None, delay_s: float | None
    ) -> None:
        """Put a message into a queue, with all that it can have."""
        operation = self._new("message", name, message_id, None)

        async def work() -> None:
            await server.queue(name).emit(
                "q", message_id, operation.number, id=message_id, key=key, ttl_s=ttl_s, delay_s=delay_s
            )

        await self._run(operation, work)

    async def manage(
        self, kind: str, name: str, consumer: str, work: Callable[[], Coroutine[Any, Any, object]]
    ) -> None:
        """Do something to a queue or a consumer."""
        await self._run(self._new(kind, name, consumer, None), work)


def message_key(number: int) -> str:
    """Return the key of the message that an operation puts into a queue."""
    return f"k{number % 3}"
