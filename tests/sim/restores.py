"""Histories of a store's real file: kills, stops, backups, and older copies that are put back in each way there is.

Time is real here, and so is the file. A kill is a copy of the folder at that moment, with which another server goes
on. A client that is told that it has recovered must be shown all that was emitted since its session began; a client
that has lost nothing must recover.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import waypost
from tests.server.model_client import ModelClient, hub_of
from waypost.storage.sqlite.copies import back_up, check, restore

__all__ = ["run_restores"]

_CLIENTS = 3
_PATIENCE_S = 10.0
_STEPS = {"emit": 8, "cut": 4, "connect": 4, "kill": 3, "stop": 2, "back_up": 3, "put_back": 3, "lose_log": 1}
_BACK_UPS = ("command", "files")
# What is done with what lies beside the file when a copy is put back.
_PUT_BACKS = ("command", "log removed", "log left", "log and notes removed")


class _Wrong(Exception):
    """Something that must never happen."""


@dataclass
class _Session:
    """A client, and what it must have been shown since its session began.

    Attributes:
        client: The client.
        meant: What was emitted since.
        before: How many events it had been shown until then.
        may_be_doubted: Whether the file was put back, or came without its notes, since it was connected last.
    """

    client: ModelClient
    meant: list[int] = field(default_factory=list)
    before: int = 0
    may_be_doubted: bool = False

    @property
    def shown(self) -> list[int]:
        return [event[1] for event in self.client.events[self.before :]]


@dataclass(frozen=True)
class _Copy:
    folder: Path
    is_from_command: bool


class _World:
    def __init__(self, seed: int, folder: Path) -> None:
        self.steps: list[str] = []
        self._chance = Random(f"{seed}/restores")
        self._folder = folder
        self._lives = 0
        self._emitted = 0
        self._copies: list[_Copy] = []
        self._server = self._make(self._path)

    @property
    def _path(self) -> Path:
        return self._folder / f"life-{self._lives}" / "store.db"

    def _make(self, path: Path) -> waypost.Server:
        path.parent.mkdir(exist_ok=True)
        return waypost.Server(store=str(path), drain_s=0.0)

    async def run(self) -> None:
        await self._server.start()
        self.sessions = [_Session(ModelClient(self._server)) for _ in range(_CLIENTS)]
        for session in self.sessions:
            await self._connect(session)
        try:
            for kind in self._chance.choices(list(_STEPS), list(_STEPS.values()), k=self._chance.randint(5, 25)):
                self.steps.append(kind)
                await getattr(self, kind)()
            for session in self.sessions:
                await self._connect(session)
            await self.emit()
            self.steps.append("the end")
        finally:
            await self._server.close()
        if problems := check(self._path, lambda _done, _all: None):
            raise _Wrong(f"the file is damaged: {problems}")

    # -- what happens ----------------------------------------------------------------------------------------

    async def emit(self) -> None:
        for _ in range(self._chance.randint(1, 4)):
            self._emitted += 1
            await self._server.emit("tick", self._emitted)
            for session in self.sessions:
                session.meant.append(self._emitted)
        for session in self.sessions:
            if session.client.connected:
                await self._expect_all(session)

    async def cut(self) -> None:
        session = self._chance.choice(self.sessions)
        if session.client.connected:
            await session.client.cut()

    async def connect(self) -> None:
        await self._connect(self._chance.choice(self.sessions))

    async def _connect(self, session: _Session) -> None:
        client = session.client
        if client.connected:
            return
        had_session = client.pid is not None
        await client.connect()
        if client.refusal is not None:
            raise _Wrong(f"a client was refused: {client.refusal}")
        if client.recovered:
            await self._expect_all(session)
        elif had_session and not session.may_be_doubted:
            raise _Wrong(f"a client that lost nothing had to start anew: {client.answer}")
        else:
            session.meant, session.before = [], len(client.events)
        session.may_be_doubted = False

    async def _expect_all(self, session: _Session) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while len(session.shown) < len(session.meant):
                    await asyncio.sleep(0.001)
        except TimeoutError:
            pass
        if session.shown != session.meant:
            told = "recovered" if session.client.recovered else "connected"
            raise _Wrong(f"a client is {told}, and was shown {session.shown} of {session.meant}")

    # -- the server's lives, and its file --------------------------------------------------------------------

    async def kill(self) -> None:
        before = self._leave()
        _copy(before, self._path.parent)
        await self._server.close()
        await self._begin()

    async def stop(self) -> None:
        await self._server.close()
        before = self._leave()
        _copy(before, self._path.parent)
        await self._begin()

    def _leave(self) -> Path:
        before = self._path.parent
        self._lives += 1
        self._path.parent.mkdir()
        return before

    async def _begin(self) -> None:
        for session in self.sessions:
            if session.client.connected:
                await session.client.cut()
        self._server = self._make(self._path)
        await self._server.start()
        for session in self.sessions:
            session.client.hub = hub_of(self._server)

    async def lose_log(self) -> None:
        """Kill the server, and lose the log beside its file, with what was not in the file yet."""
        before = self._leave()
        _copy(before, self._path.parent)
        await self._server.close()
        self._path.with_name("store.db-wal").unlink(missing_ok=True)
        self._doubt()
        await self._begin()

    def _doubt(self) -> None:
        for session in self.sessions:
            session.may_be_doubted = True

    async def back_up(self) -> None:
        kind = self._chance.choice(_BACK_UPS)
        copy = _Copy(self._folder / f"copy-{len(self._copies)}", kind == "command")
        copy.folder.mkdir()
        self.steps.append(kind)
        if copy.is_from_command:
            await asyncio.to_thread(back_up, self._path, copy.folder / "store.db", lambda _done, _all: None)
        else:
            for name in ("store.db", "store.db-wal"):
                shutil.copy2(self._path.parent / name, copy.folder / name)
        self._copies.append(copy)

    async def put_back(self) -> None:
        """Kill or stop the server, put a copy back, and go on with it."""
        if not self._copies:
            return
        copy, how = self._chance.choice(self._copies), self._chance.choice(_PUT_BACKS)
        self.steps.append(f"{how}, {copy}")
        if self._chance.random() < 0.5:
            await self._server.close()
        before = self._leave()
        _copy(before, self._path.parent)
        await self._server.close()
        _put_back(self._path, copy, how)
        self._doubt()
        await self._begin()


def _copy(source: Path, target: Path) -> None:
    """Copy a store's files as they are now; the notes first, as a kill may come before they are written."""
    for file in sorted(source.glob("store.db*"), key=lambda file: not file.name.endswith("-owner")):
        if not file.name.endswith("-shm"):
            shutil.copy2(file, target / file.name)


def _put_back(path: Path, copy: _Copy, how: str) -> None:
    file = copy.folder / "store.db"
    if how == "command" and copy.is_from_command:
        restore(path, file, lambda _done, _all: None)
        return
    path.unlink()
    log = path.with_name("store.db-wal")
    if how != "log left":
        log.unlink(missing_ok=True)
    if how == "log and notes removed":
        path.with_name("store.db-owner").unlink(missing_ok=True)
    for name in ("store.db", "store.db-wal"):
        if (copy.folder / name).exists():
            shutil.copy2(copy.folder / name, path.with_name(name))


def run_restores(seed: int, folder: Path) -> list[str]:
    """Run the history of a seed in an empty folder; returns what was wrong, after all that was done."""
    world = _World(seed, folder)
    try:
        asyncio.run(world.run())
    except (_Wrong, waypost.WaypostError) as problem:
        return [*world.steps, f"seed {seed}: {problem!r}"]
    return []
