"""One story of shops, clerks and drivers: work, trouble at moments drawn from a seed, and a calm end.

The moments are counts of what has been done, not times: the story is the same on a slow machine, and it ends.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.interop.parcels.cast import Cast, connect
from tests.interop.parcels.people import insist
from tests.interop.parcels.service import OFFICE, van
from tests.interop.peer import Peer, PeerError
from tests.support.server_process import ServerProcess

_APPLICATION = "tests.interop.parcels.service:io"
# How long nothing at all may get done: kills and frozen lines cost a few seconds each.
_STALL_S = 20.0
_TROUBLE = {"kill": 3, "stop": 1, "cut": 10, "freeze": 2}
_LOOK_EVERY_S = 0.1
_POLL_S = 0.01


@dataclass(frozen=True)
class Outcome:
    """What a story came to.

    Attributes:
        parcels: How many parcels were handled.
        repeats: How many deliveries to drivers were repeats, each explained.
        retries: How many calls of shops and clerks had to be made again.
        seconds: How long it took.
    """

    parcels: int
    repeats: int
    retries: int
    seconds: float


async def play(peer: Peer, directory: Path, rng: random.Random) -> Outcome:
    """Play one story on a server of its own.

    Args:
        peer: Makes the official clients.
        directory: For the server's store and log.
        rng: What everything that is left to chance is drawn from.

    Raises:
        AssertionError: Something happened that must not; or nothing happens any more, and this says what is missing.
    """
    began = time.monotonic()
    command = ("-m", "waypost", "serve", _APPLICATION, "--port", "{port}", "--store", str(directory / "store.db"))
    options = {"drain_s": 0.2, "ping_interval_s": 0.5, "ping_timeout_s": 2}
    server = ServerProcess(command, directory / "server.log", options)
    await server.start()
    try:
        async with connect(peer, server.port, rng) as cast:
            await _Story(cast, server, rng).run()
            await peer.leave_all()
        await server.stop()
        server.check_log()
    finally:
        await server.kill()
    _check(cast)
    books = cast.logbooks.values()
    return Outcome(
        parcels=sum(len(book.handled) for book in books),
        repeats=sum(book.repeats for book in books),
        retries=sum(count - 1 for count in cast.tries.values()),
        seconds=time.monotonic() - began,
    )


class _Story:
    def __init__(self, cast: Cast, server: ServerProcess, rng: random.Random) -> None:
        self._cast = cast
        self._server = server
        self._rng = rng
        self._numbers: dict[str, Any] = {}
        self._past: list[str] = []

    async def run(self) -> None:
        """Let everybody work, through all the trouble, until nothing is left to do."""
        cast = self._cast
        work = [shop.run() for shop in cast.shops]
        work += [clerk.run() for clerk in cast.clerks] + [phone.run() for phone in cast.phones]
        async with _running(*work, self._inspect()):
            for moment, what in self._plan():
                await self._until(partial(self._has_come, moment), f"progress is {moment}")
                await self._make_trouble(what)
            await self._until(self._is_drained, "everything is handled and no queue has anything left")
            await self._look_back()

    def _plan(self) -> list[tuple[int, str]]:
        kinds = [kind for kind, count in _TROUBLE.items() for _ in range(count)]
        return sorted((self._rng.randint(1, 3 * len(self._cast.shipped) * 9 // 10), kind) for kind in kinds)

    async def _make_trouble(self, what: str) -> None:
        self._past.append(f"{what} at {self._cast.progress}")
        if what in ("kill", "stop"):
            await self._end_server(what)
            return
        client, link = self._rng.choice(self._cast.lines)
        for phone in self._cast.phones:
            if phone.client is client:
                self._cast.logbooks[phone.driver].note("trouble", phone=client.name)
        link.cut() if what == "cut" else link.freeze()

    async def _end_server(self, how: str) -> None:
        self._note_end()
        await self._server.restart(how)
        # Once more: what the old one had sent may have come after the first note.
        self._note_end()

    def _note_end(self) -> None:
        # A stop may lose acks as well: those that are on their way.
        for logbook in self._cast.logbooks.values():
            logbook.note("killed")

    async def _look_back(self) -> None:
        """Kill the server once more: nothing that was handled may come back, and what is new comes at once."""
        await self._end_server("kill")
        async with _running(*(self._assign_last(driver) for driver in self._cast.logbooks)):
            last = self._cast.logbooks.values()
            await self._until(
                lambda: all(f"last for {book.driver}" in book.places for book in last) and self._is_drained(),
                "the last parcels are handled",
            )

    async def _assign_last(self, driver: str) -> None:
        parcel = f"last for {driver}"
        tries = self._cast.clerks[0].tries
        self._cast.logbooks[driver].place(parcel, await insist(self._cast.inspector, tries, "assign", parcel, driver))

    async def _inspect(self) -> None:
        """Look at the queues again and again; what the store has settled is noted as proved."""
        cast = self._cast
        while True:
            try:
                [self._numbers] = await cast.inspector.call("look", list(cast.logbooks), timeout_s=1)
            except PeerError:
                self._numbers = {}
            for driver, logbook in cast.logbooks.items():
                for consumer in self._numbers.get(van(driver), {}).get("consumers", ()):
                    logbook.note("proved", offset=consumer["offset"])
            await asyncio.sleep(_LOOK_EVERY_S)

    # -- how far it is --------------------------------------------------------------------------------------

    def _has_come(self, moment: int) -> bool:
        return self._cast.progress >= moment

    def _is_drained(self) -> bool:
        numbers, books = self._numbers, self._cast.logbooks.values()
        return (
            self._cast.is_done()
            and numbers.keys() == {OFFICE, *map(van, self._cast.logbooks)}
            and all(_is_empty(queue) for queue in numbers.values())
            and all(numbers[van(book.driver)]["newest"] == len(book.places) for book in books)
        )

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition for as long as anything gets done."""
        done, done_at = self._cast.progress, time.monotonic()
        while not condition():
            if self._cast.progress != done:
                done, done_at = self._cast.progress, time.monotonic()
            if time.monotonic() > done_at + _STALL_S:
                raise AssertionError(f"nothing was done for {_STALL_S:g} s, waiting until {what}\n{self._report()}")
            await asyncio.sleep(_POLL_S)

    def _report(self) -> str:
        """Say what is missing, and where it may be."""
        queues = [f"{name}: {json.dumps(numbers)}" for name, numbers in self._numbers.items()]
        told = [f"trouble: {self._past}", *self._cast.missing(), *queues, *self._cast.described()]
        return "\n".join([*told, self._server.log()[-3000:]])


def _check(cast: Cast) -> None:
    """Fail unless everything was handled as it must be."""
    for logbook in cast.logbooks.values():
        logbook.check()
        for shop in cast.shops:
            mine = [parcel.id for parcel in shop.parcels if parcel.driver == logbook.driver]
            assert [one for one in logbook.handled if one in set(mine)] == mine, "a shop's parcels, in its order"


def _is_empty(numbers: dict[str, Any]) -> bool:
    is_idle = all(not one["waiting"] and not one["in_flight"] for one in numbers["consumers"])
    return is_idle and not numbers["messages"] and not numbers["dead"]


@asynccontextmanager
async def _running(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run tasks beside a block: they end with it, and it ends when one of them fails."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
        yield
        for task in tasks:
            task.cancel()
