"""Who is in a story: everybody with a client and a line of their own, and what they have got done so far."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.interop.parcels.logbook import Logbook
from tests.interop.parcels.people import Clerk, Parcel, Phone, Shop
from tests.interop.peer import MODES, Client, Peer
from tests.support.link import Link

PARCELS_OF_A_SHOP = 40

_SHOPS = ("upgrade", "polling")
_CLERKS = ("websocket", "upgrade")
# The modes of each driver's phones; Cem's second one takes over from the first, and back.
_DRIVERS: dict[str, tuple[str, ...]] = {"Ada": ("websocket",), "Ben": ("polling",), "Cem": ("upgrade", "websocket")}
_LONGEST_DELAY_S = 0.003


@dataclass
class Cast:
    """Everybody in a story.

    Attributes:
        inspector: A client whose line never fails.
        lines: Each other client with its line.
        logbooks: What happens to each driver.
    """

    inspector: Client
    shops: list[Shop] = field(default_factory=list)
    clerks: list[Clerk] = field(default_factory=list)
    phones: list[Phone] = field(default_factory=list)
    lines: list[tuple[Client, Link]] = field(default_factory=list)
    logbooks: dict[str, Logbook] = field(default_factory=lambda: {name: Logbook(name) for name in _DRIVERS})

    @property
    def shipped(self) -> list[Parcel]:
        """All parcels that are to be shipped, by the end."""
        return [parcel for shop in self.shops for parcel in shop.parcels]

    @property
    def progress(self) -> int:
        """How much is done: each parcel is accepted, assigned and handled."""
        accepted = sum(len(shop.accepted) for shop in self.shops)
        return accepted + sum(len(one.places) + len(one.handled) for one in self.logbooks.values())

    @property
    def tries(self) -> Counter[str]:
        """How often each thing was asked for."""
        counters = [shop.tries for shop in self.shops] + [clerk.tries for clerk in self.clerks]
        return sum(counters, start=Counter())

    def is_done(self) -> bool:
        """Tell whether nobody has anything left to do."""
        assigned = {parcel for logbook in self.logbooks.values() for parcel in logbook.places}
        return (
            all(len(shop.accepted) == len(shop.parcels) for shop in self.shops)
            and {parcel.id for parcel in self.shipped} <= assigned
            and all(set(one.handled) == one.places.keys() for one in self.logbooks.values())
        )

    def missing(self) -> list[str]:
        """Say of each parcel that was not handled how far it came."""
        accepted = {parcel.id for shop in self.shops for parcel in shop.accepted}
        tries = self.tries
        said: list[str] = []
        for parcel in self.shipped:
            logbook = self.logbooks[parcel.driver]
            if parcel.id not in accepted:
                said.append(f"{parcel.id}: not accepted after {tries[f'ship {parcel.id}']} tries")
            elif parcel.id not in logbook.places:
                said.append(f"{parcel.id}: accepted; {tries[f'assign {parcel.id}']} tries to assign it")
            elif parcel.id not in logbook.handled:
                came = sum(entry.what == "got" and entry.parcel == parcel.id for entry in logbook.entries)
                place = logbook.places[parcel.id]
                said.append(f"{parcel.id}: number {place} for {parcel.driver}, came {came} times, not acknowledged")
        return said

    def described(self) -> list[str]:
        """Say of everybody what they have seen, and of each driver what happened last."""
        clients = [("shop", one.client) for one in self.shops] + [("clerk", one.client) for one in self.clerks]
        clients += [(one.driver, one.client) for one in self.phones] + [("inspector", self.inspector)]
        said = [f"{who} {client.name}: {client.summary()}" for who, client in clients]
        for logbook in self.logbooks.values():
            said.append(f"{logbook.driver}: … {', '.join(map(str, logbook.entries[-15:]))}")
        return said


@asynccontextmanager
async def connect(peer: Peer, port: int, rng: random.Random) -> AsyncIterator[Cast]:
    """Let everybody connect to the server at a port; their lines end with the block."""

    def chance() -> random.Random:
        return random.Random(rng.getrandbits(64))

    async with AsyncExitStack() as stack:

        async def join(mode: str, **auth: Any) -> Client:
            link = await stack.enter_async_context(Link.to(port, _delays(chance())))
            client = await peer.client(link.url, transports=MODES[mode], auth=auth)
            cast.lines.append((client, link))
            return client

        cast = Cast(await peer.client(f"http://127.0.0.1:{port}", auth={"role": "inspector"}))
        for number, mode in enumerate(_SHOPS):
            parcels = [Parcel(f"{number}.{one}", rng.choice(list(_DRIVERS))) for one in range(PARCELS_OF_A_SHOP)]
            cast.shops.append(Shop(await join(mode, role="shop"), parcels, chance()))
        for mode in _CLERKS:
            cast.clerks.append(Clerk(await join(mode, role="clerk"), cast.logbooks))
        for driver, modes in _DRIVERS.items():
            for mode in modes:
                client = await join(mode, role="driver", driver=driver)
                cast.phones.append(Phone(client, cast.logbooks[driver], chance()))
        yield cast


def _delays(chance: random.Random) -> Callable[[], float]:
    return lambda: chance.uniform(0, _LONGEST_DELAY_S)
