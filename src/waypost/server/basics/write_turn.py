"""The writes of one iteration of the event loop, so that each connection writes to its socket once."""

from __future__ import annotations

import asyncio
from typing import Protocol

__all__ = ["TurnWriter", "WriteTurn"]


class TurnWriter(Protocol):
    """A connection with data to write at the end of the turn."""

    def write_out(self) -> None:
        """Write all data that waits now; called once for each `WriteTurn.add`."""
        ...


class WriteTurn:
    """The end of an iteration of the event loop in which something was written.

    A write to a socket costs about 5 us in the kernel, ten times the cost of a frame here. asyncio and uvloop do not
    combine consecutive writes.
    """

    __slots__ = ("_has_end", "_writers")

    def __init__(self) -> None:
        self._writers: list[TurnWriter] = []
        self._has_end = False

    def add(self, writer: TurnWriter) -> None:
        """Call a writer at the end of this turn."""
        self._writers.append(writer)
        if not self._has_end:
            # The flag is set after the call: if `call_soon` raises, the next `add` tries again.
            asyncio.get_running_loop().call_soon(self.end)
            self._has_end = True

    def promise_end(self) -> None:
        """Note that `end` will be called soon in any case, before the event loop would call it."""
        self._has_end = True

    def renew(self) -> None:
        """Drop all writes: the event loop that would have made them may have ended."""
        self._writers, self._has_end = [], False

    def end(self) -> None:
        """Call all writers."""
        self._has_end = False
        writers, self._writers = iter(self._writers), []
        try:
            for writer in writers:
                try:
                    writer.write_out()
                except Exception as error:  # noqa: BLE001  # otherwise the other writers would never write
                    loop = asyncio.get_running_loop()
                    loop.call_exception_handler({"message": "a write failed", "exception": error})
        except BaseException:
            # An exception such as KeyboardInterrupt ends this turn; the other writers write in the next one.
            for writer in writers:
                self.add(writer)
            raise
