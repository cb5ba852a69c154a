"""Reads from the store's file beside its writer: a connection and a thread of their own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from waypost.errors import StoreClosed
from waypost.storage.sqlite.file import translate
from waypost.storage.sqlite.sums import is_undecodable, leniently

__all__ = ["Reader"]

_T = TypeVar("_T")


class Reader:
    """Runs queries one after the other; each sees what was committed when it began.

    Args:
        store: The store, as errors name it.
        connection: The connection to read with; the reader closes it in the end.
        thread: The thread to read in.
    """

    __slots__ = ("_closed", "_connection", "_store", "_thread")

    def __init__(self, store: str, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._store = store
        self._connection = connection
        self._thread = thread
        self._closed = False

    async def run(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a query in the reader's thread.

        Raises:
            StoreClosed: The store was closed.
            StorageError: The file can't be read.
        """
        if self._closed:
            raise StoreClosed(self._store)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._query, query)
        except sqlite3.Error as error:
            raise translate(self._store, error) from error

    async def close(self) -> None:
        """Finish the queries that were asked for, and close the connection. Closing twice is fine."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
            self._thread.shutdown()

    def _query(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        # One transaction, so that all statements of a query see the same state.
        self._connection.execute("BEGIN")
        try:
            return self._ask(query)
        finally:
            # Not COMMIT, which fails after a damaged page, and would leave the transaction open for all later reads.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _ask(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return query(self._connection)
        except sqlite3.OperationalError as error:
            if not is_undecodable(error):
                raise
        with leniently(self._connection):
            return query(self._connection)
