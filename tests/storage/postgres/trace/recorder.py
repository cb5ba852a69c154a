"""Notes each statement that stores send to PostgreSQL, with its arguments and what came of it, below the driver.

A writing statement runs in a transaction with a note of its place, drawn from a sequence after the statement: it has
all its locks then, so the places of two that exclude each other are in the order in which they took effect. A call
without a place did nothing, whatever became of its answer. Reads are sent as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from random import Random
from typing import Any, Final

import asyncpg
import pytest

from waypost.storage.postgres.driver import Connection

__all__ = ["Call", "Recorder", "Refused", "functions_of", "prepare", "read_places"]

_FUNCTION: Final = re.compile(r"waypost\.(\w+_\d+)\(")
_CLOCK: Final = "SELECT set_config('waypost.now', $1, false)"
_PLACES: Final = """
    CREATE SCHEMA trace;
    CREATE SEQUENCE trace.place;
    CREATE TABLE trace.done (call bigint PRIMARY KEY, place bigint NOT NULL);
"""
_NOTE: Final = "INSERT INTO trace.done VALUES ($1, nextval('trace.place'))"
# What the server says when it ends a session: whether the statement was done is not known.
_GONE: Final = ("57P", "08")


def functions_of(statement: str) -> list[str]:
    """Return the names of Waypost's functions that a statement calls."""
    return _FUNCTION.findall(statement)


async def prepare(connection: Connection) -> None:
    """Make the place for the notes, beside Waypost's schema."""
    await connection.run(_PLACES)


async def read_places(connection: Connection) -> dict[int, int]:
    """Return the places of the calls that were done, by the numbers of the calls."""
    return {row["call"]: row["place"] for row in await connection.rows("SELECT call, place FROM trace.done")}


class Refused(Exception):
    """The engine said no, and did nothing.

    Attributes:
        sqlstate: The code, five characters.
    """

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


class _Break(Enum):
    """When a line breaks."""

    NEVER = "never"
    BEFORE = "before the statement is sent"
    AT_COMMIT = "while the commit is on its way"
    AFTER = "after the commit"


@dataclass(slots=True, eq=False)
class Call:
    """One statement.

    Attributes:
        number: Tells it apart; they rise.
        sender: The name of the connection.
        statement: Its text, in one line.
        arguments: Its arguments.
        now: The time that the engine went by.
        began: When it was sent, as a number that rises with each event of the recorder.
        ended: When its answer came; infinite without one.
        answer: What it returned, or the refusal; nothing if that was lost.
        is_lost: Whether its answer was lost.
    """

    number: int
    sender: str
    statement: str
    arguments: tuple[Any, ...]
    now: float
    began: float
    ended: float = float("inf")
    answer: Any = None
    is_lost: bool = True

    @property
    def function(self) -> str:
        """The function that it calls; "" if it calls none, or several."""
        found = functions_of(self.statement)
        return found[0] if len(found) == 1 else ""

    def __str__(self) -> str:
        came = "its answer was lost" if self.is_lost else repr(self.answer)
        return f"{self.number} {self.sender} at {self.now}: {self.statement} {self.arguments!r}: {came}"


@dataclass(slots=True, eq=False)
class Recorder:
    """Notes calls, and lets lines break when it is told to.

    Attributes:
        chance: Decides which.
        writes: The functions that write.
        breaks: How likely the line of a writing call of a store breaks.
        calls: The calls, in the order in which they were sent.
    """

    chance: Random
    writes: Collection[str]
    breaks: float = 0.0
    calls: list[Call] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)
    _moments: count[int] = field(default_factory=count)

    @contextlib.contextmanager
    def below_the_driver(self) -> Iterator[None]:
        """Note what is sent over all connections that are opened meanwhile."""
        connect = asyncpg.connect

        async def recorded(dsn: str, **options: Any) -> _Line:
            name = options.get("server_settings", {}).get("application_name", "?")
            return _Line(await connect(dsn, **options), name, self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncpg, "connect", recorded)
            yield

    def begin(self, sender: str, query: str, arguments: tuple[Any, ...], now: float) -> Call:
        """Note a call that is about to be sent."""
        statement = " ".join(query.split())
        call = Call(next(self._numbers), sender, statement, arguments, now, next(self._moments))
        self.calls.append(call)
        return call

    def end(self, call: Call, answer: Any) -> None:
        """Note what came of a call."""
        call.ended, call.answer, call.is_lost = next(self._moments), answer, False

    def draw(self, sender: str) -> _Break:
        """Decide whether a line breaks at a call."""
        if " append " not in sender or self.chance.random() >= self.breaks:
            return _Break.NEVER
        return self.chance.choice([_Break.BEFORE, _Break.AT_COMMIT, _Break.AFTER])


class _Line:
    """A connection of the driver's, whose statements are noted."""

    def __init__(self, raw: Any, sender: str, recorder: Recorder) -> None:
        self._raw = raw
        self._sender = sender
        self._recorder = recorder
        self._now = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    async def fetch(self, query: str, *arguments: Any) -> Any:
        return await self._note(self._raw.fetch, query, arguments)

    async def fetchrow(self, query: str, *arguments: Any) -> Any:
        return await self._note(self._raw.fetchrow, query, arguments)

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        return await self._note(self._raw.fetchval, query, arguments)

    async def execute(self, query: str, *arguments: Any) -> Any:
        if query == _CLOCK:
            answer = await self._raw.execute(query, *arguments)
            self._now = float(arguments[0])
            return answer
        return await self._note(self._raw.execute, query, arguments)

    async def _note(self, method: Callable[..., Awaitable[Any]], query: str, arguments: tuple[Any, ...]) -> Any:
        call = self._recorder.begin(self._sender, query, arguments, self._now)
        try:
            if call.function in self._recorder.writes:
                answer = await self._write(method, query, call)
            else:
                answer = await method(query, *arguments)
        except asyncpg.PostgresError as error:
            if not (error.sqlstate or "").startswith(_GONE):
                self._recorder.end(call, Refused(error.sqlstate or ""))
                if call.function in self._recorder.writes and not self._raw.is_closed():
                    await self._raw.execute("ROLLBACK")
            raise
        self._recorder.end(call, answer)
        return answer

    async def _write(self, method: Callable[..., Awaitable[Any]], query: str, call: Call) -> Any:
        breaks = self._recorder.draw(self._sender)
        if breaks is _Break.BEFORE:
            raise self._broken()
        await self._raw.execute("BEGIN")
        answer = await method(query, *call.arguments)
        await self._raw.execute(_NOTE, call.number)
        if breaks is _Break.AT_COMMIT:
            committing = asyncio.ensure_future(self._raw.execute("COMMIT"))
            await asyncio.sleep(0)
            error = self._broken()
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await committing
            raise error
        await self._raw.execute("COMMIT")
        if breaks is _Break.AFTER:
            raise self._broken()
        return answer

    def _broken(self) -> Exception:
        self._raw.terminate()
        return asyncpg.InterfaceError("the test has cut the line")
