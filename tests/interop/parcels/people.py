"""Those who use the parcel service: they lose their connection at any moment, and do not give up."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

from tests.interop.parcels.logbook import Logbook
from tests.interop.peer import Client, PeerError, Received

_TRY_S = 2.0
_LONGEST_PAUSE_S = 0.02
_CHANCE_OF_REFUSAL = 0.05
_BACK_AFTER_S = 0.05


@dataclass(frozen=True)
class Parcel:
    """What a shop ships."""

    id: str
    driver: str


async def insist(client: Client, tries: Counter[str], event: str, *args: str) -> int:
    """Call until there is an answer, and return it: the place of what the server took in."""
    while True:
        tries[f"{event} {args[0]}"] += 1
        try:
            [answer] = await client.call(event, *args, timeout_s=_TRY_S)
        except PeerError:
            await asyncio.sleep(_BACK_AFTER_S)
        else:
            return int(answer)


@dataclass
class Shop:
    """Ships parcels one after the other, each until the server says that it has it.

    Attributes:
        accepted: What the server has taken, in order.
        tries: How often each thing was asked for.
    """

    client: Client
    parcels: list[Parcel]
    rng: random.Random
    accepted: list[Parcel] = field(default_factory=list)
    tries: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Ship all parcels."""
        for parcel in self.parcels:
            await asyncio.sleep(self.rng.uniform(0, _LONGEST_PAUSE_S))
            await insist(self.client, self.tries, "ship", parcel.id, parcel.driver)
            self.accepted.append(parcel)


class Clerk:
    """Sits in the office, and puts each parcel into its driver's van before acknowledging it.

    Attributes:
        client: The clerk's client.
        tries: How often each thing was asked for.
    """

    def __init__(self, client: Client, logbooks: dict[str, Logbook]) -> None:
        self.client = client
        self.tries: Counter[str] = Counter()
        self._logbooks = logbooks
        self._came: asyncio.Queue[Received] = asyncio.Queue()
        client.observer = self._observe

    async def run(self) -> None:
        """Work on everything that comes, for ever; several parcels at a time."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._assign(await self._came.get()))

    async def _assign(self, received: Received) -> None:
        parcel, driver = received.args
        place = await insist(self.client, self.tries, "assign", parcel, driver)
        self._logbooks[driver].place(parcel, place)
        # By now this may be the ack of a delivery that went down with its connection: a stale one.
        await self.client.ack(received)

    def _observe(self, kind: str, received: Received | None) -> None:
        if received is not None:
            self._came.put_nowait(received)


class Phone:
    """One of a driver's clients: it takes a while for each parcel, and now and then nobody is at home.

    Attributes:
        client: The client.
        driver: Whose it is.
    """

    def __init__(self, client: Client, logbook: Logbook, rng: random.Random) -> None:
        self.client = client
        self.driver = logbook.driver
        self._logbook = logbook
        self._rng = rng
        self._came: asyncio.Queue[Received] = asyncio.Queue()
        client.observer = self._observe

    async def run(self) -> None:
        """Handle everything that comes, for ever."""
        while True:
            received = await self._came.get()
            [parcel] = received.args
            await asyncio.sleep(self._rng.uniform(0, _LONGEST_PAUSE_S))
            if self._rng.random() < _CHANCE_OF_REFUSAL:
                self._logbook.note("refused", parcel, self.client.name)
                await self.client.ack(received, {"nack": "nobody is at home", "retry_in": _BACK_AFTER_S})
            else:
                self._logbook.note("done", parcel, self.client.name)
                await self.client.ack(received)

    def _observe(self, kind: str, received: Received | None) -> None:
        if received is not None:
            self._logbook.note("got", received.args[0], self.client.name)
            self._came.put_nowait(received)
        elif kind == "connect":
            self._logbook.note("up", phone=self.client.name)
        elif kind == "disconnect":
            self._logbook.note("down", phone=self.client.name)
