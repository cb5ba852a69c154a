"""Broadcasts that ask for acks: who answered what, who did not, and who left before."""

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

if TYPE_CHECKING:
    from waypost.server.basics.targets import Target
    from waypost.server.emitting.flags import Flags
    from waypost.server.emitting.members import Member, Members

__all__ = ["BroadcastAnswers", "BroadcastCall"]


@dataclass(frozen=True, slots=True)
class BroadcastAnswers:
    """What became of a broadcast that asked for acks.

    Attributes:
        answers: The ack of everyone who answered, by socket id: its argument, a tuple of several, ``None`` for none.
        missing: The ids of those who did not answer in time.
        left: The ids of those whose connection ended before they answered; they may have got the event or not.
        missing_servers: The servers of a cluster that did not answer; who is connected to them is not known.
    """

    answers: Mapping[str, Any]
    missing: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    missing_servers: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether everybody answered who was asked."""
        return not (self.missing or self.left or self.missing_servers)


class BroadcastCall:
    """An event to many that asks for acks. Made by `Operator.call`; it is sent when it is awaited or iterated over.

    ``await`` it for a `BroadcastAnswers`; or get the answers as they come, and then what is missing::

        call = io.to("room").timeout(5).call("question")
        async for sid, answer in call: ...
        late = call.so_far().missing

    It ends when everybody has answered or left, and at the timeout at the latest; with nobody there, at once. It does
    not raise for those who do not answer. It can be used once, and warns if it never is, as a coroutine does.
    Cancelling it leaves nothing behind.

    Attributes:
        timeout_s: Seconds that it waits, from when it is sent.
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
        # As Python warns of a coroutine: this looks like one, and has sent nothing.
        if not self._is_used:
            problem = f"call of {self._event.event!r} was never awaited, and so not sent: write 'await …call(…)'"
            warnings.warn(problem, RuntimeWarning, stacklevel=2, source=self)

    def __await__(self) -> Generator[Any, None, BroadcastAnswers]:
        """Send it, and wait for all answers."""
        return self._gather().__await__()

    def __aiter__(self) -> AsyncGenerator[tuple[str, Any]]:
        """Send it, and give each answer as it comes, with the id of whose it is."""
        if self._is_used:
            raise RuntimeError("a broadcast call is sent once; make another one")
        self._is_used = True
        return self._run()

    def so_far(self) -> BroadcastAnswers:
        """Tell what has become of it by now; who may still answer is among the missing."""
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
        # Whoever has not been told yet that it is connected can't answer.
        if not member.connected:
            return
        if self._flags.volatile and not member.out.is_writable:
            self._missing.append(member.sid)
            return
        event = self._event_in(member.namespace)
        # It does not survive the connection: who closed the page would else be waited for until the timeout.
        ack_id, answer = member.out.send_expecting_ack(event, survives=False, compress=self._flags.compress)
        self._waiting[member] = ack_id
        answer.add_done_callback(partial(self._take, member))

    def _event_in(self, namespace: str) -> EncodedEvent:
        """Return the event for a namespace: an operator of a parent addresses many."""
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
        """Wait for nobody any longer."""
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
