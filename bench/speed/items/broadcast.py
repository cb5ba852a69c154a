"""Broadcasts (item 2): to rooms of several sizes, JSON and binary, with rooms left out, to several rooms at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from bench.speed.asking import Unexpected
from bench.speed.contenders import Serving
from bench.speed.counting import Caller, Deliveries, Member
from bench.speed.entering import enter_all, leave
from bench.speed.items.common import Extent, Figures, enough, rate_figures, warmed_up, without_collector
from bench.speed.process import Used

__all__ = ["Blast", "Crowd", "broadcast"]

_MEMBERS = 5_000
_DELIVERIES_AT_ONCE = 2_000
_DELIVERIES_PER_S = 20_000
_BYTES_AT_ONCE = 16_000_000
_STALLED_S = 20.0


@dataclass(frozen=True)
class Blast:
    """One kind of broadcast.

    Attributes:
        name: What it is called in tables.
        rooms: Where it goes.
        members: How many get it.
        size_bytes: How large the value is as JSON, or the attachment.
        left_out: Rooms that don't get it.
        is_binary: Whether it is an attachment.
        is_quick: Whether it belongs to the quick run, too.
        in_a_turn: How many are emitted in one turn of the server's loop.
        are_together: Whether these are awaited together, and not one after the other.
    """

    name: str
    rooms: Sequence[str]
    members: int
    size_bytes: int
    left_out: Sequence[str] = ()
    is_binary: bool = False
    is_quick: bool = False
    in_a_turn: int = 1
    are_together: bool = False


_BLASTS = (
    Blast("to 10, 32 B", ["r10"], 10, 32, is_quick=True),
    Blast("to 10, 1 kB", ["r10"], 10, 1_000),
    Blast("to 10, 16 kB", ["r10"], 10, 16_000),
    Blast("to 500, 32 B", ["r500"], 500, 32, is_quick=True),
    Blast("to 500, 32 B, 10 a turn", ["r500"], 500, 32, is_quick=True, in_a_turn=10),
    Blast("to 500, 32 B, 10 together", ["r500"], 500, 32, is_quick=True, in_a_turn=10, are_together=True),
    Blast("to 500, 1 kB", ["r500"], 500, 1_000, is_quick=True),
    Blast("to 500, 16 kB", ["r500"], 500, 16_000, is_quick=True),
    Blast("to 500, binary 1 kB", ["r500"], 500, 1_000, is_binary=True, is_quick=True),
    Blast("to 500 but 50, 1 kB", ["r500"], 450, 1_000, left_out=["x50"]),
    Blast("to 3 rooms of 250, 1 kB", ["a250", "b250", "c250"], 500, 1_000),
    Blast("to 5,000, 32 B", ["all"], 5_000, 32, is_quick=True),
    Blast("to 5,000, 1 kB", ["all"], 5_000, 1_000),
    Blast("to 5,000, 16 kB", ["all"], 5_000, 16_000),
    Blast("to 5,000, binary 1 kB", ["all"], 5_000, 1_000, is_binary=True),
)


def _rooms_of(number: int) -> list[str]:
    """Say which rooms a client is in, by its number."""
    sizes = (("r10", 0, 10), ("r500", 0, 500), ("x50", 450, 500), ("a250", 0, 250), ("b250", 250, 500))
    rooms = [name for name, first, end in sizes if first <= number < end]
    return ["all", *rooms, *(["c250"] if 125 <= number < 375 else [])]


class Crowd:
    """Connected clients that count, and a caller who has the server broadcast to them.

    Args:
        server: Where they are.
        members: The clients.
        deliveries: What they count together.
        caller: The caller.
    """

    def __init__(self, server: Serving, members: Sequence[Member], deliveries: Deliveries, caller: Caller) -> None:
        self._server = server
        self._members = members
        self._deliveries = deliveries
        self._caller = caller

    @classmethod
    async def gather(cls, server: Serving, rooms: Sequence[Sequence[str]]) -> Crowd:
        """Connect as many as there are lists of rooms, each into its own."""
        deliveries = Deliveries()
        members = [Member(deliveries) for _ in rooms]
        await enter_all(server.port, [{"rooms": names} for names in rooms], members)
        return cls(server, members, deliveries, await Caller.connect(server.port))

    async def measure(self, blast: Blast, seconds: float) -> Figures:
        """Broadcast for so long; everybody must get every event, and nobody else one."""
        least = blast.size_bytes
        for member in self._members:
            member.expect(least, blast.is_binary)
        at_once = min(_DELIVERIES_AT_ONCE, _BYTES_AT_ONCE // least, int(_DELIVERIES_PER_S * seconds))
        count = max(1, at_once // blast.members)
        task = {
            "rooms": blast.rooms,
            "except": blast.left_out,
            "size": least,
            "binary": blast.is_binary,
            "count": count,
            "in_a_turn": blast.in_a_turn,
            "together": blast.are_together,
        }
        emitting = _Emitting(self._caller, self._deliveries, task, count * blast.members)
        async with without_collector():
            running = asyncio.create_task(emitting.run())
            await warmed_up(self._server, seconds)
            began = await emitting.window(self._server.pid)
            ended = began
            while not enough(ended[1].since(began[1]), seconds):
                ended = await emitting.window(self._server.pid)
            emitting.is_running = False
            await running
        self._check(emitting.calls * count, blast.members)
        return rate_figures(ended[0] - began[0], ended[1].since(began[1]))

    def _check(self, broadcasts: int, members: int) -> None:
        got = [member.received for member in self._members]
        if self._deliveries.lost or got.count(broadcasts) != members or sum(got) != broadcasts * members:
            wrong = sum(number not in (0, broadcasts) for number in got)
            raise Unexpected(
                f"{members} clients should have {broadcasts} events each: {got.count(broadcasts)} have, {wrong} have"
                f" another number, {self._deliveries.lost} lost their connection"
            )

    def close(self) -> None:
        """Let all go."""
        for member in self._members:
            leave(member.transport)
        self._caller.close()


class _Emitting:
    """Calls for broadcasts, two calls at a time, so that no more is under way than clients can take."""

    def __init__(self, caller: Caller, deliveries: Deliveries, task: dict[str, object], deliveries_each: int) -> None:
        self._caller = caller
        self._deliveries = deliveries
        self._task = task
        self._each = deliveries_each
        self._turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_running = True
        self.calls = 0

    async def run(self) -> None:
        """Go on until told otherwise, and until all is delivered."""
        first = self._deliveries.received
        answers = []
        try:
            while self.is_running:
                self.calls += 1
                answers.append(self._caller.start("blast", self._task))
                await self._deliveries.wait_for(first + (self.calls - 1) * self._each, _STALLED_S)
                turn, self._turn = self._turn, asyncio.get_running_loop().create_future()
                turn.set_result(None)
            await self._deliveries.wait_for(first + self.calls * self._each, _STALLED_S)
            await asyncio.wait_for(asyncio.gather(*answers), _STALLED_S)
        except Unexpected as error:
            self._turn.set_exception(error)
            raise

    async def window(self, pid: int) -> tuple[int, Used]:
        """Wait until all of a call is delivered; returns how much that is by now, and all clocks."""
        await asyncio.shield(self._turn)
        return self._deliveries.received, Used.now(pid)


async def broadcast(server: Serving, extent: Extent) -> AsyncIterator[tuple[str, Figures]]:
    """Measure broadcasts of all kinds."""
    crowd = await Crowd.gather(server, [_rooms_of(number) for number in range(_MEMBERS)])
    for blast in _BLASTS:
        if extent.is_full or blast.is_quick:
            yield blast.name, await crowd.measure(blast, extent.seconds)
    crowd.close()
