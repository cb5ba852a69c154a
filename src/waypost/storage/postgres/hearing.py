"""Notices between the nodes of a store, and from other programs: by LISTEN and NOTIFY, one channel for all.

A notice only wakes: it says that there is something to read. It may be lost, so all that it wakes is also looked at
again and again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from waypost.logs import get_logger
from waypost.retrying import Backoff, RetryPolicy
from waypost.storage.postgres.driver import Connection, EngineGone, Refusal, Warned

__all__ = ["CHANNEL", "Hearing"]

_logger = get_logger(__name__)

CHANNEL: Final = "waypost"
"""The channel of all notices of a store."""

_PAUSES: Final = RetryPolicy(first_s=0.05, longest_s=1.0, jitter=0.2)
# What the server takes back of a notice in a crash, its listeners read anyway.
_NOTIFY: Final = """
    SELECT set_config('synchronous_commit', 'off', true), pg_notify('waypost', one) FROM unnest($1::text[]) AS one
"""
_MOST_AT_ONCE = 500
_PATIENT_TRIES: Final = 10
"""So many in a row fail before it is told, about 8 s: a server that restarts is told of elsewhere."""


class Hearing:
    """Hears the notices of others, and gives notices.

    Args:
        opener: Opens a connection to the server itself, not to a pooler.
        listens: Whether to listen; without it the node only gives notices.
    """

    __slots__ = ("_connection", "_heard", "_listens", "_opener", "_outgoing", "_sending", "_task", "_watchers")

    def __init__(self, opener: Callable[[], Awaitable[Connection]], *, listens: bool = True) -> None:
        self._opener = opener
        self._listens = listens
        self._connection: Connection | None = None
        self._heard: dict[str, Callable[[str], None]] = {}
        self._watchers: list[Callable[[], None]] = []
        # By the thing that they are about: the last notice about it says all.
        self._outgoing: dict[str, str] = {}
        self._sending: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def listen(self, kind: str, heard: Callable[[str], None]) -> None:
        """Call a function in the loop's thread with the rest of each notice of a kind.

        Args:
            kind: The first word of the notice.
            heard: Called with what comes after it; it must not raise.
        """
        self._heard[kind] = heard

    def watch(self, connected: Callable[[], None]) -> None:
        """Call a function each time that notices are heard from now on; earlier ones may be lost."""
        self._watchers.append(connected)

    def notify(self, about: str, rest: str = "") -> None:
        """Send a notice soon. Returns at once.

        Args:
            about: The kind, and what it is about: a later notice about the same replaces one that was not yet given.
            rest: What else it says.
        """
        self._outgoing.pop(about, None)
        self._outgoing[about] = rest
        if self._sending is None and self._connection is not None:
            self._sending = asyncio.get_running_loop().create_task(self._send())

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Send the notices that wait, and hear no more."""
        if self._sending is not None:
            await asyncio.wait([self._sending], timeout=1.0)
        for task in (self._task, self._sending):
            if task is not None:
                task.cancel()
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _run(self) -> None:
        backoff = Backoff(_PAUSES)
        failures = 0
        is_told = False
        while True:
            ended = asyncio.Event()
            try:
                connection = await self._opener()
                connection.watch_end(ended.set)
                if self._listens:
                    await connection.listen(CHANNEL, self._noticed)
            except (EngineGone, Refusal, Warned) as error:
                failures += 1
                # A refusal, such as of a password, does not pass by itself.
                if not is_told and (isinstance(error, Refusal) or failures >= _PATIENT_TRIES):
                    is_told = True
                    _logger.warning("notices can't be heard, and what other nodes do is seen late: %s", error)
                await asyncio.sleep(backoff.next_s(time.monotonic() % 1))
                continue
            if is_told:
                _logger.info("notices are heard again")
            failures, is_told = 0, False
            backoff.reset()
            self._connection = connection
            for connected in self._watchers:
                connected()
            if self._outgoing and self._sending is None:
                self._sending = asyncio.get_running_loop().create_task(self._send())
            if not connection.is_closed:
                await ended.wait()
            self._connection = None

    def _noticed(self, payload: str) -> None:
        kind, _, rest = payload.partition(" ")
        heard = self._heard.get(kind)
        if heard is not None:
            heard(rest)

    async def _send(self) -> None:
        try:
            while self._outgoing and self._connection is not None:
                taken = [*self._outgoing][:_MOST_AT_ONCE]
                notices = [f"{about} {self._outgoing.pop(about)}".rstrip() for about in taken]
                await self._connection.rows(_NOTIFY, notices)
        except (EngineGone, Refusal, Warned) as error:
            _logger.debug("a notice was not given: %s", error)
        finally:
            self._sending = None
