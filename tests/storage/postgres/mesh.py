"""Several meshes in one event loop, without an engine: what they have applied is what a test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from waypost.storage.postgres.mesh.dialing import Person, Timings, parse_place
from waypost.storage.postgres.mesh.mesh import Mesh
from waypost.storage.postgres.mesh.outgoing import Limits
from waypost.storage.postgres.mesh.progress import Progress

__all__ = ["JOURNAL", "SECRET", "Knot", "knots"]

SECRET = b"the secret of all nodes"
JOURNAL = 7


class Knot:
    """One mesh.

    Attributes:
        mesh: The mesh.
        progress: What it has applied.
        got: The senders and contents of the messages on the topic ``"t"``.
        broken: The nodes to which messages were lost.
        writes: What waits for the writes that are under way; ``None`` if there are none.
        port: Its port.
    """

    def __init__(self, name: str, secret: bytes = SECRET, **options: Any) -> None:
        self.progress = Progress()
        self.got: list[tuple[str, bytes]] = []
        self.broken: list[str] = []
        self.writes: list[Callable[[], None]] | None = None
        self.mesh = Mesh("the test's", Person(name, secret), self.progress, self._after_writes, **options)
        self.mesh.broken = self.broken.append
        self.mesh.listen("t", lambda sender, content: self.got.append((sender, content)))
        self.address = ""

    @property
    def name(self) -> str:
        """The node's name."""
        return self.mesh.me.name

    @property
    def port(self) -> int:
        """Where it listens."""
        return parse_place(self.address)[1]

    async def start(self) -> None:
        """Listen."""
        self.address = await self.mesh.start("127.0.0.1")

    def know(self, other: Knot, address: str = "") -> None:
        """Learn of another node, and where it is reached."""
        self.mesh.came(other.name, address or other.address)

    def _after_writes(self, ready: Callable[[], None]) -> None:
        if self.writes is None:
            ready()
        else:
            self.writes.append(ready)


@asynccontextmanager
async def knots(
    *names: str, limits: Limits | None = None, timings: Timings | None = None, know: bool = True
) -> AsyncIterator[list[Knot]]:
    """Start some, which know each other."""
    made = [Knot(name, limits=limits, timings=timings) for name in names]
    try:
        for one in made:
            await one.start()
        for one in made if know else ():
            for other in made:
                one.know(other)
        yield made
    finally:
        for one in made:
            await one.mesh.close()
