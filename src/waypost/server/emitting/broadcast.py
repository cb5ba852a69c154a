"""Broadcasts that ask for acknowledgements: the answers, the missing ones, and the clients that left."""

from __future__ import annotations

import asyncio
import warnings
from collections import deque
from collections.abc import AsyncGenerator, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from waypost.protocol.answers import answer_value
from waypost.server.cluster.seam import Acked, Asked, CallSockets, Reply
from waypost.server.emitting.ack_round import AckRound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from waypost.protocol.codec import EncodedEvent
    from waypost.server.basics.targets import Target
    from waypost.server.emitting.flags import Flags
    from waypost.server.emitting.members import Members

__all__ = ["BroadcastAnswers", "BroadcastCall"]


@dataclass(frozen=True, slots=True)
class BroadcastAnswers:
    """The result of a broadcast that asked for acknowledgements.

    Attributes:
        answers: The acknowledgement of each client that answered, by socket id: its argument, a tuple of several
            arguments, or ``None`` without arguments.
        missing: The ids of the sockets that did not answer in time.
        left: The ids of the sockets whose connection ended before they answered, or whose server did; they may have
            got the event or not.
        missing_servers: The servers of a cluster that did not say whom they have asked; their sockets are unknown.
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
        "_elsewhere",
        "_event",
        "_flags",
        "_is_used",
        "_left",
        "_members",
        "_missing",
        "_missing_servers",
        "_others",
        "_round",
        "_target",
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
        self._others: asyncio.Future[None] | None = None
        self._round = AckRound(members.codec, event, self._take, volatile=flags.volatile, compress=flags.compress)
        # The sockets of other servers that have not answered, by server.
        self._elsewhere: dict[str, dict[str, None]] = {}
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
            EncodingFailed: The event can't be sent to other servers.
            WrongEventLoop: This runs on another event loop than the server. No client gets the event.
        """
        if self._is_used:
            raise RuntimeError("a broadcast call is sent once; make another one")
        self._is_used = True
        self._members.own_loop.check("call")
        return self._run()

    def so_far(self) -> BroadcastAnswers:
        """Return the result up to now; sockets that may still answer are among the missing ones."""
        waiting = [member.sid for member in self._round.waiting]
        elsewhere = [sid for sids in self._elsewhere.values() for sid in sids]
        return BroadcastAnswers(
            dict(self._answers),
            (*self._round.missing, *self._missing, *waiting, *elsewhere),
            tuple(self._left),
            tuple(self._missing_servers),
        )

    async def _gather(self) -> BroadcastAnswers:
        async for _ in self:
            pass
        return self.so_far()

    async def _run(self) -> AsyncGenerator[tuple[str, Any]]:
        timer: asyncio.TimerHandle | None = None
        self._ask_others()
        try:
            await self._members.each(self._target, self._round.ask)
            timer = asyncio.get_running_loop().call_later(self.timeout_s, self._give_up)
            while self._is_waiting or self._arrived:
                while self._arrived:
                    yield self._arrived.popleft()
                if self._is_waiting:
                    self._wake.clear()
                    await self._wake.wait()
            if self._others is not None:
                self._others.result()
        finally:
            if timer is not None:
                timer.cancel()
            if self._others is not None:
                self._others.cancel()
            self._give_up()

    @property
    def _is_waiting(self) -> bool:
        return bool(self._round.waiting) or (self._others is not None and not self._others.done())

    def _take(self, sid: str, arguments: list[Any] | None) -> None:
        if arguments is None:
            self._left.append(sid)
        else:
            self._answers[sid] = answer = answer_value(arguments)
            self._arrived.append((sid, answer))
        self._wake.set()

    def _give_up(self) -> None:
        """Stop waiting for all clients of this server."""
        self._round.give_up()
        self._wake.set()

    # -- other servers --------------------------------------------------------------------------------------

    def _ask_others(self) -> None:
        if self._flags.local or not self._members.has_others:
            return
        question = CallSockets(
            self._target, self._event.to_record(), self.timeout_s, self._flags.volatile, self._flags.compress
        )
        replies = self._members.ask_others(question, self.timeout_s)
        self._others = asyncio.ensure_future(self._collect(replies))
        self._others.add_done_callback(lambda _: self._wake.set())

    async def _collect(self, replies: AsyncIterator[Reply]) -> None:
        async for reply in replies:
            if isinstance(reply.value, Asked):
                self._missing += reply.value.missing
                self._elsewhere[reply.server] = dict.fromkeys(reply.value.sids)
            elif isinstance(reply.value, Acked):
                self._elsewhere[reply.server].pop(reply.value.sid, None)
                self._take(reply.value.sid, reply.value.arguments)
            elif reply.server not in self._elsewhere:
                self._missing_servers.append(reply.server)
            elif reply.is_gone:
                self._left += self._elsewhere.pop(reply.server)
