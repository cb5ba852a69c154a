"""The beats of a node: a thread with its own connection raises the node's counter, whatever the event loop does."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from waypost.logs import fields, get_logger
from waypost.retrying import Backoff, RetryPolicy
from waypost.storage.postgres.driver import Connection, EngineGone, Refusal, Warned
from waypost.storage.postgres.nodes.identity import NodeIdentity
from waypost.storage.postgres.nodes.observing import STUCK_S, Beat, Observer, Seen, Verdict

__all__ = ["Beats", "beat_of"]

_logger = get_logger(__name__)

_BEAT: Final = "SELECT waypost.beat_1($1, $2, $3, $4)::text"
_ANSWER_S: Final = 3.0
_STOP_S: Final = 5.0
# Short: a node that is away for longer than the others' patience is dead for them.
_PAUSES: Final = RetryPolicy(first_s=0.1, longest_s=1.0, jitter=0.2)


async def beat_of(
    connection: Connection, identity: NodeIdentity, steady: Callable[[], float], stuck_s: float
) -> Beat:
    """Raise a node's counter once, and return what the engine answers.

    Args:
        connection: A connection.
        identity: The node.
        steady: The node's steady clock.
        stuck_s: For how long the node's event loop has stood still.

    Raises:
        EngineGone: The connection broke.
        Refusal: The server said no.
    """
    sent_at, incarnation = steady(), identity.incarnation
    answer: dict[str, Any] = json.loads(
        await connection.value(_BEAT, identity.id, identity.name, stuck_s, stuck_s < STUCK_S)
    )
    nodes = tuple(Seen(**one) for one in answer.pop("nodes"))
    return Beat(sent_at=sent_at, answered_at=steady(), incarnation=incarnation, nodes=nodes, **answer)


class Beats:
    """The thread that beats. It also watches whether the event loop goes on.

    Args:
        opener: Opens a connection, in the thread's own event loop.
        identity: The node.
        heard: Called in the node's event loop with each beat and what it means.
        missed: Called in the node's event loop when a beat did not come through.
        steady: The node's steady clock.
    """

    def __init__(
        self,
        opener: Callable[[], Awaitable[Connection]],
        identity: NodeIdentity,
        heard: Callable[[Beat, Verdict], None],
        missed: Callable[[str], None],
        steady: Callable[[], float],
    ) -> None:
        self._opener = opener
        self._identity = identity
        self._heard = heard
        self._missed = missed
        self._steady = steady
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._main, name=f"waypost beats {identity.name}", daemon=True)
        self._ended = asyncio.Event()
        self._own_loop: asyncio.AbstractEventLoop | None = None
        self._hurried: asyncio.Event | None = None
        self._is_stopping = False
        # When each call into the node's loop was asked for that did not run yet.
        self._asked: deque[float] = deque()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    async def stop(self) -> None:
        """Beat no more. Waits for a beat that is under way, but not for ever."""
        self._is_stopping = True
        self.hurry()
        try:
            async with asyncio.timeout(_STOP_S):
                await self._ended.wait()
        except TimeoutError:
            _logger.warning(
                "%s still waits for the engine; it ends with the process",
                self._thread.name,
                extra=fields(code=self._thread.name),
            )

    def hurry(self) -> None:
        """Beat soon: something has changed. Called in any thread."""
        own_loop, hurried = self._own_loop, self._hurried
        if own_loop is not None and hurried is not None:
            try:
                own_loop.call_soon_threadsafe(hurried.set)
            except RuntimeError:
                # It has ended meanwhile.
                return

    # -- in the thread ---------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            asyncio.run(self._run())
        finally:
            self._call(self._ended.set)

    async def _run(self) -> None:
        self._hurried = asyncio.Event()
        self._own_loop = asyncio.get_running_loop()
        observer, backoff = Observer(), Backoff(_PAUSES)
        connection: Connection | None = None
        while not self._is_stopping:
            try:
                if connection is None:
                    connection = await self._opener()
                verdict = await self._beat(connection, observer)
                backoff.reset()
                pause_s = verdict.pause_s
            except (EngineGone, Refusal, Warned, TimeoutError) as problem:
                observer.missed()
                if connection is not None:
                    connection.terminate()
                connection = None
                self._tell(self._missed, str(problem) or "it did not answer in time")
                pause_s = backoff.next_s(time.monotonic() % 1)
            await self._pause(pause_s)
        if connection is not None:
            await connection.close()

    async def _beat(self, connection: Connection, observer: Observer) -> Verdict:
        # A beat may be given up: the next one says the same.
        async with asyncio.timeout(_ANSWER_S):
            beat = await beat_of(connection, self._identity, self._steady, self._stuck_s())
        verdict = observer.see(beat, self._identity.id)
        self._tell(self._heard, beat, verdict)
        return verdict

    async def _pause(self, pause_s: float) -> None:
        assert self._hurried is not None
        try:
            async with asyncio.timeout(pause_s):
                await self._hurried.wait()
        except TimeoutError:
            return
        self._hurried.clear()

    def _stuck_s(self) -> float:
        return max(0.0, self._steady() - self._asked[0]) if self._asked else 0.0

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        def run() -> None:
            self._asked.popleft()
            if not self._is_stopping:
                function(*arguments)

        self._asked.append(self._steady())
        self._call(run)

    def _call(self, function: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            # The node's loop is closed: nobody is there to stop this thread.
            self._is_stopping = True
