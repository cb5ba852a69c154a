"""Gathers what is written in one turn of the event loop, so that each connection writes to the network once."""

from __future__ import annotations

import asyncio
from typing import Protocol

__all__ = ["TurnWriter", "WriteTurn"]


class TurnWriter(Protocol):
    """Writes at the end of the turn."""

    def write_out(self) -> None:
        """Write everything gathered so far; called once for each `WriteTurn.add`."""
        ...


class WriteTurn:
    """The end of each turn of the event loop in which something was written.

    A write to a socket costs some 5 us in the kernel, ten times of what a frame costs here; and neither asyncio nor
    uvloop gathers what is written one after the other.
    """

    __slots__ = ("_has_end", "_writers")

    def __init__(self) -> None:
        self._writers: list[TurnWriter] = []
        self._has_end = False

    def add(self, writer: TurnWriter) -> None:
        """Call a writer at the end of this turn."""
        self._writers.append(writer)
        if not self._has_end:
            # Only then is it noted: if this raises, the next one's turn has an end.
            asyncio.get_running_loop().call_soon(self.end)
            self._has_end = True

    def promise_end(self) -> None:
        """Note that `end` will be called soon anyhow, and sooner than the event loop would."""
        self._has_end = True

    def end(self) -> None:
        """Call all writers."""
        self._has_end = False
        writers, self._writers = iter(self._writers), []
        try:
            for writer in writers:
                try:
                    writer.write_out()
                except Exception as error:  # noqa: BLE001  # the others' writes would be lost with it, for ever
                    loop = asyncio.get_running_loop()
                    loop.call_exception_handler({"message": "a write failed", "exception": error})
        except BaseException:
            # What is no `Exception` ends the server or this turn, but not the others' writes.
            for writer in writers:
                self.add(writer)
            raise
