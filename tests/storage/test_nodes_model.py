"""A session that goes from node to node at random, against a model: whose writes count, and who may attach it."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from tests.storage.backends import ignore
from tests.storage.followers import ENGINES, Cluster, Node, Rows, cluster, settled
from waypost.storage.following import ClaimVoid

KEY = b"key"
STEPS = 400


@dataclass
class Visit:
    """A node, and what is written at it."""

    node: Node
    rows: Rows


@dataclass
class Model:
    """What the contract says of the session.

    Attributes:
        home: The name of the home; ``None`` if it is dead.
        claimer: The name of the node that claimed it last, and has not attached it since.
        data: Its data.
    """

    home: str | None
    claimer: str | None = None
    data: bytes = b""
    handed: bytes | None = None
    alive: dict[str, Visit] = field(default_factory=dict)


class Walk:
    """Random steps, each awaited, with what is expected of each."""

    def __init__(self, many: Cluster, rng: random.Random) -> None:
        self._many = many
        self._rng = rng
        self._numbers = count()
        self._tasks: set[asyncio.Task[None]] = set()
        self.model = Model(None)

    async def add(self) -> Visit:
        node = await self._many.add(f"n{next(self._numbers)}")
        visit = Visit(node, await node.journal())
        visit.rows.claimed = lambda key: self._release(visit)  # type: ignore[method-assign]
        self.model.alive[node.name] = visit
        return visit

    def _release(self, visit: Visit) -> None:
        async def release() -> None:
            self.model.handed = visit.node.name.encode()
            await visit.rows.journal.release_session(KEY, visit.node.name.encode())

        task = asyncio.get_running_loop().create_task(release())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def step(self) -> None:
        model, one = self.model, self._rng.choice([*self.model.alive.values()])
        journal, name = one.rows.journal, one.node.name
        match self._rng.choices(["claim", "attach", "save", "join", "kill"], [3, 3, 4, 2, 1])[0]:
            case "claim":
                handed = await journal.claim_session(KEY)
                model.claimer = name
                assert handed == (model.handed or b"")
            case "attach" if model.claimer == name or (model.claimer is None and model.home in (None, name)):
                assert await journal.attach_session(KEY, ignore) is not None
                model.home, model.claimer, model.handed = name, None, None
            case "attach":
                with pytest.raises(ClaimVoid):
                    await journal.attach_session(KEY, ignore)
            case "save":
                data = b"%d" % self._rng.randrange(1000)
                await journal.save_session(KEY, data)
                model.data = data if model.home in (None, name) else model.data
            case "join":
                told: list[int] = []
                await journal.join(KEY, [str(self._rng.randrange(9))], told.append)
                assert told == [journal.top]
            case _ if len(model.alive) > 2:
                await self._kill(one)
        await self._check()

    async def _kill(self, one: Visit) -> None:
        model, name = self.model, one.node.name
        one.node.kill()
        del model.alive[name]
        others = [*model.alive.values()]
        await settled(lambda: all(name not in other.node.nodes.others for other in others), "its death is told")
        if model.home == name:
            model.home = None
        if model.claimer == name:
            model.claimer = None
        if model.home is None and model.claimer is None:
            model.handed = None
        await self.add()

    async def _check(self) -> None:
        seen = await self._rng.choice([*self.model.alive.values()]).rows.journal.find_session(KEY)
        assert seen is not None
        assert seen.data == self.model.data
        attached = self.model.home is not None or self.model.claimer is not None
        assert (seen.expires_at is None) == attached


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_session_obeys_its_home_only(engine: str, tmp_path: Path, rng: random.Random) -> None:
    async with cluster(engine, tmp_path) as many:
        walk = Walk(many, rng)
        first = await walk.add()
        for _ in range(2):
            await walk.add()
        await first.rows.journal.open_session(KEY, "sid", b"", ignore)
        walk.model.home = first.node.name
        for _ in range(STEPS):
            await walk.step()
