"""Broadcasts that ask for acknowledgements: the answers, the missing ones, and the clients that left."""

from __future__ import annotations

import asyncio
import warnings
from collections import deque
from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from waypost.protocol.answers import answer_value
from waypost.protocol.codec import EncodedEvent
from waypost.server.cluster.seam import CallSockets
from waypost.server.emitting.acks import AtCut

if TYPE_CHECKING:
    from waypost.server.basics.targets import Target
    from waypost.server.emitting.flags import Flags
    from waypost.server.emitting.members import Member, Members

__all__ = ["BroadcastAnswers", "BroadcastCall"]


@dataclass(frozen=True, slots=True)
class BroadcastAnswers:
    """The result of a broadcast that asked for acknowledgements.

    Attributes:
        answers: The acknowledgement of each client that answered, by socket id: its argument, a tuple of several
            arguments, or ``None`` without arguments.
        missing: The ids of the sockets that did not answer in time.
        left: The ids of the sockets whose connection ended before they answered; they may have got the event or not.
        missing_servers: The servers of a cluster that did not answer; their sockets are unknown.
    """

    answers: Mapping[str, Any]
    missing: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    missing_servers: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every socket and every server answered."""
        return not (self.missing or self.left or self.missing_servers)


class BroadcastCall:
    """A broadcast that asks for acknowledgements; made by `Operator.call`.

    Awaiting it or iterating over it sends the event. ``await`` it for a `BroadcastAnswers`, or iterate to get each
    answer as it arrives::

        call = io.to("room").timeout(5).call("question")
        async for sid, answer in call: ...
        late = call.so_far().missing

    It ends when every client has answered or left, at the timeout at the latest; without clients, at once. Missing
    answers raise nothing. It can be used once, and may be cancelled. If it is never used, it warns as a coroutine
    does.

    Attributes:
        timeout_s: Seconds that the clients have to answer, from the emit.
    """

    __slots__ = (
        "_answers",
        "_arrived",
        "_event",
        "_flags",
        "_is_used",
        "_left",
        "_members",
        "_missing",
        "_missing_servers",
        "_target",
        "_waiting",
        "_wake",
        "timeout_s",
    )

    def __init__(self, members: Members, target: Target, event: EncodedEvent, flags: Flags) -> None:
        self.timeout_s = flags.timeout_s
        self._members = members
        self._target = target
        self._event = event
        self._flags = flags
        self._is_used = False
        self._waiting: dict[Member, int] = {}
        self._arrived: deque[tuple[str, Any]] = deque()
        self._answers: dict[str, Any] = {}
        self._missing: list[str] = []
        self._left: list[str] = []
        self._missing_servers: list[str] = []
        self._wake = asyncio.Event()

    def __del__(self) -> None:
        # Warns as Python does for a coroutine: the call looks like one, and an unused one has sent nothing.
        if not self._is_used:
            problem = f"call of {self._event.event!r} was never awaited, and so not sent: write 'await …call(…)'"
            warnings.warn(problem, RuntimeWarning, stacklevel=2, source=self)

    def __await__(self) -> Generator[Any, None, BroadcastAnswers]:
        """Send the event, and wait for all answers."""
        return self._gather().__await__()

    def __aiter__(self) -> AsyncGenerator[tuple[str, Any]]:
        """Send the event, and yield each answer as it arrives, with its socket's id.

        Raises:
            RuntimeError: The call was used before.
        """
        if self._is_used:
            raise RuntimeError("a broadcast call is sent once; make another one")
        self._is_used = True
        return self._run()

    def so_far(self) -> BroadcastAnswers:
        """Return the result up to now; sockets that may still answer are among the missing ones."""
        return BroadcastAnswers(
            dict(self._answers),
            (*self._missing, *(member.sid for member in self._waiting)),
            tuple(self._left),
            tuple(self._missing_servers),
        )

    async def _gather(self) -> BroadcastAnswers:
        async for _ in self:
            pass
        return self.so_far()

    async def _run(self) -> AsyncGenerator[tuple[str, Any]]:
        timer: asyncio.TimerHandle | None = None
        others = asyncio.ensure_future(self._ask_others())
        others.add_done_callback(lambda _: self._wake.set())
        try:
            await self._members.each(self._target, self._ask)
            timer = asyncio.get_running_loop().call_later(self.timeout_s, self._give_up)
            while self._waiting or self._arrived or not others.done():
                while self._arrived:
                    yield self._arrived.popleft()
                if self._waiting or not others.done():
                    self._wake.clear()
                    await self._wake.wait()
            others.result()
        finally:
            others.cancel()
            if timer is not None:
                timer.cancel()
            self._give_up()

    def _ask(self, member: Member) -> None:
        # A client without an answer to its CONNECT can't answer an event.
        if not member.connected:
            return
        if self._flags.volatile and not member.out.is_writable:
            self._missing.append(member.sid)
            return
        event = self._event_in(member.namespace)
        # Ends with the connection: otherwise a closed page would delay the result until the timeout.
        ack_id, answer = member.out.send_expecting_ack(event, AtCut.ENDS, compress=self._flags.compress)
        self._waiting[member] = ack_id
        answer.add_done_callback(partial(self._take, member))

    def _event_in(self, namespace: str) -> EncodedEvent:
        """Return the event for a namespace: the operator of a parent addresses several namespaces."""
        if self._event.namespace != namespace:
            self._event = self._members.codec.restore_event(self._event.to_record(), namespace)
        return self._event

    def _take(self, member: Member, answer: asyncio.Future[list[Any] | None]) -> None:
        if self._waiting.pop(member, None) is None:
            return
        arguments = answer.result()
        if arguments is None:
            self._left.append(member.sid)
        else:
            self._add(member.sid, answer_value(arguments))
        self._wake.set()

    def _add(self, sid: str, answer: Any) -> None:
        self._answers[sid] = answer
        self._arrived.append((sid, answer))

    def _give_up(self) -> None:
        """Stop waiting for all clients."""
        for member, ack_id in self._waiting.items():
            member.out.acks.forget(ack_id)
            self._missing.append(member.sid)
        self._waiting.clear()
        self._wake.set()

    async def _ask_others(self) -> None:
        if self._flags.local:
            return
        question = CallSockets(self._target, self._event, self.timeout_s)
        async for reply in self._members.ask_others(question, self.timeout_s):
            if not reply.answered:
                self._missing_servers.append(reply.server)
                continue
            theirs: BroadcastAnswers = reply.value
            for sid, answer in theirs.answers.items():
                self._add(sid, answer)
            self._missing += theirs.missing
            self._left += theirs.left
            self._wake.set()
