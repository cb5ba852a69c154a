"""One worker process, as its parent knows it."""

from __future__ import annotations

import asyncio
import secrets
import socket
import subprocess
from contextlib import suppress

import msgspec

from waypost.storage.host.host import StoreHost
from waypost.storage.wire.socket_link import SocketLink, socket_link
from waypost.workers.channel import Channel
from waypost.workers.messages import Drain, End, Listening, Report
from waypost.workers.process import watch_end

__all__ = ["Worker"]


class Worker:
    """One worker process.

    Args:
        number: Its number, which no other one ever has.
        process: Its process, which was just started.
        channel: The channel to it.

    Attributes:
        number: Its number.
        pid: Its process id.
        channel: The channel to it.
        started: Done when its store is open; with ``False`` if it ended before.
        listening: Done when it accepts clients, with what it said then; with ``None`` if it ended before.
        ended: Done with its exit code, or minus the signal that ended it.
        node: The name of its last link to the store; ``""`` without one.
        is_known: Whether the other workers know it.
        is_leaving: Whether it was told to end.
        is_stuck: Whether its event loop has stood still for some seconds, and still does.
        is_ready: Whether its server was ready when it told so last.
    """

    def __init__(self, number: int, process: subprocess.Popen[bytes], channel: Channel[Report]) -> None:
        self.number = number
        self.pid = process.pid
        self.channel = channel
        self.started: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.listening: asyncio.Future[Listening | None] = asyncio.get_running_loop().create_future()
        self.ended = watch_end(process)
        self.node = ""
        self.is_known = False
        self.is_leaving = self.is_stuck = self.is_ready = False
        self._heard_at = 0.0
        self._process = process
        self._links: list[SocketLink] = []
        self._listens_since: float | None = None

    def __str__(self) -> str:
        return f"worker {self.number} (pid {self.pid})"

    @property
    def served_s(self) -> float:
        """For how long it has accepted clients, in seconds."""
        since = self._listens_since
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    @property
    def serves(self) -> bool:
        """Whether it accepts clients."""
        return self._listens_since is not None and not (self.is_leaving or self.is_stuck or self.ended.done())

    def note_beat(self, *, is_ready: bool) -> bool:
        """Note that its event loop runs, and whether its server is ready; returns whether it was stuck."""
        self.is_ready = is_ready
        was_stuck, self.is_stuck = self.is_stuck, False
        self._heard_at = asyncio.get_running_loop().time()
        return was_stuck

    @property
    def silent_s(self) -> float:
        """For how long its event loop has stood still, in seconds; 0 before it has begun to run."""
        return asyncio.get_running_loop().time() - self._heard_at if self._heard_at else 0.0

    def has_got_stuck(self, patience_s: float) -> bool:
        """Return whether it has accepted clients, and its event loop has stood still for ``patience_s`` now."""
        if not self.serves or self.silent_s < patience_s:
            return False
        self.is_stuck = True
        return True

    def note_started(self) -> None:
        """Note that its store is open, and that all other workers know it."""
        self.is_known = True
        if not self.started.done():
            self.started.set_result(True)

    def note_listening(self, report: Listening) -> None:
        """Note that it accepts clients."""
        self._listens_since = asyncio.get_running_loop().time()
        if not self.listening.done():
            self.listening.set_result(report)

    def note_end(self) -> None:
        """Note that its process has ended: its link to the store is cut, and its channel closed."""
        self.channel.close()
        for link in self._links:
            link.sever()
        if not self.started.done():
            self.started.set_result(False)
        if not self.listening.done():
            self.listening.set_result(None)

    async def attach(self, host: StoreHost, sock: socket.socket) -> None:
        """Let it use the store over a link."""
        link = await socket_link(sock)
        if self.ended.done():
            link.sever()
            return
        self._links.append(link)
        self.node = host.attach(link, f"{self.number}-{secrets.token_hex(4)}")

    def send(self, order: msgspec.Struct, passed: socket.socket | None = None) -> None:
        """Send it an order, with a socket if one goes with it."""
        self.channel.send(order, passed)

    def drain(self) -> None:
        """Let it stop accepting clients, and end gracefully."""
        self.is_leaving = True
        self.send(Drain())

    def end(self, code: int) -> None:
        """Let it end without waiting."""
        self.is_leaving = True
        self.send(End(code))

    def kill(self) -> None:
        """End it, whatever it does."""
        with suppress(ProcessLookupError):
            self._process.kill()
