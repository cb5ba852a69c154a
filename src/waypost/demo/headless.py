"""Plays the demo's story in the terminal with real processes and connections, and prints a verdict.

Service and shop are processes of their own. The driver's connection leads through a tunnel, which cuts it without a
CLOSE packet. SIGKILL ends the service twice, each time while the shop awaits an answer: first with the driver
offline, then with the driver online. The shop sends parcels all the time.

On a database two servers are the service. Each connection goes to the next one of them, and nothing keeps a client
at one server.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from waypost.demo.driver import Driver, Waited
from waypost.demo.interruption import on_stop_signal
from waypost.demo.ledger import Ledger, Verdict
from waypost.demo.settings import Settings
from waypost.demo.shop_process import ShopProcess
from waypost.demo.supervisor import Supervisor
from waypost.demo.terminal import Terminal, duration
from waypost.demo.tunnel import Tunnel

__all__ = ["play_headless"]

_DRIVER = "7"
_SHOP_EVERY_S = 0.08
_CALL_S = 0.006
_STORY_LIMIT_S = 45.0
# A killed server is dead for the other one only after some seconds, twice.
_STORY_LIMIT_OF_TWO_S = 150.0
_PARCELS_PER_LINE = 5
_STOPPED = 130


def play_headless(settings: Settings) -> int:
    """Play the story. It takes about five seconds, and twenty on two servers.

    Args:
        settings: The demo's settings.

    Returns:
        The exit code: 0 only if every parcel arrived once and in order, through the queue and on the board; 130
        after Ctrl-C.

    Raises:
        ServiceUnavailable: The service did not start.
    """
    with settings.place() as directory:
        return asyncio.run(_play(settings, directory, Terminal(sys.stdout)))


async def _play(settings: Settings, directory: Path, terminal: Terminal) -> int:
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    ledger = Ledger()
    failures: list[str] = []
    signals: list[None] = []
    limit_s = _STORY_LIMIT_S if settings.store is None else _STORY_LIMIT_OF_TWO_S

    def stop() -> None:
        signals.append(None)
        task.cancel()

    terminal.note("Waypost: a parcel service, and nothing gets lost\n", "bold")
    with on_stop_signal(stop):
        try:
            async with asyncio.timeout(limit_s):
                await _with_cast(settings, directory, terminal, ledger)
        except TimeoutError:
            failures.append(f"the story did not end within {limit_s:.0f} s")
        except asyncio.CancelledError:
            if not signals:
                raise
            terminal.note("\nStopped before its end; there is no verdict.", "bold")
            return _STOPPED
        except _StoryFailed as error:
            failures.append(str(error))
    return _conclude(terminal, ledger, failures)


async def _with_cast(settings: Settings, directory: Path, terminal: Terminal, ledger: Ledger) -> None:
    changed = asyncio.Event()
    killed: set[int] = set()
    names = ["server"] if settings.store is None else ["server 1", "server 2"]
    async with AsyncExitStack() as stack:
        # One after the other: the first one prepares the database.
        supervisors = [
            await stack.enter_async_context(_supervisor(settings, directory, terminal, name)) for name in names
        ]
        ports = [one.port for one in supervisors]
        tunnel = await stack.enter_async_context(Tunnel(*ports))
        shop_url = supervisors[0].url
        if len(ports) > 1:
            shop_url = (await stack.enter_async_context(Tunnel(*ports))).url
        await _Story(
            terminal=terminal,
            ledger=ledger,
            changed=changed,
            supervisors=supervisors,
            killed=killed,
            tunnel=tunnel,
            driver=Driver(tunnel.url, _DRIVER, ledger, killed, changed.set),
            shop=ShopProcess(shop_url, _DRIVER, _SHOP_EVERY_S, ledger, changed.set),
        ).play()


def _supervisor(settings: Settings, directory: Path, terminal: Terminal, name: str) -> Supervisor:
    def started(run: int, pid: int, outage_s: float) -> None:
        ago = f" {duration(outage_s)} later" if run else ""
        terminal.tell(name, f"process {pid} takes connections{ago}")

    def died(code: int) -> None:
        terminal.tell(name, "kill -9: the process is gone" if code == -signal.SIGKILL else f"died with {code}")

    return Supervisor(
        directory,
        # The other server of two takes a free one.
        port=0 if name.endswith("2") else settings.port or 0,
        log_level=settings.log_level,
        on_start=started,
        on_death=died,
        store=settings.store,
    )


class _StoryFailed(Exception):
    """The story took another course; the text tells which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Story:
    """The cast, and the acts of the story in order. ``changed`` is set whenever a state may have changed."""

    terminal: Terminal
    ledger: Ledger
    changed: asyncio.Event
    supervisors: Sequence[Supervisor]
    killed: set[int]
    tunnel: Tunnel
    driver: Driver
    shop: ShopProcess
    restarts: dict[Supervisor, int] = field(default_factory=dict)

    async def play(self) -> None:
        """Play the whole story and report it.

        Raises:
            _StoryFailed: The story took another course.
        """
        await self.driver.connect()
        self._tell("driver", "is online; its connection leads through a tunnel that can be cut")
        async with self.shop:
            await self._sell_live()
            await self._drive_into_tunnel()
            await self._kill_while_away()
            await self._come_back()
            await self._kill_while_online()
            await self._close_shop()
        await self._until(lambda: self.ledger.complete)
        await self.driver.disconnect()
        await self._stop_service()

    async def _sell_live(self) -> None:
        self._tell("shop", f"process {self.shop.pid} sends a parcel every {duration(_SHOP_EVERY_S)}")
        await self._accepted(10)
        await self._until(lambda: self.ledger.complete)
        longest_s = max(parcel.waited_s for parcel in self.driver.waited)
        self._tell("driver", f"has {len(self.driver.waited)} parcels; none waited longer than {duration(longest_s)}")

    async def _drive_into_tunnel(self) -> None:
        self.tunnel.cut()
        await self._until(lambda: not self.driver.connected)
        self._tell("driver", "is in the tunnel: connection reset, no goodbye")
        await self._accepted(8)

    async def _kill_while_away(self) -> None:
        # The one that has the shop, if there are two: its connection was the first to be given to one of them.
        await self._kill(self.supervisors[-1])
        await self._accepted(8)

    async def _come_back(self) -> None:
        already = len(self.driver.waited)
        self.tunnel.open()
        await self._reconnected(connections=2)
        await self._until(lambda: self.ledger.complete)
        waited = [parcel for parcel in self.driver.waited[already:] if parcel.waited_s > _SHOP_EVERY_S]
        survivors = sum(parcel.survived_kill for parcel in waited)
        self._tell(
            "driver", f"{len(waited)} parcels had waited; {survivors} (*) were in the care of the killed process"
        )
        for line in _table(waited):
            self.terminal.note(line, "dim")

    async def _kill_while_online(self) -> None:
        await self._accepted(6)
        await self._until(lambda: any(one.pid == self.driver.server_pid for one in self.supervisors))
        await self._kill(next(one for one in self.supervisors if one.pid == self.driver.server_pid))
        await self._reconnected(connections=3)
        await self._accepted(8)

    async def _close_shop(self) -> None:
        code = await self.shop.close()
        again = len(self.ledger.asked) - len(self.ledger.accepted)
        self._tell("shop", f"closes; {len(self.ledger.accepted)} parcels were accepted, {again} asked for again")
        if code:
            raise _StoryFailed(f"the shop's process ended with {code}")

    async def _stop_service(self) -> None:
        for supervisor in self.supervisors:
            code = await supervisor.stop()
            self._tell("server", f"was asked to stop, and ended with {code}")
            if code:
                raise _StoryFailed(f"the service ended with {code} when it was asked to stop")

    async def _kill(self, supervisor: Supervisor) -> None:
        """Kill a server while the shop awaits an answer, and wait until it is back."""
        await self._until(lambda: len(self.ledger.accepted) < len(self._parcels_asked_for()))
        # A random point of the call: before the queue has the parcel, the board has it, or the shop has its answer.
        await asyncio.sleep(random.uniform(0, _CALL_S))
        self.killed.add(supervisor.kill())
        self.restarts[supervisor] = self.restarts.get(supervisor, 0) + 1
        await supervisor.listening(self.restarts[supervisor])

    async def _reconnected(self, *, connections: int) -> None:
        await self._until(lambda: self.driver.connections >= connections)
        self._tell("driver", f"is online again; recovered: {self.driver.recovered}")
        if not self.driver.recovered:
            raise _StoryFailed("the driver's connection did not recover")

    async def _accepted(self, more: int) -> None:
        """Wait until the service has accepted this many more parcels."""
        goal = len(self.ledger.accepted) + more
        await self._until(lambda: len(self.ledger.accepted) >= goal)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self.shop.failed:
                raise _StoryFailed("the shop's process died; its reason stands above")
            self.changed.clear()
            await self.changed.wait()

    def _parcels_asked_for(self) -> set[str]:
        return {one.parcel_id for one in self.ledger.asked}

    def _tell(self, who: str, text: str) -> None:
        self.terminal.tell(who, text)


def _conclude(terminal: Terminal, ledger: Ledger, failures: Sequence[str]) -> int:
    queue, board = ledger.queue(), ledger.board()
    terminal.note()
    terminal.note("          promised  arrived  missing  doubled  out of order", "dim")
    terminal.note(f"{_row(queue)}   {ledger.redelivered} delivered again and recognised by id")
    unpromised = board.arrived - (board.promised - len(board.missing))
    terminal.note(f"{_row(board)}   {unpromised} more from attempts that got no answer")
    terminal.note()
    faults = [*failures, *queue.faults, *board.faults]
    for fault in faults:
        terminal.note(f"  {fault}", "bad")
    if not faults:
        terminal.note("Every parcel arrived once and in order, through the queue and on the board.", "good")
    return 1 if faults else 0


def _row(verdict: Verdict) -> str:
    faults = f"{len(verdict.missing):>7}  {len(verdict.doubled):>7}  {len(verdict.misplaced):>12}"
    return f"  {verdict.way:<6}  {verdict.promised:>8}  {verdict.arrived:>7}  {faults}"


def _table(waited: Sequence[Waited]) -> list[str]:
    cells = [f"{one.parcel_id} {duration(one.waited_s):>6}{'*' if one.survived_kill else ' '}" for one in waited]
    lines = [cells[at : at + _PARCELS_PER_LINE] for at in range(0, len(cells), _PARCELS_PER_LINE)]
    return [f"                    {'   '.join(line)}" for line in lines]
