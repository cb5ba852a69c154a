"""One node, as its host knows it."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec

from waypost.storage.host.driving import begin
from waypost.storage.host.outgoing import Outgoing
from waypost.storage.journal_records import ExpiredSession
from waypost.storage.wire.frames import encode
from waypost.storage.wire.link import Link
from waypost.storage.wire.problems import to_problem
from waypost.storage.wire.reports import Answer, Failed

__all__ = ["HostedNode"]

_T = TypeVar("_T")

# So many requests of a node may be under way; then it is not read any further until half of them are answered.
_MOST_CALLS = 20_000


class HostedNode:
    """A node: its link, the requests of it that are under way, and what it serves.

    Args:
        name: Its name.
        link: Its link.
        outgoing: What is sent to it.

    Attributes:
        name: Its name.
        link: Its link.
        outgoing: What is sent to it.
        is_gone: Whether its link was cut, or it has said goodbye. Nothing of it is taken any more.
        is_stopped: Whether it has said goodbye.
        attached: The consumers that it said were in use.
        expired: Expired sessions whose home it was, which it has not been told of.
        holds: The messages that its functions hold: by queue, consumer and holder.
    """

    __slots__ = (
        "_calls",
        "_held",
        "_is_paused",
        "_last_write",
        "_waiting",
        "_writes",
        "attached",
        "expired",
        "holds",
        "is_gone",
        "is_stopped",
        "link",
        "name",
        "outgoing",
    )

    def __init__(self, name: str, link: Link, outgoing: Outgoing) -> None:
        self.name = name
        self.link = link
        self.outgoing = outgoing
        self.is_gone = False
        self.is_stopped = False
        self.attached: frozenset[tuple[str, str]] = frozenset()
        self.expired: list[ExpiredSession] = []
        self.holds: dict[tuple[str, str, str], int] = {}
        self._calls: set[int] = set()
        self._is_paused = False
        # Functions that wait for calls, and these.
        self._waiting: list[tuple[set[int], Callable[[], object]]] = []
        # Writes to journals that are under way, in order; and what stands behind one of them.
        self._writes: dict[int, None] = {}
        self._held: deque[tuple[int, Callable[[], None]]] = deque()
        self._last_write = 0

    def tell(self, message: object) -> None:
        """Send a message, unless the node is gone."""
        if not self.is_gone:
            self.outgoing.add(message)

    def answer(self, call: int, result: object) -> None:
        """Send the result of a call."""
        self.tell(Answer(call, msgspec.Raw(encode(result))))

    def fail(self, call: int, error: BaseException) -> None:
        """Send the error of a call."""
        try:
            self.tell(Failed(call, to_problem(error)))
        except (TypeError, ValueError):
            # Something in its data has no encoding; its sentence has.
            self.tell(Failed(call, to_problem(RuntimeError(str(error)))))

    def run(self, call: int, work: Awaitable[_T], done: Callable[[_T], None] | None = None) -> None:
        """Begin a request.

        Args:
            call: Its number.
            work: What is to be done, begun at once.
            done: Called with its result; without it, the result is answered.
        """
        self._calls.add(call)
        if len(self._calls) > _MOST_CALLS and not self._is_paused:
            self._is_paused = True
            self.link.pause()
        begin(work, _Request(self, call, done))

    def write(self, call: int, work: Awaitable[object], done: Callable[[Any], None]) -> None:
        """Begin a write to a journal, which calls `written` when it takes effect; otherwise as `run`."""
        self._writes[call] = None
        self._last_write = call
        self.run(call, work, done)

    def written(self, call: int) -> None:
        """Note that a write has taken effect, or never will; the messages that stand behind it go out now."""
        self._writes.pop(call, None)
        while self._held and self._held[0][0] < next(iter(self._writes), self._last_write + 1):
            self._held.popleft()[1]()

    def behind_writes(self, send: Callable[[], None]) -> None:
        """Call a function after the writes to journals that are under way, and before those that come later."""
        if self._writes:
            self._held.append((self._last_write, send))
        else:
            send()

    def has_failed(self, call: int, error: BaseException) -> None:
        """Note that a request has failed."""
        self.fail(call, error)
        self.written(call)
        self.ended(call)

    def after_all(self, ready: Callable[[], object]) -> None:
        """Call a function when all requests that are under way now have ended."""
        if self._calls:
            self._waiting.append((set(self._calls), ready))
        else:
            ready()

    def ended(self, call: int) -> None:
        """Note that a request has ended."""
        self._calls.discard(call)
        if self._is_paused and len(self._calls) <= _MOST_CALLS // 2:
            self._is_paused = False
            self.link.resume()
        for entry in [*self._waiting] if self._waiting else ():
            calls, ready = entry
            calls.discard(call)
            if not calls:
                self._waiting.remove(entry)
                ready()


class _Request(Generic[_T]):
    """A request that is under way; a `Listener`."""

    __slots__ = ("_call", "_done", "_node")

    def __init__(self, node: HostedNode, call: int, done: Callable[[_T], None] | None) -> None:
        self._node = node
        self._call = call
        self._done = done

    def done(self, result: _T) -> None:
        if self._done is None:
            self._node.answer(self._call, result)
        else:
            self._done(result)
        self._node.ended(self._call)

    def failed(self, error: BaseException) -> None:
        self._node.has_failed(self._call, error)
