"""Runs the shop in a process, and records its output in the ledger."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from types import TracebackType
from typing import Self

import orjson

from waypost.demo.ledger import Announcement, Ledger

__all__ = ["ShopProcess"]

_STOP_TIMEOUT_S = 10.0


class ShopProcess:
    """The shop's process; an asynchronous context manager that ends it.

    Args:
        url: The service's address.
        driver: The driver who gets the parcels.
        every_s: Seconds between two parcels.
        ledger: The ledger that records the shop's attempts and the accepted parcels.
        on_change: Called after each record, and at the end of the process.
    """

    def __init__(self, url: str, driver: str, every_s: float, ledger: Ledger, on_change: Callable[[], None]) -> None:
        self._arguments = [url, driver, str(every_s)]
        self._ledger = ledger
        self._on_change = on_change
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._running().pid

    @property
    def failed(self) -> bool:
        """Whether the process has ended with an exit code other than 0."""
        return bool(self._process is not None and self._process.returncode)

    async def __aenter__(self) -> Self:
        """Start the process."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "waypost.demo.shop",
            *self._arguments,
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,
        )
        self._reading = asyncio.create_task(self._read(self._process))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill the process if it still runs."""
        if self._running().returncode is None:
            self._running().kill()
        await self._running().wait()

    async def close(self) -> int:
        """Let the shop finish its current parcel and close.

        Returns:
            The process's exit code.
        """
        process = self._running()
        assert process.stdin is not None, "it was asked for"
        assert self._reading is not None, "it was started"
        process.stdin.close()
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await self._reading
            return await process.wait()

    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError("the shop was not started")
        return self._process

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None, "it was asked for"
        while line := await process.stdout.readline():
            for what, (parcel_id, attempt) in orjson.loads(line).items():
                record = self._ledger.accepted if what == "accepted" else self._ledger.asked
                record.append(Announcement(parcel_id, attempt))
            self._on_change()
        await process.wait()
        self._on_change()
