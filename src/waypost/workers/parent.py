"""The parent of several workers: it has the store and the listening sockets, and runs no code of the application.

It starts the workers, starts those anew that die, replaces all at SIGHUP, and lets all end at SIGTERM. The first
worker imports the application, and opens the store by its options; so a mistake in either ends the command, once.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from waypost import __version__
from waypost.logs import fields, get_logger
from waypost.retrying import Backoff, RetryPolicy
from waypost.serving.sides import Part
from waypost.storage.host.host import StoreHost
from waypost.transports.uvicorn_runner import calm_garbage_collection
from waypost.workers.adoption import Adoption
from waypost.workers.channel import Channel
from waypost.workers.emitter_socket import emitter_socket
from waypost.workers.front_desk import FrontDesk
from waypost.workers.messages import (
    BEAT_EVERY_S,
    REPORTS,
    Beat,
    Hello,
    Listen,
    OpenLink,
    Peer,
    PeerGone,
    PeerLeaving,
    Report,
    Started,
)
from waypost.workers.plan import Plan
from waypost.workers.process import describe_end, start_process
from waypost.workers.settings import WorkerSettings
from waypost.workers.waits import Step, all_ended, first_that_failed, kill_the_stuck, listening_of, start_of
from waypost.workers.worker import Worker

__all__ = ["serve_with_workers"]

logger = get_logger("waypost.workers")

_RESTARTS = RetryPolicy(first_s=0.1, longest_s=30.0, jitter=0.1)
_STABLE_S = 1.0
"""A worker that has served for so long was not wrong from the start; the next one follows at once."""
_LONGEST_GAP_S = 1.0
"""The longest pause before a worker is started while no other one serves."""
_STUCK_S = 5.0
"""A worker whose event loop stands still for so long does not accept its clients; others do that."""
_FORCED_S = 2.0
_FAILED = 1

_T = TypeVar("_T")
Sides: TypeAlias = Mapping[tuple[Part, ...], Sequence[socket.socket]]


def serve_with_workers(plan: Plan, listeners: list[list[socket.socket]], sides: Sides) -> int:
    """Serve with several workers until SIGTERM or SIGINT. Blocks. A second signal stops without waiting.

    Args:
        plan: What they serve.
        listeners: The sockets of each worker, from `bind_for_workers`; they are closed at the end.
        sides: What is answered on addresses beside the service, and their bound sockets, which are closed at the end.

    Returns:
        The exit code: 0 after a graceful stop, 128 + the signal's number after a forced one; that of a worker which
        ended before the first start was complete.
    """
    calm_garbage_collection()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_Parent(plan, listeners, sides).run())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not every Python has it
        return None
    return uvloop.new_event_loop


class _Parent:
    def __init__(self, plan: Plan, listeners: list[list[socket.socket]], sides: Sides) -> None:
        self._plan = plan
        self._sides = sides
        self._listeners = listeners
        self._host = StoreHost()
        self._last_number = 0
        self._living: dict[int, Worker] = {}
        self._serving: list[Worker] = []
        self._adoption = Adoption(listeners)
        self._desk = FrontDesk(self._is_alive, self._is_ready, lambda: self._serving)
        # Whether workers that have started may accept clients, and whether all have once done so.
        self._may_listen = self._is_complete = False
        self._stop_asked = asyncio.Event()
        self._force_asked = asyncio.Event()
        self._reload_asked = asyncio.Event()
        self._code = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._had_terminal = os.isatty(2)
        # Workers have the one end, and learn of this process' end by the other, however it comes.
        self._lifeline, self._held = os.pipe()

    async def run(self) -> int:
        self._take_signals()
        try:
            async with self._desk.open(self._sides), emitter_socket(self._plan.emitter_socket, self._host):
                return await self._serve()
        finally:
            await self._clean_up()

    async def _serve(self) -> int:
        code = await self._start()
        if code is None:
            self._is_complete = True
            self._announce()
            for slot in range(len(self._serving)):
                self._keep_task(self._replace_the_dead(slot))
            self._keep_task(self._reload_when_asked())
            if self._plan.code is not None:
                self._keep_task(self._ask_when_changed(self._plan.code()))
            self._keep_task(self._look_for_the_stuck())
            await self._stop_asked.wait()
            code = 0
        return await self._finish(code)

    # -- signals --------------------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, self._ask_to_stop, one)
        loop.add_signal_handler(signal.SIGHUP, self._ask_to_reload)

    def _ask_to_stop(self, one: signal.Signals) -> None:
        if self._stop_asked.is_set():
            logger.warning("%s again: stopping without waiting", one.name)
            self._code = 128 + one
            self._force_asked.set()
        self._stop_asked.set()

    def _ask_to_reload(self) -> None:
        if self._had_terminal and not os.isatty(2):
            # The terminal was closed, which sends the same signal.
            self._stop_asked.set()
        else:
            logger.info("SIGHUP: all workers are replaced")
            self._reload_asked.set()

    # -- starting -------------------------------------------------------------------------------------------

    async def _start(self) -> int | None:
        """Start all workers, the first one before the others.

        None accepts clients before all have started. Those of a service that was killed come back at once, and the
        first worker would keep them all.

        Returns:
            ``None`` if all accept clients; otherwise the exit code with which to end.
        """
        slots = range(len(self._listeners))
        for some in (slots[:1], slots[1:]):
            launched = self._launch_all(some)
            if launched is None:
                return _FAILED
            self._serving += launched
            code = await self._why_not_all(some, start_of)
            if code is not None:
                return code
        self._may_listen = True
        for one in self._serving:
            if one.is_known:
                one.send(Listen())
        return await self._why_not_all(slots, listening_of)

    async def _why_not_all(self, slots: Iterable[int], step: Step) -> int | None:
        """Wait until the workers of slots have come to a step. Those that somebody kills are started anew.

        Returns:
            ``None`` if all have; otherwise the exit code with which to end, as one has ended, or a stop was asked.
        """
        backoff = Backoff(_RESTARTS)
        while True:
            failed = await self._unless_stopped(first_that_failed([self._serving[slot] for slot in slots], step))
            if failed is None:
                return 0 if self._stop_asked.is_set() else None
            code = await failed.ended
            if code != -signal.SIGKILL:
                logger.error(
                    "%s %s before it accepted clients", failed, describe_end(code), extra=fields(worker=failed.number)
                )
                return 128 - code if code < 0 else code or _FAILED
            pause_s = backoff.next_s(random.random())
            logger.error(
                "%s %s; another one is started in %.1f s",
                failed,
                describe_end(code),
                pause_s,
                extra=fields(worker=failed.number, seconds=pause_s),
            )
            await self._unless_stopped(asyncio.sleep(pause_s))
            if self._stop_asked.is_set():
                return 0
            launched = self._launch_all([self._serving.index(failed)])
            if launched is None:
                return _FAILED
            self._serving[self._serving.index(failed)] = launched[0]

    async def _unless_stopped(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """Await something; returns ``None`` before it is done if a stop was asked for."""
        done = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._stop_asked.wait())
        await asyncio.wait((done, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if done.done():
            return done.result()
        done.cancel()
        return None

    def _announce(self) -> None:
        said = self._serving[0].listening.result()
        if said is not None:
            self._plan.announce(said.address, said.store, [one.pid for one in self._serving])

    def _launch_all(self, slots: Iterable[int]) -> list[Worker] | None:
        """Start a worker for each slot; returns ``None`` if the system has no room for one, and none is left."""
        started: list[Worker] = []
        try:
            for slot in slots:
                started.append(self._launch(slot))
        except OSError as error:
            logger.error("no worker can be started: %s", error)
            self._end(started)
            return None
        return started

    def _launch(self, slot: int) -> Worker:
        self._last_number += 1
        number = self._last_number
        settings = WorkerSettings(
            application=self._plan.application,
            number=number,
            words=self._plan.words,
            arguments=sys.argv,
        )
        process, sock = start_process(settings, self._listeners[slot], self._lifeline)
        channel: Channel[Report] = Channel(sock, REPORTS)
        worker = self._living[number] = Worker(number, process, channel)
        channel.start(lambda report, passed: self._take(worker, report, passed), lambda: None)
        worker.ended.add_done_callback(lambda ended: self._note_end(worker))
        return worker

    # -- what workers tell ----------------------------------------------------------------------------------

    def _take(self, worker: Worker, report: Report, passed: socket.socket | None) -> None:
        if isinstance(report, Hello):
            if report.version != __version__:
                logger.error(
                    "%s is Waypost %s, and its parent is %s: stop the command, and start it anew",
                    *(worker, report.version, __version__),
                    extra=fields(worker=worker.number),
                )
                worker.kill()
        elif isinstance(report, OpenLink):
            if passed is not None:
                self._keep_task(worker.attach(self._host, passed))
        elif isinstance(report, Started):
            self._introduce(worker)
            if self._may_listen:
                worker.send(Listen())
        elif isinstance(report, Beat):
            if worker.note_beat(is_ready=report.is_ready):
                logger.warning("%s: its event loop runs again", worker, extra=fields(worker=worker.number))
                self._let_adopt()
        else:
            worker.note_listening(report)
            self._let_adopt()

    def _introduce(self, worker: Worker) -> None:
        """Let a new worker and all others know each other, before it accepts clients."""
        for other in self._living.values():
            if other.is_known:
                one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
                other.send(Peer(worker.number), one)
                worker.send(Peer(other.number), two)
                if other.is_leaving:
                    worker.send(PeerLeaving(other.number))
        worker.note_started()

    def _note_end(self, worker: Worker) -> None:
        del self._living[worker.number]
        worker.note_end()
        for other in self._living.values():
            if worker.is_known and other.is_known:
                other.send(PeerGone(worker.number))
        self._let_adopt()

    def _let_adopt(self) -> None:
        """Let others accept the clients of workers that are not there, and would wait for them."""
        if self._is_complete and not self._stop_asked.is_set():
            self._adoption.review(self._serving)

    # -- what probes are told -------------------------------------------------------------------------------

    def _is_alive(self) -> bool:
        """Return whether the event loop of any worker turns, or none has begun to serve."""
        return not self._is_complete or not all(one.is_stuck for one in self._serving)

    def _is_ready(self) -> bool:
        """Return whether any worker serves new clients as it should."""
        is_serving = self._is_complete and not self._stop_asked.is_set()
        return is_serving and any(one.serves and one.is_ready for one in self._serving)

    # -- while they serve -----------------------------------------------------------------------------------

    async def _replace_the_dead(self, slot: int) -> None:
        """Start a worker anew whenever the one of a slot has died."""
        backoff = Backoff(_RESTARTS)
        while True:
            worker = self._serving[slot]
            code = await asyncio.shield(worker.ended)
            if self._serving[slot] is not worker:
                continue
            if worker.served_s >= _STABLE_S:
                backoff.reset()
            pause_s = backoff.next_s(random.random())
            if not any(one.serves for one in self._serving):
                pause_s = min(pause_s, _LONGEST_GAP_S)
            logger.error(
                "%s %s; another one is started in %.1f s",
                worker,
                describe_end(code),
                pause_s,
                extra=fields(worker=worker.number, seconds=pause_s),
            )
            await asyncio.sleep(pause_s)
            if self._serving[slot] is worker:
                try:
                    self._serving[slot] = self._launch(slot)
                except OSError as error:
                    logger.error("no worker can be started: %s", error)

    async def _look_for_the_stuck(self) -> None:
        """Let others accept the clients of workers whose event loops stand still."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(BEAT_EVERY_S)
            self._host.beat()
            if loop.time() - began > 2 * BEAT_EVERY_S:
                # This process itself was held up, and has not read yet what came meanwhile.
                continue
            for one in list(self._living.values()):
                if one.has_got_stuck(_STUCK_S):
                    logger.error(
                        "%s: its event loop has stood still for %.0f s; others accept new clients",
                        one,
                        _STUCK_S,
                        extra=fields(worker=one.number, seconds=_STUCK_S),
                    )
                    self._host.free_consumers(one.node)
                    self._let_adopt()

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload_asked.wait()
            self._reload_asked.clear()
            await self._reload()

    async def _ask_when_changed(self, changes: AsyncIterator[Path]) -> None:
        async for path in changes:
            logger.info("%s has changed", path)
            self._reload_asked.set()

    async def _reload(self) -> None:
        """Replace all workers by new ones with the code of now; if that fails, the old ones go on."""
        logger.info("starting new workers")
        started = self._launch_all(range(len(self._serving)))
        if started is None:
            return
        failed = await first_that_failed(started, listening_of)
        if failed is not None:
            end = describe_end(await failed.ended)
            logger.error(
                "not reloaded: %s %s before it accepted clients; the old ones go on",
                failed,
                end,
                extra=fields(worker=failed.number),
            )
            self._end(started)
            return
        old, self._serving = self._serving, started
        logger.info("reloaded: %s; the old ones end", ", ".join(map(str, started)), extra=fields(count=len(started)))
        self._drain([one for one in old if not one.ended.done()])
        self._let_adopt()

    def _drain(self, workers: Collection[Worker]) -> None:
        for one in workers:
            for other in self._living.values():
                if other is not one and other.is_known:
                    other.send(PeerLeaving(one.number))
        for one in workers:
            one.drain()

    def _end(self, workers: Collection[Worker]) -> None:
        """Let new workers end that are not to serve; one that is still importing the application hears nothing."""
        for one in workers:
            if one.serves:
                one.end(_FAILED)
            else:
                one.kill()

    # -- the end --------------------------------------------------------------------------------------------

    async def _finish(self, code: int) -> int:
        """Let all workers end, gracefully if that was asked for; returns the exit code."""
        self._cancel_tasks()
        self._close_listeners()
        living = list(self._living.values())
        for one in living:
            if not one.listening.done():
                one.kill()
        if self._stop_asked.is_set():
            self._drain(living)
            self._keep_task(kill_the_stuck(living))
            force = asyncio.ensure_future(self._force_asked.wait())
            done = asyncio.ensure_future(all_ended(living))
            await asyncio.wait((force, done), return_when=asyncio.FIRST_COMPLETED)
            force.cancel()
            done.cancel()
        living = list(self._living.values())
        for one in living:
            one.end(self._code or code)
        await all_ended(living, _FORCED_S)
        return self._code or code

    async def _clean_up(self) -> None:
        self._cancel_tasks()
        self._close_listeners()
        living = list(self._living.values())
        for one in living:
            one.kill()
        await all_ended(living)
        await self._host.close()
        os.close(self._lifeline)
        os.close(self._held)

    def _close_listeners(self) -> None:
        for one in (each for listeners in self._listeners for each in listeners):
            one.close()

    def _keep_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
