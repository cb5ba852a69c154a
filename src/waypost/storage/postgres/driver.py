"""The driver: asyncpg behind types of our own. No other module knows it.

A connection is never cancelled and never timed out while it writes: what was being committed then would be neither
done nor undone for the caller. A connection that broke says so (`EngineGone`); whether the write was done is for
`uncertain` to find out.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol, TypeAlias

import asyncpg
from asyncpg.exceptions import PostgresConnectionError

from waypost.retrying import Backoff, RetryPolicy

__all__ = ["Connection", "EngineGone", "Notice", "Pool", "Refusal", "Row", "Warned", "connect"]

_CONNECT_TIMEOUT_S: Final = 10.0
_PAUSES: Final = RetryPolicy(first_s=0.05, longest_s=1.0, jitter=0.2)

# The server ends a session, or never begins it; what was under way is as if the line had broken.
_GONE: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"})
_WARNING: Final = "01000"

# What a role may have set otherwise.
_SETTINGS: Final = {
    "default_transaction_isolation": "read committed",
    "statement_timeout": "0",
    "lock_timeout": "0",
    # A node that stands still within a transaction holds its locks no longer than this.
    "idle_in_transaction_session_timeout": "5000",
    # Plans that use what a function turns off look so dear that each call would compile them, for 0.3 s.
    "jit": "off",
}
_LINE_OF: Final = "_transport"
_LINE: Final = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 11_000}

Notice: TypeAlias = Callable[[str], None]
"""Called in the loop's thread with the payload of a NOTIFY."""


class Row(Protocol):
    """One row of a result; its values by name or by number."""

    def __getitem__(self, name: str | int, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...


class EngineGone(Exception):
    """The connection broke, or there is none. A read may be repeated; a write that was sent is uncertain.

    Attributes:
        problem: Why, in words.
        was_sent: Whether the statement may have reached the server.
    """

    def __init__(self, problem: str, *, was_sent: bool) -> None:
        super().__init__(problem)
        self.problem = problem
        self.was_sent = was_sent


class Warned(Exception):
    """The server warned (01000) while a write ran: it is committed, perhaps not on the standby. Uncertain."""


class Refusal(Exception):
    """The server said no; nothing was done.

    Attributes:
        sqlstate: The code, five characters. Those of Waypost's own functions begin with WP.
        message: The server's words.
        detail: What the server adds; for Waypost's own functions the data of the error as JSON.
    """

    def __init__(self, sqlstate: str, message: str, detail: str = "") -> None:
        super().__init__(sqlstate, message, detail)
        self.sqlstate = sqlstate
        self.message = message
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.message} ({self.sqlstate})"


class Connection:
    """One connection to the server. One call at a time.

    Args:
        raw: The driver's connection.
        pooled: Whether each call needs a transaction of its own, because a pooler gives the server's session away.
        now: A clock that this connection's calls go by, instead of the server's.
    """

    __slots__ = ("_in_transaction", "_now", "_pooled", "_raw", "_told", "_warning")

    def __init__(self, raw: Any, *, pooled: bool = False, now: Callable[[], float] | None = None) -> None:
        self._raw = raw
        self._now = now
        self._told: float | None = None
        self._pooled = pooled
        self._in_transaction = False
        self._warning = ""
        raw.add_log_listener(self._logged)

    @property
    def is_closed(self) -> bool:
        """Whether the connection broke or was closed."""
        return bool(self._raw.is_closed())

    @property
    def has_news(self) -> bool:
        """Whether the server has sent something that was not read yet: between two calls most often that it ends."""
        line: socket.socket | None = getattr(self._raw, _LINE_OF).get_extra_info("socket")
        if line is None or not hasattr(select, "poll"):
            return False
        watch = select.poll()
        watch.register(line.fileno(), select.POLLIN)
        return bool(watch.poll(0))

    @property
    def local_host(self) -> str:
        """This machine's address as the server's machine reaches it; 127.0.0.1 over a unix socket."""
        line: socket.socket | None = getattr(self._raw, _LINE_OF).get_extra_info("socket")
        if line is None or line.family not in (socket.AF_INET, socket.AF_INET6):
            return "127.0.0.1"
        return str(line.getsockname()[0])

    async def rows(self, query: str, *arguments: object) -> list[Row]:
        """Run a query; returns its rows.

        Raises:
            EngineGone: The connection broke.
            Refusal: The server said no.
            Warned: The server warned of what was committed.
        """
        rows: list[Row] = await self._call(self._raw.fetch, query, *arguments)
        return rows

    async def row(self, query: str, *arguments: object) -> Row | None:
        """Run a query; returns its first row. Raises as `rows`."""
        row: Row | None = await self._call(self._raw.fetchrow, query, *arguments)
        return row

    async def value(self, query: str, *arguments: object) -> Any:
        """Run a query; returns the first value of its first row, ``None`` without one. Raises as `rows`."""
        return await self._call(self._raw.fetchval, query, *arguments)

    async def run(self, script: str) -> None:
        """Run a script of statements. Raises as `rows`."""
        await self._call(self._raw.execute, script)

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Run what is inside in one transaction, at READ COMMITTED. Raises as `rows`."""
        return self._transaction()

    async def listen(self, channel: str, notice: Notice) -> None:
        """Call a function with each NOTIFY on a channel. Raises as `rows`."""

        def heard(_: object, __: int, ___: str, payload: object) -> None:
            notice(str(payload))

        await self._call(self._raw.add_listener, channel, heard)

    def watch_end(self, ended: Callable[[], None]) -> None:
        """Call a function in the loop's thread when the connection broke or was closed."""
        self._raw.add_termination_listener(lambda _: ended())

    async def close(self) -> None:
        """Close the connection, without waiting for a server that says nothing."""
        try:
            await self._raw.close(timeout=2.0)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._raw.terminate()

    def terminate(self) -> None:
        """Drop the connection at once."""
        self._raw.terminate()

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        await self.run("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        self._in_transaction = True
        try:
            yield
        except BaseException:
            self._in_transaction = False
            if not self.is_closed:
                await self.run("ROLLBACK")
            raise
        self._in_transaction = False
        await self.run("COMMIT")

    async def _call(self, method: Callable[..., Awaitable[Any]], *arguments: object) -> Any:
        self._warning = ""
        if self._raw.is_closed():
            raise EngineGone("the connection is closed", was_sent=False)
        try:
            if self._now is not None and self._told != (now := self._now()):
                await self._raw.execute("SELECT set_config('waypost.now', $1, false)", repr(now))
                self._told = now
            if self._pooled and not self._in_transaction:
                async with self._raw.transaction(isolation="read_committed"):
                    result = await method(*arguments)
            else:
                result = await method(*arguments)
        except asyncpg.PostgresError as error:
            translated = _translated(error)
            if isinstance(translated, EngineGone):
                # The server has said so; that the line is closed may be heard of only later.
                self._raw.terminate()
            raise translated from error
        except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
            if not self.is_closed and isinstance(error, asyncpg.InterfaceError):
                # A mistake of the caller: such as arguments of the wrong types.
                raise
            self._raw.terminate()
            raise EngineGone(str(error), was_sent=True) from error
        except BaseException:
            # Who gives up a call leaves it to the server to finish it; this connection is of no use any more.
            self._raw.terminate()
            raise
        if self._warning:
            raise Warned(self._warning)
        return result

    def _logged(self, _: object, message: Any) -> None:
        if message.sqlstate == _WARNING:
            self._warning = str(message.message)


def _translated(error: asyncpg.PostgresError) -> EngineGone | Refusal:
    sqlstate = error.sqlstate or ""
    if isinstance(error, PostgresConnectionError) or sqlstate in _GONE:
        return EngineGone(str(error), was_sent=True)
    return Refusal(sqlstate, str(error), str(error.detail or ""))


async def connect(dsn: str, node: str, *, pooled: bool = False, now: Callable[[], float] | None = None) -> Connection:
    """Connect to a server.

    Args:
        dsn: The URL.
        node: The node's name; seen in the server's list of connections.
        pooled: Whether the URL is a pooler's that gives a connection away after each transaction.
        now: A clock that the connection's calls go by, instead of the server's; for tests.

    Raises:
        EngineGone: Nothing answers there, or the server takes nobody at the moment.
        Refusal: The server refuses this user, password or database, or has too many connections.
    """
    # Without a name of our own for a statement, a pooler's connections can be exchanged below it.
    asked: dict[str, Any] = {"statement_cache_size": 0} if pooled else {}
    if not pooled:
        asked["server_settings"] = {"application_name": f"waypost {node}"} | _SETTINGS
    try:
        raw = await asyncpg.connect(dsn, timeout=_CONNECT_TIMEOUT_S, **asked)
    except asyncpg.PostgresError as error:
        raise _translated(error) from error
    except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
        raise EngineGone(str(error) or "it did not answer in time", was_sent=False) from error
    _watch_line(raw)
    return Connection(raw, pooled=pooled, now=now)


def _watch_line(raw: Any) -> None:
    """Let a line that carries nothing any more break, instead of waiting for it for hours."""
    line: socket.socket | None = getattr(raw, _LINE_OF).get_extra_info("socket")
    if line is None or line.family not in (socket.AF_INET, socket.AF_INET6):
        return
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _LINE.items():
        if hasattr(socket, name):
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


Opener: TypeAlias = Callable[[], Awaitable[Connection]]


class Pool:
    """Connections for one purpose: opened when they are needed, opened anew when they broke.

    When none can be opened a task tries again, with growing pauses; until it succeeds `take` fails at once.

    Args:
        size: The most connections, from 1.
        opener: Opens a connection, and prepares it.
    """

    __slots__ = ("_free", "_gone", "_idle", "_is_closed", "_opener", "_probing", "_watchers")

    def __init__(self, size: int, opener: Opener) -> None:
        self._opener = opener
        self._free = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._gone: EngineGone | None = None
        self._is_closed = False
        self._probing: asyncio.Task[None] | None = None
        self._watchers: list[Callable[[bool], None]] = []

    @property
    def gone(self) -> EngineGone | None:
        """Why the engine can't be reached at the moment; ``None`` while it can, as far as is known."""
        return self._gone

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._is_closed

    def watch(self, changed: Callable[[bool], None]) -> None:
        """Call a function with whether the engine can be reached, when that changes."""
        self._watchers.append(changed)

    def take(self) -> AbstractAsyncContextManager[Connection]:
        """Have a connection for a time.

        Raises:
            EngineGone: The engine can't be reached; nothing was sent.
            Refusal: The server refuses a new connection.
        """
        return self._take()

    async def close(self) -> None:
        """Close the connections that nobody has; those in use are closed when they are given back."""
        self._is_closed = True
        if self._probing is not None:
            self._probing.cancel()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(connection.close() for connection in idle))

    @contextlib.asynccontextmanager
    async def _take(self) -> AsyncIterator[Connection]:
        async with self._free:
            connection = await self._get()
            try:
                yield connection
            finally:
                if connection.is_closed:
                    pass
                elif self._is_closed:
                    await connection.close()
                else:
                    self._idle.append(connection)

    async def _get(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_closed:
                continue
            if not connection.has_news:
                return connection
            # A call that is sent to a server which has said goodbye is uncertain; nothing was sent on this one.
            connection.terminate()
        if self._gone is not None:
            raise EngineGone(self._gone.problem, was_sent=False)
        if self._is_closed:
            raise EngineGone("the store is closed", was_sent=False)
        try:
            return await self._opener()
        except EngineGone as gone:
            self._lost(gone)
            raise EngineGone(gone.problem, was_sent=False) from gone
        except Warned as warned:
            # What prepares a connection may be done again.
            raise EngineGone(str(warned), was_sent=False) from warned

    def _lost(self, gone: EngineGone) -> None:
        if self._gone is None and not self._is_closed:
            self._gone = gone
            self._probing = asyncio.get_running_loop().create_task(self._probe())
            self._tell(is_there=False)

    async def _probe(self) -> None:
        backoff = Backoff(_PAUSES)
        while True:
            try:
                connection = await self._opener()
                break
            except (EngineGone, Refusal, Warned):
                await asyncio.sleep(backoff.next_s(time.monotonic() % 1))
        self._gone = None
        self._idle.append(connection)
        self._tell(is_there=True)

    def _tell(self, *, is_there: bool) -> None:
        for changed in self._watchers:
            changed(is_there)
